//! `cargo xtask vm`: the agent on other kernels, in virtual machines.
//!
//! ```text
//!   platform    QEMU, board, console and time limits of x86-64 and of ARM
//!   programs    QEMU, kmod, ip: this machine's, or from Debian, unpacked
//!   archive     newest kernel of a series, from Debian, unpacked
//!   initramfs   agent + this program + ip, and their libraries  --> qemu: boots it
//!   guest       this same program as /init: traffic, agent, checks
//!   report      messages from the guest to the host, line by line, over the console
//! ```
//!
//! Nothing is installed, and root is not needed. The processor is emulated, so
//! this runs on any machine, and boots kernels for x86-64 and for ARM. Expect a
//! minute or two for each.

mod archive;
mod guest;
mod initramfs;
mod links;
mod platform;
mod programs;
mod qemu;
mod report;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::machine::Machine;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Checks mptcp-agent on other kernels"
)]
struct Cli {
    #[command(flatten)]
    machine: Machine,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot other kernels in virtual machines and check the agent there
    Vm(run::Args),
    /// Run the checks; the first process of such a machine does
    #[command(hide = true, name = guest::VERB)]
    Guest,
}

fn main() -> ExitCode {
    let Cli { machine, verb } = Cli::parse();
    xtask::report(match verb {
        Verb::Vm(args) => run::run(&machine, &args),
        Verb::Guest => guest::run(),
    })
}
