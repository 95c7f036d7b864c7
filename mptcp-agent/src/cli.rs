//! The command line.

mod client;
mod config;
mod doctor;
mod exec;
mod manage;
mod peering;
mod policy;
mod rules;
mod run;

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};

pub use client::{ClientJob, EndpointsArgs, SortKey, Verb};
pub use config::ConfigJob;
pub use doctor::{DoctorArgs, USAGE as DOCTOR_USAGE};
pub use exec::{ExecArgs, FAILED as EXEC_FAILED, WayArg};
pub use manage::RoleArg;
pub use policy::flag;
pub use run::{Flags, RunArgs};

use mptcp_common::abi::ABI;

use crate::{COMMIT, VERSION};

/// The ABI is that of the programs: an agent takes over the maps of another one
/// if both have the same.
static LONG_VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{VERSION} (commit {COMMIT}, eBPF ABI {ABI:016x})"));

/// A job that the command line asks for. Everything is checked that can be
/// checked without looking at the host.
#[derive(Debug)]
pub enum Job {
    /// `run`. The flags make a policy by themselves, unless a file is named.
    Run(Box<Flags>),
    /// `config`.
    Config(ConfigJob),
    /// A request to a running agent.
    Client(ClientJob),
    /// `endpoints`.
    Endpoints(EndpointsArgs),
    /// `cleanup`.
    Cleanup(CleanupArgs),
    /// `doctor`.
    Doctor(DoctorArgs),
    /// `exec`.
    Exec(ExecArgs),
}

/// Describes the command line.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line. On a usage error, prints it and exits with 2 (of
/// `doctor` with [`doctor::USAGE`], of `exec` with [`EXEC_FAILED`]); on `--help` and `--version`, with 0.
pub fn parse() -> Job {
    let parsed = Cli::command().try_get_matches();
    parsed
        .and_then(|matches| job(&matches))
        .unwrap_or_else(|error| {
            let command = std::env::args_os().nth(1).filter(|_| error.use_stderr());
            match command.as_ref().and_then(|name| name.to_str()) {
                Some("doctor") => doctor::exit(&error),
                Some("exec") => exec::exit(&error),
                _ => error.exit(),
            }
        })
}

fn job(matches: &ArgMatches) -> Result<Job, clap::Error> {
    let cli = Cli::from_arg_matches(matches).map_err(|error| error.format(&mut Cli::command()))?;
    let client = |job: Result<ClientJob, (&[&str], String)>| {
        job.map(Job::Client)
            .map_err(|(command, message)| usage_error(command, &message))
    };
    match cli.command {
        Command::Run(args) => run_flags(*args, &["run"], matches).map(Job::Run),
        Command::Config(args) => config::job(args, matches).map(Job::Config),
        Command::Policy(args) => client(args.job()),
        Command::Reload(args) => client(args.job()),
        Command::Rules(args) => client(args.job()),
        Command::Status(args) => client(args.job()),
        Command::Connections(args) => client(args.job()),
        Command::Quota(args) => client(args.job()),
        Command::Events(args) => client(args.job()),
        Command::Top(args) => client(args.job()),
        Command::Endpoints(args) => Ok(Job::Endpoints(args)),
        Command::Cleanup(args) => Ok(Job::Cleanup(args)),
        Command::Doctor(args) => {
            let checked = args.check().map(|()| Job::Doctor(args));
            checked.map_err(|message| usage_error(&["doctor"], &message))
        }
        Command::Exec(args) => Ok(Job::Exec(args)),
    }
}

/// Collects the flags of `run`, which the command of these names has. Checks the
/// policy if no file has a part in it.
fn run_flags(
    args: RunArgs,
    command: &[&str],
    matches: &ArgMatches,
) -> Result<Box<Flags>, clap::Error> {
    let mut own = matches;
    for name in command {
        own = own.subcommand_matches(name).unwrap_or(own);
    }
    let flags = Flags::new(args, own).and_then(|flags| {
        if flags.args.config.is_none() {
            policy::policy(flags.of_policy(&flags.policy.name).policy)?;
        }
        Ok(Box::new(flags))
    });
    flags.map_err(|message| usage_error(command, &message))
}

/// Reads what follows `policy set` on a command line, split at spaces.
///
/// # Errors
/// Returns what is wrong, without the usage that a shell would show.
pub fn policy_set(text: &str) -> Result<Verb, String> {
    let words = ["mptcp-agent", "policy", "set"].into_iter();
    let parsed = Cli::command().try_get_matches_from(words.chain(text.split_whitespace()));
    match parsed.and_then(|matches| job(&matches)) {
        Ok(Job::Client(ClientJob {
            control: None,
            json: false,
            verb: verb @ Verb::PolicySet { .. },
        })) => Ok(verb),
        Ok(_) => Err("only a policy and its settings go here".to_owned()),
        Err(error) if !error.use_stderr() => Err("help is in `policy set --help`".to_owned()),
        Err(error) => Err(complaint(&error)),
    }
}

/// Returns the lines of a usage error that say what is wrong.
fn complaint(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let said = words.join(" ");
    said.strip_prefix("error: ").unwrap_or(&said).to_owned()
}

/// Returns the flags of a command line of `run`, for the tests of other rooms.
#[cfg(test)]
pub fn flags_of(line: &str) -> Flags {
    let words = format!("mptcp-agent run {line}");
    let matches = Cli::command().get_matches_from(words.split_whitespace());
    match job(&matches) {
        Ok(Job::Run(flags)) => *flags,
        other => panic!("{other:?}"),
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
/// The commands policy, rules, reload, status, connections, quota, events and top talk to a
/// running agent through its control socket.
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
    /// Check a configuration file, show the settings in force, or print an example
    Config(config::ConfigArgs),
    /// Show or change the policy of a running agent
    Policy(client::PolicyArgs),
    /// Let a running agent read its configuration file anew
    ///
    /// What differs comes into force at once, on open connections within 100 ms.
    /// A file with a mistake changes nothing. SIGHUP does the same.
    Reload(client::ReloadArgs),
    /// Show or change the rules that say which connections have which policy
    Rules(rules::RulesArgs),
    /// Show the state of a running agent and of its paths
    Status(client::StatusArgs),
    /// List the connections that a running agent knows, and their subflows
    Connections(client::ConnectionsArgs),
    /// Show what paths have used of their data plans, or reset one
    Quota(client::QuotaArgs),
    /// Print events as they happen, until Ctrl-C or the agent's end
    ///
    /// Where events were lost, a line says how many, and stderr says at the end
    /// how many were lost in total.
    Events(client::EventsArgs),
    /// Watch paths, connections and events live, and change the policy
    ///
    /// Needs a terminal of at least 40x10 characters; 80x24 shows everything.
    /// Keys are named on the screen, and in full on `?`. Colours are left out if
    /// NO_COLOR is set. Goes on when the agent is restarted.
    Top(client::TopArgs),
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
    /// Run a program with its TCP sockets turned into MPTCP sockets
    ///
    /// The program takes the place of this process. Where the kernel has no
    /// MPTCP, its sockets stay plain TCP. Works with and without a running agent.
    Exec(ExecArgs),
    /// Remove what a killed agent left in the kernel, and list it
    Cleanup(CleanupArgs),
}

/// Arguments of `cleanup`.
#[derive(Args, Debug)]
pub struct CleanupArgs {
    /// The cgroup2 directory that the agent was started with, if it was given one
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// The file with the kernel's types that the agent was started with, if any
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

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
