//! Verbs that another program of the workspace carries out.
//!
//! The demo, the benchmarks and the virtual machines need the lab, which takes a
//! while to compile. The other verbs do not wait for it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};
use xtask::machine::Machine;
use xtask::workspace::Workspace;

/// What comes after the verb. The other program reads it.
#[derive(clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Becomes the program of `package`, which is built first, with the verb and what
/// came after it.
///
/// The process is replaced, so that Ctrl-C reaches that program alone, and the
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
