//! Arguments of the commands that talk to a running agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use mptcp_api::policy::Given;
use mptcp_api::rule::RuleSet;

use super::policy::{self, OverflowArgs, RedundantArgs, SharedArgs, WeightedArgs, names};
use crate::host::socket_path;
use crate::policy::lasting;
use crate::rules::Candidate;

/// A macro, since `concat!` takes literals only.
macro_rules! exit_status {
    () => {
        "\
Exit status:
  0  done
  1  the agent refused or failed, or does not answer
  2  the arguments are wrong
  3  there is no agent: no socket, or one that nobody listens at
  4  no permission
  5  the other end speaks another version of the protocol, or not this protocol"
    };
}

pub(super) const EXIT_STATUS: &str = exit_status!();

const SET_EXAMPLES: &str = concat!(
    "\
Examples:
  Four parts by fibre, one part by LTE, from now on:
    mptcp-agent policy set weighted --weight eth0=4 --weight wwan0=1

  LTE only for what does not fit the fibre:
    mptcp-agent policy set overflow --prefer eth0 --prefer wwan0

  Nothing by fibre for the ten minutes that it is worked on:
    mptcp-agent policy set weighted --weight eth0=0 --for 10m

  From now on, and after a restart:
    mptcp-agent policy set weighted --weight eth0=4 --save

",
    exit_status!()
);

/// A request to a running agent, and how to make it.
#[derive(Debug)]
pub struct ClientJob {
    /// `--control`.
    pub control: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
    /// The request.
    pub verb: Verb,
}

/// The requests to a running agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// `policy show`.
    PolicyShow,
    /// `policy set`, checked.
    PolicySet {
        /// The new policy.
        policy: Box<Given>,
        /// `--for`.
        for_seconds: Option<u64>,
        /// `--save`.
        save: bool,
    },
    /// `rules`.
    RulesShow,
    /// `rules set`, checked.
    RulesSet(Box<RuleSet>),
    /// `rules test`.
    RulesTest(Box<Candidate>),
    /// `reload`.
    Reload,
    /// `status`.
    Status,
    /// `connections`.
    Connections {
        /// `--sort`.
        sort: SortKey,
    },
    /// `quota`.
    QuotaShow,
    /// `quota reset`.
    QuotaReset {
        /// The path, as its quota names it.
        path: String,
    },
    /// `events`.
    Events,
    /// `top`.
    Top,
}

/// `--sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// By token
    Token,
    /// Most bytes acknowledged first
    Acked,
    /// Most bytes sent first
    Sent,
    /// Most bytes received first
    Received,
    /// Longest round trip of a subflow first
    Rtt,
    /// Greatest share of a single subflow first
    Share,
    /// Most segments retransmitted first
    Retransmitted,
    /// Most bytes that wait to be sent first
    Queued,
    /// Most subflows first
    Subflows,
}

/// A job; or else the command whose usage helps, and what is wrong.
pub(super) type Checked = Result<ClientJob, (&'static [&'static str], String)>;

#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// The agent's control socket [default: that of this network namespace's agent]
    ///
    /// By default /run/mptcp-agent/control.sock, or, in a network namespace
    /// other than that of process 1, /run/mptcp-agent/netns-COOKIE.sock.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// Print the agent's answer as JSON, in full
    #[arg(long)]
    json: bool,
}

impl Target {
    pub(super) fn job(self, command: &'static [&'static str], verb: Verb) -> Checked {
        let Self { control, json } = self;
        if let Some(path) = control.as_ref().filter(|path| !socket_path::fits(path)) {
            let why = format!(
                "--control {} is too long: a socket's path has at most {} bytes",
                path.display(),
                socket_path::LONGEST
            );
            return Err((command, why));
        }
        Ok(ClientJob {
            control,
            json,
            verb,
        })
    }
}

/// Arguments of `policy`.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show the policy in force, and the one that returns after a temporary one
    #[command(after_long_help = EXIT_STATUS)]
    Show(Target),
    /// Change the policy: new connections at once, open ones within 100 ms
    ///
    /// A setting that is refused changes nothing. The policy stays until the next
    /// `policy set` or `reload`. It is not kept beyond the agent's end, unless
    /// --save writes it into the agent's configuration file.
    Set(Box<SetArgs>),
}

#[derive(Args, Debug)]
#[command(after_long_help = SET_EXAMPLES, after_help = "Examples: see --help")]
struct SetArgs {
    /// The new policy
    #[arg(value_parser = names())]
    policy: String,

