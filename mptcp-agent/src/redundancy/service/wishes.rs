//! The peers that ask for weights, or are asked: what the rest of the agent has to
//! do with them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use mptcp_api::wish::Answer;

use super::{Known, Service, now_ns};
use crate::redundancy::output::log_wishing;
use crate::redundancy::peers::{Change, Heard, Own, Peers, Reply};

/// The most addresses without an agent that are shown.
const SHOWN: usize = 8;

/// The weights that the agent asks for, and whether others may ask it.
#[derive(Clone, Debug, Default)]
pub struct Wishing {
    /// The wish of this agent.
    pub own: Own,
    /// Whether others may ask.
    pub accepts: bool,
}

/// The addresses of the channels of peers with wishes, for the gate.
#[derive(Default)]
pub(super) struct KnownChannels {
    known: Known,
    channels: HashMap<u32, SocketAddr>,
}

impl KnownChannels {
    /// Returns the addresses.
    pub fn addresses(&self) -> Known {
        self.known.clone()
    }

    fn set(&mut self, index: u32, remote: Option<SocketAddr>) {
        let before = match remote {
            Some(remote) => self.channels.insert(index, remote),
            None => self.channels.remove(&index),
        };
        if before != remote {
            if let Some(before) = before {
                self.known.set(before, false);
            }
            if let Some(remote) = remote {
                self.known.set(remote, true);
            }
        }
    }
}

impl Service {
    /// Returns whether segments are copied.
    pub fn copies(&self) -> bool {
        self.copies
    }

    /// Changes what the agent asks its peers for.
    pub fn ask(&mut self, own: Own) {
        if let Some(wishing) = &mut self.wishing {
            wishing.ask_for(own);
        }
    }

    /// Returns the wishes that have arrived since the last call.
    pub fn heard(&mut self) -> Vec<Heard> {
        let wishing = self.wishing.as_mut();
        wishing.map_or_else(Vec::new, Peers::heard)
    }

    /// Says what to answer each peer that has a wish.
    pub fn answers(&mut self, answers: Vec<(u64, Answer)>) {
        if let Some(wishing) = &mut self.wishing {
            wishing.answers(answers);
        }
    }

    /// Returns what the peers say that are asked, and some of the addresses at
    /// which no agent answers.
    pub fn replies(&self) -> (Vec<Reply>, Vec<IpAddr>) {
        let wishing = self.wishing.as_ref();
        let replies = wishing.map(|peers| (peers.replies(now_ns()), peers.unanswered(SHOWN)));
        replies.unwrap_or_default()
    }

    /// Says how many datagrams were no messages since this was called last. Under
    /// the redundant policy alone, only a metric does.
    pub(super) fn tell_malformed(&mut self) {
        let malformed = self.dropped.malformed.load(Ordering::Relaxed);
        let more = malformed - std::mem::replace(&mut self.told_malformed, malformed);
        if more > 0 && self.wishing.is_some() {
            tracing::warn!(
                refused = more,
                "datagrams to the agents' UDP port are refused: they are no messages of this \
                 version"
            );
        }
    }

    /// Takes what has changed among the peers with wishes. The kernel's maps are
    /// for copies, so nothing of it goes there.
    pub(super) fn after_wishes(&mut self) {
        let Some(wishing) = &mut self.wishing else {
            return;
        };
        for change in wishing.changes() {
            if let Change::Channel(index, channel) = change {
                let remote = channel.map(|channel| {
                    SocketAddr::new(
                        IpAddr::from(channel.remote).to_canonical(),
                        channel.remote_port,
                    )
                });
                self.known_wishing.set(index, remote);
            }
        }
        wishing.notices().into_iter().for_each(log_wishing);
    }
}
