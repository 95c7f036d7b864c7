//! Wishes: the weights that this agent asks others for, and those that it is asked
//! for.
//!
//! They travel in the blocks of hellos and answers (`mptcp_api::wish`), so what
//! holds for those holds for wishes: only a sender that has just returned a fresh
//! nonce under the right HMAC has one, each hello counts once, and the gate limits
//! their rate. A hello asks only for the addresses of its own connection, so that
//! no peer learns of others.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use mptcp_api::hello::BLOCK;
use mptcp_api::wish::{Answer, Asked, Fault, Manner, Wish};

use super::{Peers, Settings, address};

/// How long an answer counts without another one, nanoseconds: as long as a wish
/// does at the other end.
const SILENT: u64 = 3_000_000_000;

/// How long a silent peer is remembered, nanoseconds.
const FORGET: u64 = 60_000_000_000;

/// The most peers whose answers are remembered.
const MOST: usize = 1024;

/// The wish of this agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Own {
    /// It never asks, and sends no hellos by itself.
    #[default]
    Never,
    /// It has no weights now.
    NoMore,
    /// These weights, by index of the path; `None`: no such path.
    Weights(Manner, Vec<Option<u16>>),
}

/// A wish that has arrived from a peer that has proven itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The peer's agent id.
    pub peer: u64,
    /// The address that it came from, which is the peer's.
    pub from: IpAddr,
    /// The wish.
    pub asked: Result<Asked, Fault>,
}

/// The answer of a peer that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// An address of the peer: the one that answered last.
    pub remote: IpAddr,
    /// Its answer; an error says why it cannot be asked.
    pub answer: Result<Answer, &'static str>,
    /// Whether it has answered lately.
    pub present: bool,
}

/// See [`Reply`].
#[derive(Debug)]
struct Replied {
    remote: IpAddr,
    answer: Result<Answer, &'static str>,
    at_ns: u64,
}

/// The wishes, and who has them.
#[derive(Debug, Default)]
pub(super) struct Wishing {
    own: Own,
    /// Whether others may ask.
    accepts: bool,
    replied: BTreeMap<u64, Replied>,
    heard: Vec<Heard>,
    /// The answer to each peer's wish.
    answers: HashMap<u64, Answer>,
}

impl Wishing {
    /// Returns whether the agent sends hellos by itself.
    pub fn asks(&self) -> bool {
        self.own != Own::Never
    }
}

impl Peers {
    /// Starts without peers, for wishes only. Others may ask if it `accepts`.
    #[must_use]
    pub fn for_wishes(
        settings: Settings,
        own: Own,
        accepts: bool,
        random: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        let mut peers = Self::new(settings, random);
        peers.wishing = Some(Wishing {
            own,
            accepts,
            ..Wishing::default()
        });
        peers
    }

    /// Changes what to ask for. The next hellos say so.
    pub fn ask_for(&mut self, own: Own) {
        if let Some(wishing) = &mut self.wishing {
            wishing.own = own;
        }
    }

    /// Returns the wishes that have arrived since the last call.
    pub fn heard(&mut self) -> Vec<Heard> {
        let wishing = self.wishing.as_mut();
        wishing.map_or_else(Vec::new, |wishing| std::mem::take(&mut wishing.heard))
    }

    /// Says what to answer each peer that has a wish.
    pub fn answers(&mut self, answers: Vec<(u64, Answer)>) {
        if let Some(wishing) = &mut self.wishing {
            wishing.answers = answers.into_iter().collect();
        }
    }

    /// Returns what the peers say that are asked.
    pub fn replies(&self, now_ns: u64) -> Vec<Reply> {
        let replied = self.wishing.iter().flat_map(|wishing| &wishing.replied);
        let replied = replied.filter(|(_, one)| one.at_ns.saturating_add(FORGET) > now_ns);
        replied
            .map(|(_, one)| Reply {
                remote: one.remote,
                answer: one.answer.clone(),
                present: one.at_ns.saturating_add(SILENT) > now_ns,
            })
            .collect()
    }

    /// Returns some of the addresses at which no agent has answered a hello.
    pub fn unanswered(&self, most: usize) -> Vec<IpAddr> {
        let roads = self.asking.keys();
        let roads = roads.filter(|road| !self.channels.leads_to_a_peer(road));
        let mut remotes: Vec<IpAddr> = roads.map(|road| address(road.remote)).collect();
        remotes.sort_unstable();
        remotes.dedup();
        remotes.truncate(most);
        remotes
    }

