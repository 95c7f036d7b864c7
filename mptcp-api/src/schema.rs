//! What goes over the control socket: one JSON object a line, in both
//! directions. docs/control-protocol.md describes it for other programs.
//!
//! Versioned: a field may be added under the same [`VERSION`]; one that goes,
//! or changes its meaning, raises it. `--json` prints these same types, so
//! that there is one schema to learn.
//!
//! Types and their JSON only.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of the protocol and of what `--json` prints.
pub const VERSION: u32 = 1;

/// A line to the agent; [`crate::line::decode`] reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestLine {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What can be asked; `request` names it. Unknown fields are refused: a
/// misspelt `for_seconds` must not be for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The policy in force: [`Reply::Policy`].
    PolicyShow,
    /// Another policy: [`Reply::Policy`], once it is in force.
    PolicySet {
        /// The new one.
        policy: PolicySettings,
        /// Seconds after which the one before comes back by itself, 1 or more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_seconds: Option<u64>,
    },
    /// How the agent and its paths are: [`Reply::Status`].
    Status,
    /// Every connection: [`Reply::Connections`], once or more.
    Connections,
    /// From now on, every event: [`Reply::Event`] and [`Reply::Lost`], until
    /// either side closes.
    Events,
    /// The agent is to end and leave everything in place for its successor:
    /// [`Reply::HandedOver`], just before it ends.
    HandOver,
}

/// A line from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyLine {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// What it says.
    #[serde(flatten)]
    pub reply: Reply,
}

/// What can be answered; `reply` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The policy in force.
    Policy(PolicyView),
    /// How the agent is.
    Status(Box<Status>),
    /// Some connections; the last part says so.
    Connections(Connections),
    /// Something happened.
    Event(Event),
    /// Events were lost.
    Lost(Lost),
    /// The agent ends now.
    HandedOver,
    /// It is not done, and nothing has changed.
    Error(Refusal),
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: one line.
    pub message: String,
}

impl Refusal {
    /// Bytes of a message, about: it may quote what was sent.
    const LONGEST: usize = 400;

    /// Makes one line of `message`, whatever it quotes.
    pub fn new(code: ErrorCode, message: &str) -> Self {
        let mut message = one_line(message);
        if message.len() > Self::LONGEST {
            message.truncate(message.floor_char_boundary(Self::LONGEST));
            message.push('…');
        }
        Self { code, message }
    }
}

/// The text without line breaks and other control characters, which would
/// reach a terminal.
pub fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Not a JSON object with a version and a known request.
    Malformed,
    /// A longer line than the agent reads.
    TooLong,
    /// A request of another protocol version.
    Version,
    /// The peer is neither root, nor the agent's user, nor of the socket's group.
    Forbidden,
    /// As many clients as the agent serves.
    Busy,
    /// What was asked makes no sense, or cannot be had on this host.
    Refused,
    /// The agent could not find out.
    Failed,
}

/// A policy, in the words of the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    /// `--policy`.
    pub name: String,
    /// `--weighted-mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_mode: Option<String>,
    /// Each `--weight`, as `SELECTOR=N`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<String>,
    /// `--redundant-copies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_copies: Option<u32>,
    /// `--redundant-port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_port: Option<u16>,
    /// `--redundant-key`: a file on the agent's host, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_key: Option<PathBuf>,
    /// `--redundant-budget`, such as `40mbit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_budget: Option<String>,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// What it is.
    pub policy: PolicySettings,
    /// What it acts with: `none`, `pacing` or `copies`.
    pub backend: String,
    /// The policy that comes back by itself, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// What `--for` has in store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Then {
    /// The policy that comes back.
    pub policy: PolicySettings,
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
    /// The paths that were named, or have ever been used and are still there.
    pub paths: Vec<Path>,
    /// Under the redundant policy: pairs of addresses, by what is known of the
    /// agent at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
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
    /// Where it serves metrics.
    pub listen: String,
    /// Whether the programs outlive it, to lift what it has set.
    pub outlived: bool,
    /// Why they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_outlived_because: Option<String>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// The program's name.
    pub program: String,
    /// What it is for.
    pub purpose: String,
    /// Whether it is in place.
    pub attached: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A path. Rates and the round trip are those of the last 10 seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// Its label: the selector that named it, or its device.
    pub path: String,
    /// Whether a `--weight` names it.
    pub listed: bool,
    /// Whether its device is there; a path that is no device's always is.
    pub present: bool,
    /// The device that it is; none for a path that is named otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Local addresses: its device's, else those of its open subflows.
    pub addresses: Vec<String>,
    /// Open subflows.
    pub subflows: u64,
    /// Of those, how many make progress or have nothing to send. Whether they
    /// make progress is judged under the weighted policy only. One that is
    /// stale, or whose device has no carrier, never counts.
    pub alive: u64,
    /// Whether its device is up and has a carrier; none for a path that is no
    /// device, or whose device is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Seconds since a round trip was last measured on one of its subflows:
    /// since then it is not known whether the path carries anything, unless
    /// something is received. None if no subflow is open, or none of them had
    /// one since the agent knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<f64>,
    /// Its weight; only under the weighted policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Its part of all acknowledged bytes, 0 to 1; none without traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
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
    /// Under the redundant policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<PathCopies>,
}

