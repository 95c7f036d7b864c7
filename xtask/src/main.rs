//! The project's tasks: `cargo xtask <verb>`.
//!
//! Each verb is one file. The demo, the benchmarks and the virtual machines are
//! separate programs: see `hand_over`.

mod dashboard;
mod dependencies;
mod dist;
mod end_to_end;
mod fuzz;
mod hand_over;
mod lint;
mod rooms;
mod screenshots;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::build;
use xtask::machine::Machine;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures mptcp-agent")]
struct Cli {
    #[command(flatten)]
    machine: Machine,
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
    #[command(disable_help_flag = true)]
    Demo(hand_over::Args),
    /// Measure the agent beside the default scheduler on the same links
    #[command(disable_help_flag = true)]
    Bench(hand_over::Args),
    /// Fuzz the parsers of input from outside, for a while
    Fuzz(fuzz::Args),
    /// Boot other kernels in virtual machines and check the agent there
    #[command(disable_help_flag = true)]
    Vm(hand_over::Args),
    /// Build a Debian package, a static agent, checksums and a list of what is in them
    Dist(dist::Args),
    /// Make the pictures of the page in docs/images, from a live agent
    Screenshots,
    /// Write Grafana's dashboard anew from deploy/grafana/dashboard.toml
    Dashboard,
    /// Check the format, the rooms and the documentation, and run clippy, in user
    /// space and for the eBPF target
    Lint,
}

fn main() -> ExitCode {
    let Cli { machine, verb } = Cli::parse();
    xtask::report(match verb {
        Verb::Build => build::run(&machine),
        Verb::Test(args) => test::run(&machine, &args),
        Verb::Demo(args) => hand_over::to("mptcp-bench", "demo", &machine, &args),
        Verb::Bench(args) => hand_over::to("mptcp-bench", "bench", &machine, &args),
        Verb::Fuzz(args) => fuzz::run(&machine, &args),
        Verb::Vm(args) => hand_over::to("mptcp-vm", "vm", &machine, &args),
        Verb::Dist(args) => dist::run(&machine, &args),
        Verb::Screenshots => screenshots::run(&machine),
        Verb::Dashboard => dashboard::run(),
        Verb::Lint => lint::run(&machine),
    })
}
