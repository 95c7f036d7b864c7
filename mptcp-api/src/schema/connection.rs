//! Connections and their subflows.

use serde::{Deserialize, Serialize};

/// Part of the answer to `connections`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// The connections, in no particular order; over HTTP, the busiest first.
    pub connections: Vec<Connection>,
    /// Whether this is the last part.
    pub last: bool,
    /// Over HTTP only: how many connections are open, of which the busiest are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its token at this end (RFC 8684, 3.2), eight hexadecimal digits; none
    /// while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The end that this host is: the client opened the connection.
    pub side: Side,
    /// Whether it fell back to plain TCP, since the other end has no MPTCP.
    pub fallback: bool,
    /// Whether the policy limits it now. The weighted policy leaves thin
    /// connections, and those with one path, alone. The overflow policy holds
    /// paths out.
    pub steered: bool,
    /// The name of its policy, as rules call it; `default` if no rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The rule that has chosen the policy: its name, or else its number; none
    /// if no rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether its peer is proven, under the redundant policy only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_proven: Option<bool>,
    /// How many subflows this host's endpoints allow it, its first included;
    /// none if not known, as at the server's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subflows_allowed: Option<u64>,
    /// Whether it has fewer subflows than that, and has had the time to open
    /// them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
    /// Payload acknowledged, over the last seconds; only over HTTP, and none if it is
    /// not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked_bytes_per_second: Option<f64>,
    /// Payload received, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes_per_second: Option<f64>,
    /// Its open subflows.
    pub subflows: Vec<Subflow>,
}

/// The end of a connection that this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// This host opened it.
    Client,
    /// The other host opened it.
    Server,
}

impl Side {
    /// Returns the name that the JSON has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A subflow. Bytes are payload bytes since it was established.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subflow {
    /// Its socket's cookie; `ss -e` prints the same in hexadecimal.
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
    /// Whether it joined (MP_JOIN); else it is the connection's first subflow.
    pub joined: bool,
    /// Whether it is a backup, by MP_PRIO or by its endpoint.
    pub backup: bool,
    /// Whether the kernel found it unable to carry data.
    pub stale: bool,
    /// Whether its route locks the congestion control, so that it
    /// cannot be held out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub congestion_locked: bool,
    /// Whether it is not stale, its device has a carrier, and the policy (if
    /// it is weighted or overflow) sees its path make progress.
    pub alive: bool,
    /// Seconds since a round trip was last measured on it; none if none was
    /// measured since the agent knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<f64>,
    /// Smoothed round-trip time; none while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtt_seconds: Option<f64>,
    /// Least recent round-trip time; none while not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rtt_seconds: Option<f64>,
    /// Congestion window, segments; none if the kernel does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwnd_segments: Option<u32>,
    /// Bytes sent, retransmissions included.
    pub sent_bytes: u64,
    /// Bytes sent and acknowledged.
    pub acked_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Payload acknowledged, over the last seconds; only over HTTP, and none if it is
    /// not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked_bytes_per_second: Option<f64>,
    /// Payload received, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes_per_second: Option<f64>,
    /// Segments retransmitted.
    pub retransmitted_segments: u32,
    /// Bytes given to it and not sent yet.
    pub queued_bytes: u32,
    /// Its part of the acknowledged bytes of the connection's open subflows, 0
    /// to 1; none while there are no such bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// `SO_MAX_PACING_RATE`; none if the agent has set none; 0 on standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_bytes_per_second: Option<u32>,
    /// `TCP_NOTSENT_LOWAT`; none if the agent has set none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_limit_bytes: Option<u32>,
    /// Copies of its segments that were sent over other paths.
    pub copies_sent: u64,
}
