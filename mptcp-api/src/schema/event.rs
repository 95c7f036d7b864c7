//! Events, as the control socket and `events --json` show them.

use serde::{Deserialize, Serialize};

use super::Side;

/// The end that sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// The other host.
    Peer,
    /// This host.
    Local,
}

impl Sender {
    /// Returns the name that the JSON has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Local => "local",
        }
    }
}

/// An event. Its kind decides which fields it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The time at which it happened: RFC 3339, UTC, in microseconds.
    pub time: String,
    /// Its kind, as in `mptcp_agent_events_total{event}`.
    pub event: String,
    /// The label of the path.
    pub path: String,
    /// The connection's token, eight hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Local address and port of the subflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Remote address and port of the subflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Address id of the local end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_id: Option<u8>,
    /// Address id of the remote end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<u8>,
    /// The end of the connection that this host is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// `subflow_closed`: the reason. `path_left_out` and what follows it: `loss`,
    /// `rtt`, or `idle` if the path was tried and nothing was sent over it.
    /// `path_quota_renewed`: `period`, `reset` or `policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `subflow_closed`: seconds since it was established; none if it is older
    /// than the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
    /// `subflow_closed` by a reset: the end that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_by: Option<Sender>,
    /// `subflow_closed` by a reset: the reason that its option MP_TCPRST gave
    /// (RFC 8684, 3.6); none without the option, or if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_reason: Option<String>,
    /// `subflow_closed` by a reset with a reason: whether the condition is
    /// transient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_transient: Option<bool>,
    /// `subflow_closed` by a reset: whether a subflow was reset within five
    /// seconds of its join, while its connection was in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_early: Option<bool>,
    /// `priority`: whether the subflow is a backup now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<bool>,
    /// `stale`: whether the subflow is stale now.
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
    /// `path_left_out` and what follows it: the part of its segments that the path
    /// lost, 0 to 1; none if it sent nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// In the same events: the largest part that it may lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_bound: Option<f64>,
    /// In the same events: the mean of its round trips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_seconds: Option<f64>,
    /// In the same events: the longest round trip that it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_bound_seconds: Option<f64>,
    /// `path_quota_spent` and `path_quota_renewed`: bytes used in this period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// In the same events: bytes that may be used in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// In the same events: when the next period begins; RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The subflow's socket cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

/// Number of events that were lost since the last such line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Lost in the kernel, where the ring buffer was full.
    pub in_ring: u64,
    /// Lost in the agent, since this client read too slowly.
    pub to_client: u64,
}
