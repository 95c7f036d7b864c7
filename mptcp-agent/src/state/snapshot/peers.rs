//! The agents at the other ends, and the messages with them, in numbers.

use std::collections::BTreeMap;

/// The state of the agent between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// It answers, and has proven that it knows the key.
    Proven,
    /// It was proven, and sends nothing valid any more.
    Silent,
    /// Hellos go out, and nobody has answered yet.
    Asking,
    /// Its proof was wrong, within the last 30 s.
    Refused,
}

/// Why a proven peer has no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoRoom {
    /// Its address has its quota of channels.
    Quota,
    /// All channels are taken.
    Full,
}

/// The fate of a message of peer discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hello {
    /// A hello that was sent.
    Sent,
    /// An answer that was sent.
    Answered,
    /// A message that was fresh and proved its sender.
    Verified,
    /// A message with a wrong proof, or that does not belong where it came.
    Refused,
    /// A datagram that is no such message.
    Malformed,
    /// A message about a connection or subflow that is not known (yet).
    Unknown,
    /// A datagram that came too fast to be read.
    Dropped,
}

/// The peers, in numbers. A state or a fate that is missing counts as 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Pairs of addresses, by the state of the agent at the other end.
    pub states: BTreeMap<PeerState, u64>,
    /// Messages of proven peers whose channel found no room.
    pub no_room: BTreeMap<NoRoom, u64>,
    /// Hellos and answers, totals.
    pub hellos: BTreeMap<Hello, u64>,
}

impl Peers {
    /// Returns the number of pairs of addresses in this state.
    pub fn count(&self, state: PeerState) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }
}
