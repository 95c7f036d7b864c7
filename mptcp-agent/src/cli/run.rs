//! Arguments of `run`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use mptcp_api::listen::Listen;
use mptcp_api::policy::{Given, Redundant};

use super::LogFormat;
use super::manage::ManageArgs;
use super::peering::PeeringArgs;
use super::policy::{OverflowArgs, RedundantArgs, SharedArgs, WeightedArgs, given, names};
use crate::policy::Policy;

/// Where metrics are served unless `--listen` says otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8684";

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

  A server with one address, by its clients' addresses, or by their ids:
    mptcp-agent run --policy weighted \\
        --weight remote:192.0.2.0/24=1 --weight remote:198.51.100.0/24=9
    mptcp-agent run --policy weighted --weight remote-id:0=1 --weight remote-id:1=9

  Fibre first; LTE carries only what does not fit:
    mptcp-agent run --policy overflow --prefer eth0 --prefer wwan0

  LTE on standby while it loses more than 5 % or takes longer than 300 ms:
    mptcp-agent run --policy weighted --leave-out wwan0=loss:5%,rtt:300ms

  At most 20 Mbit/s by LTE, whatever the policy:
    mptcp-agent run --limit wwan0=20mbit

  LTE on standby once its plan of 50 GB, renewed on each 15th, is spent:
    mptcp-agent run --policy weighted --quota wwan0=50GB/month,reset:15

  Endpoints for both paths, whatever addresses they get:
    mptcp-agent run --policy weighted --weight eth0=4 --weight wwan0=1 --manage-endpoints

  Downloads follow the client's weights, too; the first line on the client:
    mptcp-agent run --policy weighted --weight eth0=4 --weight wwan0=1 \\
        --ask-peer --redundant-key /etc/mptcp-agent/key
    mptcp-agent run --accept-peer-policy 192.0.2.0/24 --redundant-key /etc/mptcp-agent/key

  Every segment on two paths, at both ends (a lost path is not noticed):
    mptcp-agent run --policy redundant --redundant-key /etc/mptcp-agent/key

  From a file, and its weights from the command line:
    mptcp-agent run --config /etc/mptcp-agent/config.toml --weight eth0=4

Environment:
  RUST_LOG  what is logged (default: info); RUST_LOG=debug shows every
            connection and subflow that opens or closes

Exit status: 0 after a signal, 1 if it cannot go on, 2 if the arguments or the
configuration file are wrong, 75 after SIGUSR2, which leaves everything in place
for the next agent.";

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = RUN_EXAMPLES, after_help = "Examples: see --help")]
pub struct RunArgs {
    /// The configuration file; flags take precedence over what it says
    ///
    /// SIGHUP and `mptcp-agent reload` read it anew. Without this there is no
    /// file. `mptcp-agent config example` prints one with every key.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to do with the connections of this network namespace
    #[arg(long, value_parser = names(), default_value = "default")]
    pub(super) policy: String,

    #[command(flatten)]
    pub(super) weighted: WeightedArgs,

    #[command(flatten)]
    pub(super) overflow: OverflowArgs,

    #[command(flatten)]
    pub(super) shared: SharedArgs,

    /// Where to serve /metrics and /healthz; port 0 takes any free one
    ///
    /// May be given several times. unix:PATH is a unix socket, such as
    /// unix:/run/mptcp-agent/metrics.sock. It has mode 0660 and the agent's user
    /// and group; missing directories are made. A socket that a dead agent left
    /// there is replaced, anything else is not.
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", default_value = DEFAULT_LISTEN)]
    pub listen: Vec<Listen>,

