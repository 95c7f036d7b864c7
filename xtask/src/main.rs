//! The project's tasks: `cargo xtask <verb>`.
//!
//! Each verb is one file. What several verbs share is one file a subject:
//! the eBPF toolchain, its linker, this machine's packages, the workspace.

mod bench;
mod build;
mod command;
mod demo;
mod fuzz;
mod linker;
mod lint;
mod machine;
mod test;
mod toolchain;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use machine::Machine;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures mptcp-agent")]
struct Cli {
    /// Install nothing: where something is missing, print the commands that
    /// would install it and fail
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build one self-contained agent, its eBPF object embedded
    Build,
    /// Build, then run the unit tests and (as root) the end-to-end tests
    Test(test::Args),
    /// Show live what the agent does, beside the default scheduler
    Demo(demo::Args),
    /// Measure the agent beside the default scheduler on the same links
    Bench(bench::Args),
    /// Feed the parsers of what comes from outside with noise, for a while
    Fuzz(fuzz::Args),
    /// Boot other kernels in virtual machines and check the agent there
    Vm(vm::Args),
    /// What such a machine runs
    #[command(hide = true, name = vm::guest::VERB)]
    VmGuest,
    /// Check the format and run clippy, in user space and for the eBPF target
    Lint,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let machine = Machine::new(!cli.no_install);
    let result = match cli.verb {
        Verb::Build => build::run(&machine),
        Verb::Test(args) => test::run(&machine, &args),
        Verb::Demo(args) => demo::run(&machine, &args),
        Verb::Bench(args) => bench::run(&machine, &args),
        Verb::Fuzz(args) => fuzz::run(&machine, &args),
        Verb::Vm(args) => vm::run(&machine, &args),
        Verb::VmGuest => vm::guest::run(),
        Verb::Lint => lint::run(&machine),
    };
    // By hand: under RUST_BACKTRACE anyhow would bury the advice in frames.
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("caused by: {cause}");
    }
    ExitCode::FAILURE
}
