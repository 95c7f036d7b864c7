//! What is told of the peers: counts for the metrics, notices for the log.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use mptcp_common::abi::redundant::LinkKey;

use super::{address, links::Crowded, schedule};

/// Addresses of which something was told, and sources that were refused, that
/// are remembered: one that sends from many is not to fill memory or the log.
const REMEMBERED: usize = 1024;

/// Links by state, and messages by what became of them. Messages are totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Links whose peer is there.
    pub proven: u64,
    /// Links whose peer was there, and says nothing valid any more.
    pub silent: u64,
    /// Pairs of addresses where hellos go and nobody has answered.
    pub asking: u64,
    /// Sources of messages whose HMAC was wrong lately (30 s).
    pub refused: u64,
    /// Messages that proved their sender, for whose link there was no room: its
    /// address had its share of them, and all were taken.
    pub crowded: [u64; 2],
    /// Messages.
    pub hellos: Hellos,
}

/// Hellos and answers, totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hellos {
    /// Hellos sent.
    pub sent: u64,
    /// Answers sent.
    pub answered: u64,
    /// Hellos and answers received that proved their sender, here and now.
    pub verified: u64,
    /// Received with a wrong HMAC, in the wrong direction, or from where the
    /// subflow is not; and answers to no hello of late. (A hello that is not
    /// fresh is merely answered.)
    pub refused: u64,
    /// Received, and no message of this protocol.
    pub malformed: u64,
    /// Received about a connection or subflow that is not known (yet).
    pub unknown: u64,
}

/// Something for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A peer has proven to be there; again, if it had fallen silent.
    Proven {
        /// Its address.
        remote: IpAddr,
    },
    /// It says nothing valid any more.
    Silent {
        /// Its address.
        remote: IpAddr,
    },
    /// Nobody proves to be there: copies are not sent. Once per address.
    NoAgent {
        /// Its address.
        remote: IpAddr,
    },
    /// A wrong HMAC: not the same `--redundant-key`, or a forgery. Once per
    /// address.
    Refused {
        /// Where it came from.
        remote: IpAddr,
    },
    /// A peer has proven to be there, and there is no room for a link to it.
    /// Once per address.
    Crowded {
        /// Its address.
        remote: IpAddr,
        /// The address has its share already; else there are too many in all.
        quota: bool,
    },
}

/// Collects both.
#[derive(Debug, Default)]
pub struct Report {
    /// Messages so far.
    pub hellos: Hellos,
    /// See [`Counts::crowded`].
    pub crowded: [u64; 2],
    notices: Vec<Notice>,
    /// What was told last of a local and a remote address: whether it is there.
    there: HashMap<([u8; 16], [u8; 16]), bool>,
    no_agent: HashSet<[u8; 16]>,
    refused: HashSet<[u8; 16]>,
    without_room: HashSet<[u8; 16]>,
    refused_lately: VecDeque<(u64, LinkKey)>,
}

impl Report {
    /// A link's peer is there, or is not any more.
    pub fn there(&mut self, road: &LinkKey, there: bool) {
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

    /// There seems to be no agent.
    pub fn no_agent(&mut self, remote: [u8; 16]) {
        if remember(&mut self.no_agent, remote) {
            self.tell(Notice::NoAgent {
                remote: address(remote),
            });
        }
    }

    /// A wrong HMAC.
    pub fn refused(&mut self, road: LinkKey, now_ns: u64) {
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

    /// There is no room for a link.
    pub fn crowded(&mut self, road: &LinkKey, why: Crowded) {
        let quota = why == Crowded::Quota;
        self.crowded[usize::from(!quota)] += 1;
        if remember(&mut self.without_room, road.remote) {
            self.tell(Notice::Crowded {
                remote: address(road.remote),
                quota,
            });
        }
    }

    /// Forgets wrong HMACs that are no longer lately.
    pub fn forget_refused(&mut self, now_ns: u64) {
        while self
            .refused_lately
            .pop_front_if(|(until_ns, _)| *until_ns <= now_ns)
            .is_some()
        {}
    }

    /// Where wrong HMACs came from lately.
    pub fn refused_lately(&self, now_ns: u64) -> HashSet<LinkKey> {
        self.refused_lately
            .iter()
            .filter(|(until_ns, _)| *until_ns > now_ns)
            .map(|(_, road)| *road)
            .collect()
    }

    /// Notices since they were last taken.
    pub fn take(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn tell(&mut self, notice: Notice) {
        if self.notices.len() < REMEMBERED {
            self.notices.push(notice);
        }
    }
}

/// Whether it is new, and there is room to remember it.
fn remember(told: &mut HashSet<[u8; 16]>, remote: [u8; 16]) -> bool {
    told.len() < REMEMBERED && told.insert(remote)
}
