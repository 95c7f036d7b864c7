//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::policy::{Policy, PolicyName, RedundantArgs, Weight, WeightedMode};

/// Where metrics are served unless `--listen` says otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8684";

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this was built from, or `unknown`.
pub const COMMIT: &str = match option_env!("MPTCP_AGENT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

static LONG_VERSION: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT})"));

/// What the command line asks for, checked as far as it can be without
/// looking at the host.
#[derive(Debug)]
pub enum Job {
    /// `run`.
    Run(RunArgs, Policy),
}

/// Parses the command line. On a usage error, prints it and exits with 2; on
/// `--help` and `--version`, with 0.
pub fn parse() -> Job {
    job(Cli::parse()).unwrap_or_else(|error| error.exit())
}

fn job(cli: Cli) -> Result<Job, clap::Error> {
    match cli.command {
        Command::Run(args) => {
            let policy = Policy::new(
                args.policy,
                args.weighted_mode,
                &args.weights,
                &args.redundant,
            );
            let policy = policy.map_err(|message| usage_error("run", &message))?;
            Ok(Job::Run(args, policy))
        }
    }
}

/// An error in how arguments go together, in clap's own words and exit code.
fn usage_error(subcommand: &str, message: &str) -> clap::Error {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(subcommand) {
        Some(command) => command.error(ErrorKind::ValueValidation, message),
        None => cli.error(ErrorKind::ValueValidation, message),
    }
}

