//! Verbs that another program of the workspace runs.
//!
//! The demo, the benchmarks and the virtual machines need the lab, which takes a
//! while to compile. The other verbs need not wait for it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};
use xtask::machine::Machine;
use xtask::workspace::Workspace;

/// The arguments after the verb, which the other program parses.
#[derive(clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds the program of `package` and replaces this process by it, with the
/// verb and the arguments after it.
///
/// Because the process is replaced, Ctrl-C reaches only that program, and the
/// prompt comes back once it has cleaned up.
pub fn to(package: &str, verb: &str, machine: &Machine, args: &Args) -> Result<()> {
    let mut cargo = Workspace::find()?.cargo();
    cargo
        .args(["run", "--release", "--locked", "--package", package, "--"])
        .args(machine.flag())
        .arg(verb)
        .args(&args.rest);
    let error = cargo.exec();
    Err(error).with_context(|| format!("cannot start cargo to run {package}"))
}
