//! Code that the project's tasks share: the eBPF toolchain, its linker, this
//! machine's packages, the workspace, and the build of the agent.
//!
//! It is a library so that the programs of `bench` and `vm`, which `cargo xtask`
//! starts, build the agent in the same way. It depends on neither of them nor on
//! the lab, so that `cargo xtask lint` starts quickly.

pub mod apt;
pub mod build;
pub mod command;
pub mod cross;
mod linker;
pub mod machine;
pub mod toolchain;
pub mod tools;
mod version;
pub mod workspace;

use std::process::ExitCode;

/// Prints an error and its causes, and returns the exit code for the shell.
///
/// It does not leave this to anyhow, which would bury the advice in stack frames
/// under `RUST_BACKTRACE`.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("caused by: {cause}");
    }
    ExitCode::FAILURE
}