    /// Returns the block of a hello about a connection; `None` if hellos have none.
    pub(super) fn asked(&mut self, key: u64, remote: IpAddr, now_ns: u64) -> Option<[u8; BLOCK]> {
        let wishing = self.wishing.as_ref()?;
        let asked = match &wishing.own {
            Own::Never => Ok(Asked::Nothing),
            Own::NoMore => Ok(Asked::NoMore),
            Own::Weights(manner, weights) => self.wish(key, weights).map(|weights| {
                Asked::Weights(Wish {
                    manner: *manner,
                    weights,
                })
            }),
        };
        let peer = self.connections.get(key).map_or(0, |known| known.peer);
        let asked = asked.unwrap_or_else(|obstacle| {
            if peer != 0 {
                self.reply(peer, remote, Err(obstacle), now_ns);
            }
            Asked::Nothing
        });
        Some(asked.encode())
    }

    /// Returns the weight of each local address of a connection.
    fn wish(&self, key: u64, weights: &[Option<u16>]) -> Result<Vec<(IpAddr, u16)>, &'static str> {
        let cookies = self.connections.get(key).map(|known| &known.subflows);
        let subflows = cookies.into_iter().flatten();
        let mut wish: BTreeMap<IpAddr, u16> = BTreeMap::new();
        for subflow in subflows.filter_map(|cookie| self.connections.subflow(*cookie)) {
            if subflow.view.is_some() {
                return Err(
                    "not asked: this host's addresses are translated on the way (NAT), so the \
                     other end cannot tell its connections",
                );
            }
            let road = subflow.road(self.port);
            let weight = weights.get(subflow.path as usize).copied().flatten();
            let Some(weight) = weight.filter(|_| road.scope == 0) else {
                continue;
            };
            let local = address(road.local);
            if wish
                .insert(local, weight)
                .is_some_and(|other| other != weight)
            {
                return Err(
                    "not asked: an address of this host belongs to paths of different weights; \
                     name paths by their addresses or devices",
                );
            }
        }
        Ok(wish.into_iter().collect())
    }

    fn reply(
        &mut self,
        peer: u64,
        remote: IpAddr,
        answer: Result<Answer, &'static str>,
        now_ns: u64,
    ) {
        let Some(wishing) = &mut self.wishing else {
            return;
        };
        let replied = &mut wishing.replied;
        if replied.len() >= MOST && !replied.contains_key(&peer) {
            replied.retain(|_, one| one.at_ns.saturating_add(SILENT) > now_ns);
            if replied.len() >= MOST {
                return;
            }
        }
        let at_ns = now_ns;
        replied.insert(
            peer,
            Replied {
                remote,
                answer,
                at_ns,
            },
        );
    }

    /// Notes what a peer says about this agent's wish.
    pub(super) fn note_answer(
        &mut self,
        peer: u64,
        remote: IpAddr,
        block: &[u8; BLOCK],
        now_ns: u64,
    ) {
        match Answer::decode(block) {
            Some(Answer::Nothing) | None => {}
            Some(answer) => self.reply(peer, remote, Ok(answer), now_ns),
        }
    }

    /// Notes the wish of a peer that has just proven itself. Returns the block of
    /// the answer.
    pub(super) fn note_wish(
        &mut self,
        peer: u64,
        from: [u8; 16],
        block: &[u8; BLOCK],
    ) -> [u8; BLOCK] {
        let Some(wishing) = &mut self.wishing else {
            return [0; BLOCK];
        };
        let asked = Asked::decode(block);
        if asked == Ok(Asked::Nothing) {
            return Answer::Nothing.encode();
        }
        if !wishing.accepts {
            return Answer::NotHere.encode();
        }
        let answer = match (&asked, wishing.answers.get(&peer)) {
            (Err(fault), _) => Answer::Refused(fault.to_string()),
            (Ok(Asked::Weights(_)), Some(answer)) => answer.clone(),
            (Ok(Asked::Weights(_)), None) => Answer::Waits,
            (Ok(_), _) => Answer::Nothing,
        };
        wishing.heard.push(Heard {
            peer,
            from: address(from),
            asked,
        });
        answer.encode()
    }
}