    #[command(flatten)]
    weighted: WeightedArgs,

    #[command(flatten)]
    overflow: OverflowArgs,

    #[command(flatten)]
    shared: SharedArgs,

    /// Restore the previous policy after this time: 90s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = whole_seconds)]
    lasting: Option<u64>,

    /// Write the policy into the agent's configuration file, too
    ///
    /// Comments, mode and owner of the file stay. Root, or the agent's user, may
    /// do this, if the agent was started with --config.
    #[arg(long, conflicts_with = "lasting")]
    save: bool,

    #[command(flatten)]
    target: Target,

    // This comes last, because its heading holds for all that follows.
    #[command(flatten)]
    redundant: RedundantArgs,
}

/// A time in seconds, within what the agent takes.
fn whole_seconds(text: &str) -> Result<u64, String> {
    let time: Duration = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is not a time: expected something like 90s, 10m or 2h"))?;
    if time.subsec_nanos() != 0 {
        return Err(format!("`{text}` is not a whole number of seconds"));
    }
    lasting(Some(time.as_secs()))?;
    Ok(time.as_secs())
}

impl PolicyArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        let set = match self.command {
            PolicyCommand::Show(target) => {
                return target.job(&["policy", "show"], Verb::PolicyShow);
            }
            PolicyCommand::Set(set) => *set,
        };
        const SET: &[&str] = &["policy", "set"];
        let given = policy::given(
            set.policy,
            set.weighted,
            set.overflow,
            set.shared,
            set.redundant,
        );
        let policy = given
            .and_then(policy::policy)
            .map_err(|message| (SET, message))?;
        if let Some(key) = policy.copies().and_then(|redundant| redundant.key.as_ref())
            && key.to_str().is_none()
        {
            let why = format!(
                "--redundant-key {} is not UTF-8, as what goes over the control socket must be",
                key.display()
            );
            return Err((SET, why));
        }
        let verb = Verb::PolicySet {
            policy: Box::new(policy.given()),
            for_seconds: set.lasting,
            save: set.save,
        };
        set.target.job(SET, verb)
    }
}

/// Arguments of `reload`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct ReloadArgs {
    #[command(flatten)]
    target: Target,
}

impl ReloadArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        self.target.job(&["reload"], Verb::Reload)
    }
}

/// Arguments of `status`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct StatusArgs {
    #[command(flatten)]
    target: Target,
}

impl StatusArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        self.target.job(&["status"], Verb::Status)
    }
}

/// Arguments of `connections`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct ConnectionsArgs {
    /// The order of the connections
    #[arg(long, value_name = "KEY", value_enum, default_value = "acked")]
    sort: SortKey,

    #[command(flatten)]
    target: Target,
}

impl ConnectionsArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        let verb = Verb::Connections { sort: self.sort };
        self.target.job(&["connections"], verb)
    }
}

/// Arguments of `quota`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS, args_conflicts_with_subcommands = true)]
pub struct QuotaArgs {
    #[command(subcommand)]
    command: Option<QuotaCommand>,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum QuotaCommand {
    /// Forget what a path has used in this period, and use the path again
    #[command(after_long_help = EXIT_STATUS)]
    Reset(ResetArgs),
}

#[derive(Args, Debug)]
struct ResetArgs {
    /// The path, as its --quota names it
    #[arg(value_parser = policy::selector)]
    path: String,

    #[command(flatten)]
    target: Target,
}

impl QuotaArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        match self.command {
            None => self.target.job(&["quota"], Verb::QuotaShow),
            Some(QuotaCommand::Reset(ResetArgs { path, target })) => {
                target.job(&["quota", "reset"], Verb::QuotaReset { path })
            }
        }
    }
}

/// Arguments of `endpoints`.
#[derive(Args, Debug)]
pub struct EndpointsArgs {
    /// The agent's control socket [default: that of this network namespace's agent]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `top`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct TopArgs {
    /// The agent's control socket [default: that of this network namespace's agent]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl TopArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        let target = Target {
            control: self.control,
            json: false,
        };
        target.job(&["top"], Verb::Top)
    }
}

/// Arguments of `events`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct EventsArgs {
    #[command(flatten)]
    target: Target,
}

impl EventsArgs {
    /// Checks that the arguments go together.
    pub fn job(self) -> Checked {
        self.target.job(&["events"], Verb::Events)
    }
}
