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
    /// Install nothing: where something is missing, print the commands that
    /// would install it and fail
    #[arg(long, global = true)]
    no_install: bool,
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
    let cli = Cli::parse();
    let machine = Machine::new(!cli.no_install);
    xtask::report(match cli.verb {
        Verb::Demo(args) => demo::run(&machine, &args),
        Verb::Bench(args) => bench::run(&machine, &args),
    })
}
