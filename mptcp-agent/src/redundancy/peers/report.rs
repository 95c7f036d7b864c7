//! Reports about the peers: counts for the metrics, notices for the log.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use mptcp_common::abi::redundant::ChannelKey;

use super::{address, channels::Crowded, schedule};

/// Number of addresses with a notice, and of refused sources, that are
/// remembered. It is limited so that somebody who sends from many addresses can
/// fill neither memory nor the log.
const REMEMBERED: usize = 1024;

/// Channels by state, and messages by result. Messages are totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Channels whose peer is present.
    pub proven: u64,
    /// Channels whose peer was present, and sends nothing valid any more.
    pub silent: u64,
    /// Pairs of addresses between which hellos go out and nobody has answered.
    pub asking: u64,
    /// Sources of messages with a wrong HMAC in the last 30 s.
    pub refused: u64,
    /// Messages that proved a sender for whose channel there was no room: at 0,
    /// because its address had its quota; at 1, because all channels were
    /// taken.
    pub crowded: [u64; 2],
    /// Messages by result.
    pub hellos: Hellos,
}

/// Hellos and answers, totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hellos {
    /// Hellos sent.
    pub sent: u64,
    /// Answers sent.
    pub answered: u64,
    /// Hellos and answers received that were fresh and proved their sender.
    pub verified: u64,
    /// Messages received with a wrong HMAC, in the wrong direction, or on an
    /// address that is not the subflow's; and answers to no recent hello. (A
    /// hello that is not fresh is merely answered.)
    pub refused: u64,
    /// Datagrams received that are no message of this protocol.
    pub malformed: u64,
    /// Messages received about a connection or subflow that is not known (yet).
    pub unknown: u64,
}

/// An entry for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer has proven to be present, for the first time or after silence.
    Proven {
        /// Its address.
        remote: IpAddr,
    },
    /// A peer sends nothing valid any more.
    Silent {
        /// Its address.
        remote: IpAddr,
    },
    /// No peer proves itself, so copies are not sent. Once per address.
    NoAgent {
        /// Its address.
        remote: IpAddr,
    },
    /// A message had a wrong HMAC: the `--redundant-key` is not the same, or
    /// somebody forged it. Once per address.
    Refused {
        /// Where it came from.
        remote: IpAddr,
    },
    /// A peer has proven to be present, but there is no room for a channel to
    /// it. Once per address.
    Crowded {
        /// Its address.
        remote: IpAddr,
        /// Whether its address has its quota already; else all channels are
        /// taken.
        quota: bool,
    },
}

/// Collects counts and notices.
#[derive(Debug, Default)]
pub struct Report {
    /// Messages so far.
    pub hellos: Hellos,
    /// See [`Counts::crowded`].
    pub crowded: [u64; 2],
    notices: Vec<Notice>,
    /// Whether the peer is present, as reported last for this local and remote
    /// address.
    there: HashMap<([u8; 16], [u8; 16]), bool>,
    no_agent: HashSet<[u8; 16]>,
    refused: HashSet<[u8; 16]>,
    without_room: HashSet<[u8; 16]>,
    refused_lately: VecDeque<(u64, ChannelKey)>,
}

impl Report {
    /// Reports that a channel's peer is present, or no longer is.
    pub fn there(&mut self, road: &ChannelKey, there: bool) {
        let pair = (road.local, road.remote);
        if there {
            self.no_agent.remove(&road.remote);
            self.refused.remove(&road.remote);
            self.without_room.remove(&road.remote);
        }
        if self.there.len() >= REMEMBERED && !self.there.contains_key(&pair) {
            self.there.clear();
        }
        if self.there.insert(pair, there) != Some(there) {
            let remote = address(road.remote);
            self.tell(if there {
                Notice::Proven { remote }
            } else {
                Notice::Silent { remote }
            });
        }
    }

    /// Reports that there seems to be no agent.
    pub fn no_agent(&mut self, remote: [u8; 16]) {
        if remember(&mut self.no_agent, remote) {
            self.tell(Notice::NoAgent {
                remote: address(remote),
            });
        }
    }

    /// Reports a wrong HMAC.
    pub fn refused(&mut self, road: ChannelKey, now_ns: u64) {
        self.forget_refused(now_ns);
        if self.refused_lately.len() >= REMEMBERED {
            self.refused_lately.pop_front();
        }
        self.refused_lately
            .push_back((now_ns.saturating_add(schedule::REFUSED), road));
        if remember(&mut self.refused, road.remote) {
            self.tell(Notice::Refused {
                remote: address(road.remote),
            });
        }
    }

    /// Reports that there is no room for a channel.
    pub fn crowded(&mut self, road: &ChannelKey, why: Crowded) {
        let quota = why == Crowded::Quota;
        self.crowded[usize::from(!quota)] += 1;
        if remember(&mut self.without_room, road.remote) {
            self.tell(Notice::Crowded {
                remote: address(road.remote),
                quota,
            });
        }
    }

    /// Forgets wrong HMACs that are no longer recent.
    pub fn forget_refused(&mut self, now_ns: u64) {
        while self
            .refused_lately
            .pop_front_if(|(until_ns, _)| *until_ns <= now_ns)
            .is_some()
        {}
    }

    /// Returns the sources of recent wrong HMACs.
    pub fn refused_lately(&self, now_ns: u64) -> HashSet<ChannelKey> {
        self.refused_lately
            .iter()
            .filter(|(until_ns, _)| *until_ns > now_ns)
            .map(|(_, road)| *road)
            .collect()
    }

    /// Takes the notices since the last call.
    pub fn take(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn tell(&mut self, notice: Notice) {
        if self.notices.len() < REMEMBERED {
            self.notices.push(notice);
        }
    }
}

/// Remembers an address. Returns whether it is new and there is room for it.
fn remember(remembered: &mut HashSet<[u8; 16]>, remote: [u8; 16]) -> bool {
    remembered.len() < REMEMBERED && remembered.insert(remote)
}