    /// A file with TLS and passwords for HTTP, as Prometheus' exporters read it
    ///
    /// It holds for addresses, not for unix sockets. The agent reads it anew when
    /// it changes, and on SIGHUP. docs/operations.md describes it.
    #[arg(
        long = "web.config.file",
        visible_alias = "web-config-file",
        value_name = "FILE"
    )]
    pub web_config_file: Option<PathBuf>,

    /// The control socket's path [default: /run/mptcp-agent/control.sock]
    ///
    /// The commands policy, status, connections, quota and events use this socket. The
    /// path is absolute; missing directories are made. Root, the agent's user
    /// and the members of group mptcp, if there is one, may use the socket. In a
    /// network namespace other than that of process 1 the default is
    /// /run/mptcp-agent/netns-COOKIE.sock. If the agent cannot make the default
    /// socket, it runs without one; if it cannot make one that you name, it
    /// does not start.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Where the agent keeps what paths have used of their quotas [default: /var/lib/mptcp-agent]
    ///
    /// The path is absolute; missing directories are made, once there is a
    /// --quota. The file is quota.json. In a network namespace other than that of
    /// process 1, the default file is quota-netns-COOKIE.json, which holds until
    /// the next boot: give such an agent a directory of its own. If nothing can
    /// be written there, the agent runs and counts in memory.
    #[arg(long, value_name = "PATH")]
    pub state_dir: Option<PathBuf>,

    /// Observe and steer only sockets of this cgroup2 directory and below
    ///
    /// By default the root of the first cgroup2 mount, which holds every
    /// socket of the host. Sockets of other network namespaces are left alone
    /// in any case.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Take the kernel's types from this file instead of /sys/kernel/btf/vmlinux
    ///
    /// For a kernel that has its types (CONFIG_DEBUG_INFO_BTF) and hides them, as
    /// in a container without /sys. The file is a copy of that one, or the vmlinux
    /// of the very kernel that runs. The kernel checks programs by types of its
    /// own, so a kernel built without them refuses the agent with any file.
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// Connections that are tracked at once, 1 to 1048576
    ///
    /// The kernel takes 288 bytes for each in advance, for hash tables (5 MB by
    /// default, 302 MB for 1048576), and the rest as connections come.
    /// Connections beyond this are counted (mptcp_agent_map_full_total), not
    /// steered.
    #[arg(long, value_name = "N", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_connections: u32,

    /// Measure the CPU time of the agent's programs, for the metrics
    ///
    /// The kernel then measures every BPF program of the host, which costs each
    /// of them two readings of the clock a run, until the agent ends. Without
    /// this, mptcp_agent_program_run_seconds_total is absent. The programs
    /// count their own runs in any case.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub measure_programs: bool,

    /// How to log; json also turns what is printed at start into log lines
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// Take the place of the agent that runs in this network namespace, without a gap
    ///
    /// The running agent ends and leaves everything in place: no limit is
    /// lifted, no connection is forgotten, no total starts anew. If no agent
    /// runs, this is an ordinary start.
    #[arg(long)]
    pub take_over: bool,

    #[command(flatten)]
    pub manage: ManageArgs,

    #[command(flatten)]
    pub peering: PeeringArgs,

    // This comes last, because its heading holds for all that follows.
    #[command(flatten)]
    pub(super) redundant: RedundantArgs,
}

/// The settings that the flags of `run` ask for, before the configuration file and the
/// defaults are looked at.
#[derive(Clone, Debug)]
pub struct Flags {
    /// The arguments; those that were not given have their defaults.
    pub args: RunArgs,
    /// The settings of the policy; the name is that of the default policy if none
    /// was given.
    pub policy: Given,
    /// The ids of the arguments that were given.
    given: BTreeSet<String>,
}

impl Flags {
    /// Collects the arguments, and which of them were given.
    ///
    /// # Errors
    /// One line: an argument makes no sense.
    pub fn new(mut args: RunArgs, matches: &ArgMatches) -> Result<Self, String> {
        let weighted = std::mem::take(&mut args.weighted);
        let overflow = std::mem::take(&mut args.overflow);
        let shared = std::mem::take(&mut args.shared);
        let redundant = std::mem::take(&mut args.redundant);
        let policy = given(args.policy.clone(), weighted, overflow, shared, redundant)?;
        let ids = matches.ids().map(|id| id.as_str());
        let is_given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        Ok(Self {
            args,
            policy,
            given: ids.filter(is_given).map(str::to_owned).collect(),
        })
    }

    /// Returns the flags that say something about a default policy of this name.
    /// If agents ask each other for something, the port and the key are those of
    /// their channel, and the policy's only if it copies segments.
    #[must_use]
    pub fn of_policy(&self, name: &str) -> Self {
        let mut flags = self.clone();
        let policy = Policy::new(Given::named(name));
        let copies = policy.is_ok_and(|policy| policy.copies().is_some());
        if self.args.peering.any() && !copies {
            let given = &mut flags.policy.redundant;
            (given.redundant_key, given.redundant_port) = (None, None);
            flags.given.remove(Redundant::KEY.field());
            flags.given.remove(Redundant::PORT.field());
        }
        flags
    }

    /// Returns whether the argument of this id was given.
    pub fn has(&self, id: &str) -> bool {
        self.given.contains(id)
    }
}
