//! The wishes of this agent to others, and of others to it.

use std::net::IpAddr;

use ipnet::IpNet;

/// The wishes in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peering {
    /// Whether this agent asks.
    pub asks: bool,
    /// The prefixes whose hosts may ask it.
    pub accepts: Vec<IpNet>,
    /// The peers that it asks.
    pub asked: Vec<AskedPeer>,
    /// Some of the addresses at which no agent answers.
    pub unanswered: Vec<IpAddr>,
    /// The peers that ask it.
    pub heard: Vec<HeardPeer>,
    /// Wishes that it has refused, in total.
    pub refused: u64,
}

/// The state of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WishState {
    /// It is not decided yet.
    Waits,
    /// It is in force.
    InForce,
    /// It was refused, or cannot be made.
    Refused,
    /// The peer takes no wishes.
    NotAccepted,
    /// The peer has fallen silent.
    Silent,
}

impl WishState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Waits,
        Self::InForce,
        Self::Refused,
        Self::NotAccepted,
        Self::Silent,
    ];

    /// Returns its name in metrics and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::InForce => "in-force",
            Self::Refused => "refused",
            Self::NotAccepted => "not-accepted",
            Self::Silent => "silent",
        }
    }
}

/// A peer that this agent asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedPeer {
    /// An address of the peer.
    pub remote: IpAddr,
    /// The state of the wish.
    pub state: WishState,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// A peer that asks this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardPeer {
    /// Its addresses and their weights, and whether the peer has proven to have
    /// each: only those count.
    pub weights: Vec<(IpAddr, u16, bool)>,
    /// The state of the wish.
    pub state: WishState,
    /// Why it was refused.
    pub reason: Option<String>,
}
