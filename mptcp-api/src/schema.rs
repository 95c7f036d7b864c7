//! The messages on the control socket: one JSON object per line, in both
//! directions. docs/control-protocol.md describes them for other programs.
//!
//! The schema is versioned: a new field does not change [`VERSION`], but a
//! field that is removed or changes its meaning raises it. `--json` prints the
//! same types, so that there is only one schema to learn.
//!
//! This module contains only types and their JSON.

mod connection;
mod copies;
mod event;
mod peering;
mod quota;
mod rules;
mod scheduler;

use serde::{Deserialize, Serialize};

pub use connection::{Connection, Connections, Side, Subflow};
pub use copies::{PathCopies, Peers};
pub use event::{Event, Lost, Sender};
pub use peering::{AskedPeer, HeardPeer, PeerWeight, Peering};
pub use quota::{NamedQuota, PathQuota, Quotas};
pub use rules::{NamedPolicy, RuleCounts, RuleView, RulesView};
pub use scheduler::{Choices, PathChoices, Scheduler};

use crate::policy::Given;
use crate::rule::RuleSet;

/// The version of the protocol and of what `--json` prints.
pub const VERSION: u32 = 1;

/// A line to the agent; [`crate::line::decode`] reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestLine {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// The request itself.
    #[serde(flatten)]
    pub request: Request,
}

/// A request; field `request` names its kind. Unknown fields are refused, since
/// a policy with a misspelt `for_seconds` would stay for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Asks for the policy in force: [`Reply::Policy`].
    PolicyShow,
    /// Changes the policy: [`Reply::Policy`], once the new one is in force.
    PolicySet {
        /// The new policy.
        policy: Box<Given>,
        /// Seconds after which the previous policy comes back by itself, 1 or
        /// more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_seconds: Option<u64>,
        /// Whether to write the policy into the agent's configuration file, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        save: bool,
    },
    /// Asks for the rules in force: [`Reply::Rules`].
    RulesShow,
    /// Replaces the rules and the policies that they choose: [`Reply::Rules`],
    /// once they are in force.
    RulesSet {
        /// The new rules.
        rules: Box<RuleSet>,
    },
    /// Reads the agent's configuration file anew: [`Reply::Reloaded`], once what
    /// differs is in force.
    Reload,
    /// Asks for the state of the agent and its paths: [`Reply::Status`].
    Status,
    /// Asks for every connection: [`Reply::Connections`], once or more.
    Connections,
    /// Asks for every event from now on: [`Reply::Event`] and [`Reply::Lost`],
    /// until either side closes.
    Events,
    /// Asks for the quotas of all paths: [`Reply::Quotas`].
    QuotaShow,
    /// Forgets what a path has used of its quota in this period:
    /// [`Reply::Quotas`].
    QuotaReset {
        /// The path, as its quota names it.
        path: String,
    },
    /// Asks the agent to end and to leave everything in place for its
    /// successor: [`Reply::HandedOver`], just before it ends.
    HandOver,
}

/// A line from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyLine {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// The reply itself.
    #[serde(flatten)]
    pub reply: Reply,
}

/// A reply; field `reply` names its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The policy in force.
    Policy(PolicyView),
    /// The rules in force.
    Rules(RulesView),
    /// The state of the agent and its paths.
    Status(Box<Status>),
    /// Some of the connections; the last part says that it is the last.
    Connections(Connections),
    /// The quotas of all paths.
    Quotas(Quotas),
    /// The choices of the kernel's packet scheduler; only over HTTP.
    Scheduler(Scheduler),
    /// An event.
    Event(Event),
    /// Events were lost.
    Lost(Lost),
    /// The configuration file was read, and what differs is in force.
    Reloaded(Reloaded),
    /// The agent ends now.
    HandedOver,
    /// The request was not carried out, and nothing has changed.
    Error(Refusal),
}

/// The reason why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: ErrorCode,
    /// The reason, for people, in one line.
    pub message: String,
}

impl Refusal {
    /// Approximate limit for a message, bytes, since it may quote the request.
    const LONGEST: usize = 400;

    /// Creates a refusal. Makes one short line of `message`, whatever it
    /// quotes.
    pub fn new(code: ErrorCode, message: &str) -> Self {
        let mut message = one_line(message);
        if message.len() > Self::LONGEST {
            message.truncate(message.floor_char_boundary(Self::LONGEST));
            message.push('…');
        }
        Self { code, message }
    }
}

/// Replaces line breaks and other control characters, which must not reach a
/// terminal.
pub fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The line is not a JSON object with a version and a known request.
    Malformed,
    /// The line is longer than the agent reads.
    TooLong,
    /// The request is of another protocol version.
    Version,
    /// The client is neither root, nor the agent's user, nor in the socket's
    /// group. Or it is in the group, but the request needs one of the others.
    Forbidden,
    /// The agent serves as many clients as it can already.
    Busy,
    /// The request makes no sense, or is not possible on this host.
    Refused,
    /// The agent failed, or did not answer in time.
    Failed,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// The policy's settings.
    pub policy: Given,
    /// The backend that it acts with: `none`, `pacing` or `copies`.
    pub backend: String,
    /// The policy that comes back by itself, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// The answer to `reload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The policy in force now.
    pub policy: PolicyView,
    /// Whether it has changed.
    pub changed: bool,
    /// The settings that differ from those of the running agent and count only
    /// after a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// The settings that have no effect, each with its place in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The policy that follows when the time of `--for` is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Then {
    /// The policy that comes back.
    pub policy: Given,
    /// Seconds until then.
    pub in_seconds: f64,
}

