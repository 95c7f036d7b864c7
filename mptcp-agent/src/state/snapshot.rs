//! Everything that an answer shows, collected once.
//!
//! The agent's loop reads maps and its own state into a [`Snapshot`]. The
//! metrics, the control socket and, through it, the clients only render it:
//! whatever they have in common is decided here. Names appear here only where
//! they come from outside: devices, selectors, programs, the kernel's counters.
//!
//! Pure: the maps' contents and the times are arguments.
//!
//! | file | what it is |
//! |---|---|
//! | `path` | what each path carries, and how |
//! | `names` | the names of the policies and rules that connections have |
//! | `open` | the open connections and their subflows |
//! | `quotas` | the data plans of paths |
//! | `peers` | the agents at the other ends, and the messages with them |
//! | `peering` | what they ask each other for |

mod names;
mod open;
mod path;
mod peering;
mod peers;
mod quotas;

use std::time::Duration;

use mptcp_api::listen::Listen;
use mptcp_common::abi::Totals;
use mptcp_common::abi::rule::RuleStats;

pub use names::Names;
pub use open::{Connection, Gather, Open, Subflow};
pub use path::{Copies, Path, Sources};
pub use peering::{AskedPeer, HeardPeer, Peering, WishState};
pub use peers::{Hello, NoRoom, PeerState, Peers};
pub use quotas::{Quotas, Saving};

use crate::policy::Policy;
use crate::rules;

/// The state of the agent at one moment.
#[derive(Debug)]
#[cfg_attr(test, derive(Default))]
pub struct Snapshot {
    /// The agent's process.
    pub agent: Agent,
    /// The clients that follow the events over HTTP.
    pub streams: Streams,
    /// The policy in force.
    pub policy: InForce,
    /// The rules, and what their connections have done.
    pub rules: Rules,
    /// Why the programs do not outlive the agent, to lift its limits if it is
    /// killed; `None` if they do.
    pub not_outlived: Option<String>,
    /// Whether sockets of every cgroup are seen.
    pub sees_all_cgroups: bool,
    /// How often the agent put back what others had taken away.
    pub restored: Restored,
    /// Number of ids and prefixes with a weight that no subflow has, while
    /// joined subflows have none with a weight.
    pub unmatched_selectors: usize,
    /// Host-wide totals.
    pub totals: Totals,
    /// The paths that the user named, those that carry something, and those
    /// that copies can use.
    pub paths: Vec<Path>,
    /// The data plans of paths.
    pub quotas: Quotas,
    /// The agents at the other ends, under the redundant policy.
    pub peers: Option<Peers>,
    /// The weights that agents ask each other to use, and what has become of that;
    /// with `--ask-peer` or `--accept-peer-policy`.
    pub peering: Option<Peering>,
    /// The kernel's own counters, by the names of `net::snmp`; empty if they
    /// were not asked for.
    pub kernel_events: Vec<(&'static str, u64)>,
    /// The programs.
    pub programs: Vec<Program>,
    /// Subflows whose callbacks were switched on again.
    pub rearmed: u64,
    /// Subflows whose socket was gone without a callback.
    pub reclaimed: u64,
    /// The open connections; empty if they were not asked for.
    pub open: Open,
    /// Time that it took to collect all this.
    pub took: Duration,
}

impl Snapshot {
    /// Returns the paths that the user named, and those that ever carried a
    /// subflow and still exist.
    pub fn traffic(&self) -> impl Iterator<Item = &Path> + Clone {
        self.paths.iter().filter(|path| path.counts)
    }

    /// Returns the part of the traffic that the policy's weights ask of each path. A
    /// path counts if the user named it or if it is in use, and the part refers to all
    /// these paths. A connection that does not have all of them divides its traffic
    /// among those it has.
    pub fn targets(&self) -> impl Iterator<Item = (&Path, f64)> {
        let counts = |path: &&Path| path.is_listed_or_used();
        let weights = self.traffic().filter(counts);
        let sum: u32 = weights.map(|path| path.present_weight).sum();
        self.traffic().filter(counts).map(move |path| {
            // If the sum is 0, all these paths are on standby.
            (path, f64::from(path.present_weight) / f64::from(sum.max(1)))
        })
    }
}

/// The agent's process.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its process id, in its own namespace.
    pub pid: u32,
    /// Time since it was started.
    pub uptime: Duration,
    /// The places where it serves metrics.
    pub listen: Vec<Listen>,
    /// Whether those that are addresses have TLS.
    pub web_tls: bool,
    /// Whether those that are addresses ask for a password.
    pub web_auth: bool,
}

/// The clients that follow the events over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Number of open streams.
    pub open: usize,
    /// Number of those that the agent ended because their clients did not read.
    pub dropped: u64,
}

/// The policy in force, and what follows it.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Default))]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// The policy that comes back by itself, and after which time.
    pub then: Option<(Policy, Duration)>,
}

/// The rules, and what their connections have done.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules.
    pub rules: rules::Rules,
    /// The counts, by number of the rule; 0: connections that no rule matches.
    pub counted: Vec<RuleStats>,
    /// Cgroups that rules name, and that do not exist now.
    pub missing_cgroups: Vec<String>,
}

impl Rules {
    /// Returns the number of open connections of each policy, by its name; the
    /// default one first.
    pub fn connections(&self) -> Vec<(&str, u64)> {
        let default = [(rules::DEFAULT_NAME, 0)];
        let named = self.rules.named().iter();
        let named = named.map(|named| (named.name.as_str(), named.index));
        let live = |number: usize| self.counted.get(number).map_or(0, |stats| stats.live);
        let of = |index: u32| {
            let rules = self
                .rules
                .rules()
                .iter()
                .filter(|rule| rule.policy == index);
            let unmatched = if index == 0 { live(0) } else { 0 };
            rules
                .map(|rule| live(rule.number))
                .fold(unmatched, u64::wrapping_add)
        };
        let all = default.into_iter().chain(named);
        all.map(|(name, index)| (name, of(index))).collect()
    }
}

/// How often the agent had to put something back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// How often the pins in the BPF file system were put back, all of them at
    /// a time.
    pub pins: u64,
    /// How often the program was attached again that somebody had detached.
    pub programs: u64,
}

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its purpose, which is what the agent goes without if it is not attached.
    pub purpose: &'static str,
    /// Why it is not attached, if it is not.
    pub error: Option<String>,
    /// How often it ran.
    pub runs: u64,
    /// For how long it ran, if the kernel measures that.
    pub run_time: Option<Duration>,
}

#[cfg(test)]
impl Default for Agent {
    fn default() -> Self {
        Self {
            pid: 0,
            uptime: Duration::ZERO,
            listen: vec![Listen::Tcp(std::net::SocketAddr::from((
                [127, 0, 0, 1],
                9100,
            )))],
            web_tls: false,
            web_auth: false,
        }
    }
}
