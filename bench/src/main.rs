//! `cargo xtask demo` and `cargo xtask bench`: show and measure the effect of
//! the agent, compared with the default scheduler on the same links.

mod bench;
mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::machine::Machine;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Shows and measures what mptcp-agent does"
)]
struct Cli {
    #[command(flatten)]
    machine: Machine,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show live what the agent does, beside the default scheduler
    Demo(demo::Args),
    /// Measure the agent beside the default scheduler on the same links
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let Cli { machine, verb } = Cli::parse();
    xtask::report(match verb {
        Verb::Demo(args) => demo::run(&machine, &args),
        Verb::Bench(args) => bench::run(&machine, &args),
    })
}
