//! Copies and peers, under the redundant policy, in numbers.

use serde::{Deserialize, Serialize};

/// Totals of the copies of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCopies {
    /// Copies sent.
    pub sent: u64,
    /// Copies not sent, for any reason.
    pub dropped: u64,
    /// Copies that arrived before their original.
    pub received_first: u64,
    /// Copies that arrived after their original.
    pub received_duplicate: u64,
    /// Payload bytes that a copy delivered before their original.
    #[serde(default)]
    pub rescued_bytes: u64,
}

/// Numbers of pairs of addresses by state, as in `mptcp_redundant_peers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Pairs where an agent answers.
    pub proven: u64,
    /// Pairs where an agent has answered, but no longer does.
    pub silent: u64,
    /// Pairs where no agent has answered yet.
    pub asking: u64,
    /// Pairs where an agent's proof is wrong.
    pub refused: u64,
}