/// Copies of one path, in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCopies {
    /// Sent.
    pub sent: u64,
    /// Not sent, for whatever reason.
    pub dropped: u64,
    /// Came before their original.
    pub received_first: u64,
    /// Came after it.
    pub received_duplicate: u64,
}

/// Pairs of addresses: as in `mptcp_redundant_peers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// An agent answers.
    pub proven: u64,
    /// One did.
    pub silent: u64,
    /// None has yet.
    pub asking: u64,
    /// One whose proof is wrong.
    pub refused: u64,
}

/// Part of the answer to `connections`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// In no order.
    pub connections: Vec<Connection>,
    /// Whether this is the last part.
    pub last: bool,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its token at this end (RFC 8684, 3.2), eight hexadecimal digits; none
    /// while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Who opened it.
    pub side: Side,
    /// The peer has no MPTCP: plain TCP.
    pub fallback: bool,
    /// Whether the weighted policy holds it back now; it leaves thin
    /// connections, and those with one path, alone.
    pub steered: bool,
    /// Under the redundant policy: whether its peer is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_proven: Option<bool>,
    /// Its open subflows.
    pub subflows: Vec<Subflow>,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// This host.
    Client,
    /// The other.
    Server,
}

impl Side {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A subflow. Bytes are payload, since it was established.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subflow {
    /// Its socket's cookie, as `ss -e` prints it in hexadecimal.
    pub cookie: u64,
    /// The label of its path.
    pub path: String,
    /// The device that carries it; none if not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Local address and port.
    pub local: String,
    /// Remote address and port.
    pub remote: String,
    /// Address id of the local end (RFC 8684, 3.2); none while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_id: Option<u8>,
    /// Address id of the remote end; none while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<u8>,
    /// Whether it joined (MP_JOIN); else it is the connection's first.
    pub joined: bool,
    /// MP_PRIO or its endpoint says backup.
    pub backup: bool,
    /// The kernel found it unable to carry data.
    pub stale: bool,
    /// Its route locks the congestion control, so that no weight of 0 holds it
    /// out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub congestion_locked: bool,
    /// Whether its path makes progress, as the weighted policy judges, and its
    /// device has a carrier.
    pub alive: bool,
    /// Seconds since a round trip was last measured on it; none if there was
    /// none since the agent knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<f64>,
    /// Smoothed round trip; none while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtt_seconds: Option<f64>,
    /// Least round trip of late; none while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rtt_seconds: Option<f64>,
    /// Congestion window, segments; none where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwnd_segments: Option<u32>,
    /// Sent, retransmissions included.
    pub sent_bytes: u64,
    /// Sent and acknowledged.
    pub acked_bytes: u64,
    /// Received.
    pub received_bytes: u64,
    /// Segments retransmitted.
    pub retransmitted_segments: u32,
    /// Given to it and not sent yet.
    pub queued_bytes: u32,
    /// Its part of what the connection's open subflows had acknowledged, 0 to
    /// 1; none before there is anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// `SO_MAX_PACING_RATE`; none if the agent has set none. 0: held out
    /// (standby).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_bytes_per_second: Option<u32>,
    /// `TCP_NOTSENT_LOWAT`; none if the agent has set none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_limit_bytes: Option<u32>,
    /// Copies of its segments that were sent over other paths.
    pub copies_sent: u64,
}

/// Something that happened. Which fields there are depends on the event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When: RFC 3339, UTC, to the microsecond.
    pub time: String,
    /// What: as in `mptcp_agent_events_total{event}`.
    pub event: String,
    /// The label of the path.
    pub path: String,
    /// The connection's token, eight hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Local address and port of the subflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Remote address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Address id of the local end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_id: Option<u8>,
    /// Address id of the remote end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<u8>,
    /// Who opened the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// `subflow_closed`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `priority`: what the subflow is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<bool>,
    /// `stale`: what the subflow is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<bool>,
    /// `subflow_closed`: payload sent, retransmissions included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// `subflow_closed`: payload acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked_bytes: Option<u64>,
    /// `subflow_closed`: payload received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// The subflow's socket cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

/// Events that did not get through, since the last line that said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// In the kernel: they found the ring buffer full.
    pub in_ring: u64,
    /// In the agent: this client read too slowly.
    pub to_client: u64,
}