/// The answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The agent itself.
    pub agent: Agent,
    /// The policy in force.
    pub policy: PolicyView,
    /// Every hook, attached or not.
    pub hooks: Vec<Hook>,
    /// The paths that the user named, and those that have ever been used and
    /// still exist.
    pub paths: Vec<Path>,
    /// Under the redundant policy: the number of pairs of addresses, by the
    /// state of the agent at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
    /// The weights that agents ask each other to use, and what has become of that;
    /// with `--ask-peer` or `--accept-peer-policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peering: Option<Peering>,
    /// Connections that are open.
    pub connections: u64,
    /// Subflows that are open.
    pub subflows: u64,
    /// Events that found the ring buffer full, in total.
    pub events_lost: u64,
    /// Connections and subflows that found their map full, in total.
    pub map_full: u64,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its version.
    pub version: String,
    /// The commit that it was built from, or `unknown`.
    pub commit: String,
    /// Its process id, in its own namespace.
    pub pid: u32,
    /// Seconds since it was started.
    pub uptime_seconds: f64,
    /// The first place where it serves metrics.
    pub listen: String,
    /// Every place where it serves metrics: `ADDR:PORT`, or `unix:PATH`.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// Whether the addresses of these have TLS.
    #[serde(default)]
    pub web_tls: bool,
    /// Whether the addresses of these ask for a password.
    #[serde(default)]
    pub web_auth: bool,
    /// Whether the programs outlive it, to lift its limits if it is killed.
    pub outlived: bool,
    /// Why they do not outlive it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_outlived_because: Option<String>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// The program's name.
    pub program: String,
    /// The purpose of the hook.
    pub purpose: String,
    /// Whether the program is attached.
    pub attached: bool,
    /// Why it is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A path. Rates and the round trip are those of the last 10 seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// Its label: the selector that named it, or its device.
    pub path: String,
    /// Whether a `--weight`, a `--prefer`, a `--limit` or a `--quota` names it.
    pub listed: bool,
    /// Whether its device exists; always true for a path that is no device.
    pub present: bool,
    /// The device, if the path is one; none for a path that is named otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Local addresses: those of its device, else those of its open subflows.
    pub addresses: Vec<String>,
    /// Number of open subflows.
    pub subflows: u64,
    /// Number of those that make progress or have nothing to send. Progress is
    /// checked only under the policies weighted and overflow. A subflow that is stale, or
    /// whose device has no carrier, never counts.
    pub alive: u64,
    /// Whether its device is up and has a carrier; none for a path that is no
    /// device, or whose device does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Why it is down: `absent`, `no-carrier`, `unanswered` (what is sent over it
    /// is not acknowledged) or `peer-silent` (an agent at the other end answers
    /// over other paths only). None if nothing says that it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// Seconds since a round trip was last measured on one of its subflows.
    /// Since then, it is unknown whether the path carries anything, unless
    /// something was received. None if no subflow is open, or if none has had a
    /// round trip measured since the agent knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<f64>,
    /// Its weight; only under the weighted policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Its rank, 1 being the preferred path; only under the overflow policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u16>,
    /// Why it is left out, or was until it is tried now; none if it is used, or
    /// has no bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// The most that this host may send over it, payload bytes per second; none
    /// without a `--limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<u64>,
    /// Its data plan; none without a `--quota`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<PathQuota>,
    /// Its part of all acknowledged bytes, 0 to 1; none without traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The share that is asked of it, 0 to 1: its weight over the sum of the weights of
    /// the paths that are named or in use; only under the weighted policy. A path that
    /// is left out has the weight that it has meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_share: Option<f64>,
    /// Mean of the round trips; none without samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_seconds: Option<f64>,
    /// Payload sent, retransmissions included.
    pub sent_bytes_per_second: f64,
    /// Payload sent and acknowledged.
    pub acked_bytes_per_second: f64,
    /// Payload received.
    pub received_bytes_per_second: f64,
    /// Segments retransmitted, in total.
    pub retransmitted_segments: u64,
    /// The choices of the kernel's scheduler, in total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Choices>,
    /// Copies, under the redundant policy only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<PathCopies>,
}

/// Why a path is left out. What was measured is what it was left out for, or what
/// its last trial showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// `loss` or `rtt`: the bound that it passed.
    pub reason: String,
    /// Whether it is tried now.
    pub tried: bool,
    /// Seconds since it was left out.
    pub for_seconds: f64,
    /// The part of its segments that it lost, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The largest part that it may lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_bound: Option<f64>,
    /// The mean of its round trips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_seconds: Option<f64>,
    /// The longest round trip that it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_bound_seconds: Option<f64>,
}
