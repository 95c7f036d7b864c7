//! `cargo xtask demo`: shows live what the agent does, beside the default
//! scheduler on the same links with the same load.

mod record;
mod redundant;
mod screen;
mod weighted;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use mptcp_lab::cleanup;

use xtask::machine::Machine;

use crate::bench;

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The policy to show: shares by weight, or requests while paths are cut
    #[arg(long, value_enum, default_value_t = Policy::Weighted)]
    policy: Policy,
    /// The length of the demo, at least 8 s: two loads one after the other, or
    /// a cut of each path [default: 20; 30 with --policy redundant]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=3600))]
    seconds: Option<u32>,
    /// Also record the demo, as FILE.cast (for asciinema) and FILE.svg (for pages)
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

impl Args {
    /// Returns the command that runs the same demo, without recording it.
    fn command(&self, agent: &Path) -> Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["demo", "--policy", self.policy.name()])
            .env("MPTCP_AGENT_BIN", agent);
        if let Some(seconds) = self.seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        Ok(command)
    }
}

/// A policy of the agent that the demo shows.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Policy {
    Weighted,
    Redundant,
}

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::Redundant => "redundant",
        }
    }
}

/// Runs `cargo xtask demo`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    ensure!(
        Machine::is_root(),
        "the demo needs root: it builds network namespaces and loads eBPF programs. Run it with: \
         sudo -E env \"PATH=$PATH\" cargo xtask demo"
    );
    let binary = bench::prepare(machine)?;
    if let Some(file) = &args.record {
        let title = format!("cargo xtask demo --policy {}", args.policy.name());
        return record::run(args.command(&binary)?, file, &title);
    }
    let result = match args.policy {
        Policy::Weighted => weighted::run(&binary, args.seconds.unwrap_or(weighted::SECONDS)),
        Policy::Redundant => redundant::run(&binary, args.seconds.unwrap_or(redundant::SECONDS)),
    };
    // After Ctrl-C all parts are ending, so ignore an error.
    cleanup::rest_if_interrupted();
    result
}
