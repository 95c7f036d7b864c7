//! Arguments of `config`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory as _, Subcommand};

use super::run::{Flags, RunArgs};

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  the file cannot be read
  2  the file or the arguments are wrong";

/// The subcommands of `config`. None of them needs or touches a running agent.
#[derive(Debug)]
pub enum ConfigJob {
    /// `config check FILE`.
    Check(Box<Flags>),
    /// `config show`.
    Show(Box<Flags>),
    /// `config example`.
    Example,
}

/// Arguments of `config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file, and touch nothing
    ///
    /// Says where the first mistake is, as FILE:LINE:COLUMN. Whether the host has
    /// what the settings need (a device, a free port, a key file) is seen when
    /// the agent runs.
    #[command(after_long_help = EXIT_STATUS)]
    Check {
        /// The configuration file
        #[arg(allow_hyphen_values = true)]
        file: PathBuf,
    },
    /// Show the settings that `run` would have with these flags, and where each comes from
    #[command(after_long_help = EXIT_STATUS)]
    Show(Box<RunArgs>),
    /// Print a commented file with every key
    Example,
}

/// Checks that the arguments go together.
pub fn job(args: ConfigArgs, matches: &ArgMatches) -> Result<ConfigJob, clap::Error> {
    Ok(match args.command {
        ConfigCommand::Check { file } => {
            // The same settings as those of an agent that is given the file only.
            let mut config = OsString::from("--config=");
            config.push(file);
            let line = [OsString::from("mptcp-agent"), "run".into(), config];
            let matches = super::Cli::command().try_get_matches_from(line)?;
            match super::job(&matches)? {
                super::Job::Run(flags) => ConfigJob::Check(flags),
                other => unreachable!("{other:?} is no run"),
            }
        }
        ConfigCommand::Show(args) => {
            ConfigJob::Show(super::run_flags(*args, &["config", "show"], matches)?)
        }
        ConfigCommand::Example => ConfigJob::Example,
    })
}
