//! The weights that agents ask each other to use: `--ask-peer` and `--accept-peer-policy`.

use serde::{Deserialize, Serialize};

/// The wishes, and who has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peering {
    /// Whether this agent asks the agents at the other ends to use its weights.
    pub asks: bool,
    /// The prefixes whose hosts may ask this one.
    pub accepts: Vec<String>,
    /// The agents that it asks.
    pub asked: Vec<AskedPeer>,
    /// Some of the addresses at which no agent answers that takes wishes.
    pub unanswered: Vec<String>,
    /// The agents that ask it.
    pub heard: Vec<HeardPeer>,
    /// Wishes that it has refused, in total.
    pub refused: u64,
}

/// An agent that is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedPeer {
    /// An address of the agent.
    pub address: String,
    /// `waits`, `in-force`, `refused`, `not-accepted` or `silent`.
    pub state: String,
    /// Why it refuses, or why it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An agent that asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeardPeer {
    /// The weights that it asks for.
    pub weights: Vec<PeerWeight>,
    /// `waits`, `in-force` or `refused`.
    pub state: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The weight of an address of an agent that asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerWeight {
    /// The address.
    pub address: String,
    /// The weight of the path to it.
    pub weight: u16,
    /// Whether the agent has proven that it has the address; only then the weight
    /// counts.
    pub proven: bool,
}