/// Observes and steers Multipath TCP on a stock Linux kernel (6.1 or later).
///
/// The agent attaches eBPF programs to this network namespace's MPTCP
/// sockets, counts what each path carries, serves that to Prometheus and, if
/// asked, makes each connection use its paths by weight, or sends every
/// segment on more than one of them. Applications and kernel stay as they
/// are; when the agent stops, every limit that it set on a socket is lifted.
#[derive(Debug, Parser)]
#[command(name = "mptcp-agent", version = LONG_VERSION.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground until SIGINT, SIGTERM or SIGHUP
    Run(RunArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  Observe only, metrics on http://127.0.0.1:8684/metrics:
    mptcp-agent run

  Four parts by fibre, one part by LTE:
    mptcp-agent run --policy weighted --weight eth0=4 --weight wwan0=1

  LTE only while nothing else is alive (0 is standby):
    mptcp-agent run --policy weighted --weight wwan0=0

  By prefix; fill the other path once one is full:
    mptcp-agent run --policy weighted --weighted-mode spill \\
        --weight 192.0.2.0/24=9 --weight 2001:db8::/32=1

  A server with one address, by the ids of its clients' addresses:
    mptcp-agent run --policy weighted --weight remote-id:0=1 --weight remote-id:1=9

  Every segment on two paths, at both ends (a lost path is not noticed):
    mptcp-agent run --policy redundant --redundant-key /etc/mptcp-agent/key

Environment:
  RUST_LOG  what is logged (default: info); RUST_LOG=debug shows every
            connection and subflow that opens or closes

Exit status: 0 after a signal, 1 if it cannot go on, 2 if the arguments are wrong.";

/// Arguments of `run`.
#[derive(Args, Debug)]
#[command(after_long_help = RUN_EXAMPLES, after_help = "Examples: see --help")]
pub struct RunArgs {
    /// What to do with the connections of this network namespace
    #[arg(long, value_enum, default_value = "default")]
    policy: PolicyName,

    /// A path's weight, 0 to 65535; 0 is standby; may be repeated
    ///
    /// SELECTOR names a path: a device (eth0), a local address or prefix
    /// (10.1.2.3, 10.0.0.0/24, fd00::/64), the address id of the local end
    /// (id:2) or of the remote end (remote-id:1), or `default` for every path
    /// that no other selector names (1 if not given). A subflow that several
    /// selectors fit belongs to its id, else its remote-id, else its longest
    /// prefix, else its device. Subflows that share a path share its weight. A
    /// device may appear later. Needs --policy weighted.
    #[arg(long = "weight", value_name = "SELECTOR=N")]
    weights: Vec<Weight>,

    /// How strictly the weights hold [default: strict]
    #[arg(long, value_enum)]
    weighted_mode: Option<WeightedMode>,

    /// Where to serve /metrics and /healthz; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_LISTEN)]
    pub listen: SocketAddr,

    /// Where the control socket is to be [default: /run/mptcp-agent/control.sock]
    ///
    /// Checked, but not used yet: this version creates no control socket. The
    /// path is absolute, is no directory, and its directory exists or can be
    /// made.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Observe and steer only sockets of this cgroup2 directory and below
    ///
    /// By default the root of the first cgroup2 mount, which holds every
    /// socket of the host. Sockets of other network namespaces are left alone
    /// in any case.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Connections that are tracked at once, 1 to 1048576
    ///
    /// Memory is taken as they come, not in advance. Connections beyond this
    /// are counted (mptcp_agent_map_full_total), not steered.
    #[arg(long, value_name = "N", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_connections: u32,

    /// How to log; json also turns what is printed at start into log lines
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,

    // Last: its heading holds for all that follows.
    #[command(flatten)]
    redundant: RedundantArgs,
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
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn parse(line: &str) -> Result<(RunArgs, Policy), String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let Job::Run(args, policy) = job(cli).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })?;
        Ok((args, policy))
    }

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let (args, policy) = parse("mptcp-agent run").unwrap();
        assert_eq!(policy, Policy::Default);
        assert_eq!(args.listen.to_string(), DEFAULT_LISTEN);
        assert_eq!(args.max_connections, 16_384);
        assert_eq!(args.log_format, LogFormat::Text);
        assert_eq!((args.control, args.cgroup), (None, None));
    }

    #[test]
    fn weights_come_through() {
        let line = "mptcp-agent run --policy weighted --weight eth0=4 --weight default=0";
        let (_, policy) = parse(line).unwrap();
        assert_eq!(policy.to_string(), "weighted (strict)");
        assert_eq!(policy.weights().unlisted, 0);
        assert_eq!(policy.weights().listed[0].weight, 4);
    }

    #[test]
    fn settings_of_the_redundant_policy_come_through() {
        let (_, policy) = parse("mptcp-agent run --policy redundant").unwrap();
        let settings = policy.redundant().unwrap();
        assert_eq!((settings.copies, settings.port), (2, 8684));
        let line = "mptcp-agent run --policy redundant --redundant-copies 4 \
                    --redundant-port 9000 --redundant-key /etc/key --redundant-budget 40mbit";
        let (_, policy) = parse(line).unwrap();
        let settings = policy.redundant().unwrap();
        assert_eq!((settings.copies, settings.port), (4, 9000));
        assert_eq!(settings.key, Some("/etc/key".into()));
        let budget = settings.budget.unwrap();
        assert_eq!(budget.bytes_per_sec, 5_000_000);
    }

    #[test]
    fn wrong_arguments_say_why() {
        for (arguments, reason) in [
            (
                "--policy fast",
                "[possible values: default, weighted, redundant]",
            ),
            ("--weight eth0=1", "--policy weighted"),
            ("--weighted-mode spill", "--policy weighted"),
            ("--redundant-copies 3", "--policy redundant"),
            ("--redundant-port 9000", "--policy redundant"),
            ("--redundant-key /etc/key", "--policy redundant"),
            ("--redundant-budget 40mbit", "--policy redundant"),
            (
                "--policy weighted --redundant-port 9000",
                "--redundant-port has no effect under --policy weighted",
            ),
            (
                "--policy redundant --weight eth0=1",
                "--weight has no effect under --policy redundant",
            ),
            ("--policy redundant --redundant-copies 1", "2..=4"),
            ("--policy redundant --redundant-copies 5", "2..=4"),
            ("--policy redundant --redundant-port 0", "1..=65535"),
            ("--policy redundant --redundant-port 65536", "1..=65535"),
            ("--policy redundant --redundant-budget fast", "8kbit"),
            (
                "--policy weighted --weight eth0=65536",
                "0 (standby) to 65535",
            ),
            (
                "--policy weighted --weight eth0=0 --weight default=0",
                "all weights are 0",
            ),
            (
                "--policy weighted --weight id:1=1 --weight id:01=2",
                "same path",
            ),
            ("--listen 8684", "invalid socket address"),
            ("--listen localhost:8684", "invalid socket address"),
            ("--max-connections 0", "1..=1048576"),
            ("--max-connections 1048577", "1..=1048576"),
            ("--log-format xml", "[possible values: text, json]"),
        ] {
            let error = parse(&format!("mptcp-agent run {arguments}")).unwrap_err();
            assert!(error.contains(reason), "{arguments}: {error}");
        }
    }
}
