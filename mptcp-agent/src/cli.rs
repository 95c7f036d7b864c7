//! The command line.

mod client;
mod doctor;
mod manage;
mod policy;
mod run;

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub use client::{ClientJob, EndpointsArgs, SortKey, Verb};
pub use doctor::{DoctorArgs, USAGE as DOCTOR_USAGE};
pub use policy::flag;
pub use run::RunArgs;

use crate::policy::Policy;
use crate::{COMMIT, VERSION};

static LONG_VERSION: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT})"));

/// A job that the command line asks for. Everything is checked that can be
/// checked without looking at the host.
#[derive(Debug)]
pub enum Job {
    /// `run`.
    Run(Box<RunArgs>, Policy),
    /// A request to a running agent.
    Client(ClientJob),
    /// `endpoints`.
    Endpoints(EndpointsArgs),
    /// `cleanup`.
    Cleanup(CleanupArgs),
    /// `doctor`.
    Doctor(DoctorArgs),
}

/// Parses the command line. On a usage error, prints it and exits with 2 (of
/// `doctor` with [`doctor::USAGE`]); on `--help` and `--version`, with 0.
pub fn parse() -> Job {
    let parsed = Cli::try_parse().and_then(job);
    parsed.unwrap_or_else(|error| {
        let is_doctor = std::env::args_os()
            .nth(1)
            .is_some_and(|arg| arg == "doctor");
        if is_doctor && error.use_stderr() {
            doctor::exit(&error);
        }
        error.exit()
    })
}

fn job(cli: Cli) -> Result<Job, clap::Error> {
    let client = |job: Result<ClientJob, (&[&str], String)>| {
        job.map(Job::Client)
            .map_err(|(command, message)| usage_error(command, &message))
    };
    match cli.command {
        Command::Run(mut args) => {
            let weighted = std::mem::take(&mut args.weighted);
            let overflow = std::mem::take(&mut args.overflow);
            let shared = std::mem::take(&mut args.shared);
            let redundant = std::mem::take(&mut args.redundant);
            let policy = policy::policy(args.policy.clone(), weighted, overflow, shared, redundant)
                .map_err(|message| usage_error(&["run"], &message))?;
            Ok(Job::Run(args, policy))
        }
        Command::Policy(args) => client(args.job()),
        Command::Status(args) => client(args.job()),
        Command::Connections(args) => client(args.job()),
        Command::Events(args) => client(args.job()),
        Command::Endpoints(args) => Ok(Job::Endpoints(args)),
        Command::Cleanup(args) => Ok(Job::Cleanup(args)),
        Command::Doctor(args) => {
            let checked = args.check().map(|()| Job::Doctor(args));
            checked.map_err(|message| usage_error(&["doctor"], &message))
        }
    }
}

/// Makes an error about arguments that do not go together, in clap's own words and exit code.
fn usage_error(subcommands: &[&str], message: &str) -> clap::Error {
    let mut command = Cli::command();
    command.build();
    for name in subcommands {
        if let Some(found) = command.find_subcommand(name).cloned() {
            command = found;
        }
    }
    command.error(ErrorKind::ValueValidation, message)
}

/// Observes and steers Multipath TCP on a stock Linux kernel (6.1 or later).
///
/// The agent attaches eBPF programs to this network namespace's MPTCP
/// sockets, counts what each path carries, serves that to Prometheus and, if
/// asked, makes each connection use its paths by weight or in an order of
/// preference, or sends every segment on more than one of them. Applications and kernel stay as they
/// are; when the agent stops, every limit that it set on a socket is lifted.
///
/// The commands policy, status, connections and events talk to a running
/// agent through its control socket.
#[derive(Debug, Parser)]
#[command(name = "mptcp-agent", version = LONG_VERSION.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground until SIGINT or SIGTERM
    Run(Box<RunArgs>),
    /// Show or change the policy of a running agent
    Policy(client::PolicyArgs),
    /// Show the state of a running agent and of its paths
    Status(client::StatusArgs),
    /// List the connections that a running agent knows, and their subflows
    Connections(client::ConnectionsArgs),
    /// Print events as they happen, until Ctrl-C or the agent's end
    ///
    /// Where events were lost, a line says how many, and stderr says at the end
    /// how many were lost in total.
    Events(client::EventsArgs),
    /// Show the kernel's endpoints and limits beside the paths of the agent
    ///
    /// Works with and without a running agent, and needs no rights beyond those
    /// to ask it.
    Endpoints(EndpointsArgs),
    /// Look for what keeps MPTCP or the agent from working, and say how to mend it
    ///
    /// Works with and without a running agent, changes nothing, and takes about
    /// a second. Without root it checks what it can.
    Doctor(DoctorArgs),
    /// Remove what a killed agent left in the kernel, and list it
    Cleanup(CleanupArgs),
}

/// Arguments of `cleanup`.
#[derive(Args, Debug)]
pub struct CleanupArgs {
    /// The cgroup2 directory that the agent was started with, if it was given one
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// How to log
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people: the log on stderr, the attach table on stdout
    Text,
    /// One JSON object a line, all on stderr
    Json,
}

#[cfg(test)]
mod tests;
