//! Keeps the wishes of peers: which addresses count, and until when.
//!
//! An address counts if it lies within an accepted prefix, and if the peer that
//! names it has sent a wish from it, which proves that the peer has both the
//! address and the key. It is that of the last peer to do so. A wish counts for
//! three seconds.
//!
//! Pure: time is an argument, in nanoseconds of `CLOCK_MONOTONIC`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mptcp_api::wish::{Answer, Asked, MOST_WEIGHTS, Manner, Wish};

use crate::redundancy::Heard;
use crate::state::snapshot::{HeardPeer, WishState};

const MS: u64 = 1_000_000;

/// How long a wish counts without another one.
const SILENT: u64 = 3000 * MS;

/// How long a new peer may take to prove all of its addresses, before those that
/// are proven count alone.
const PATIENCE: u64 = 1000 * MS;

/// The least time between two lines in the log about one peer's mistakes.
const QUIET: u64 = 10_000 * MS;

/// The least time between two changes of what is in force, so that a peer that
/// changes its mind all the time costs little.
const REST: u64 = 100 * MS;

/// The most peers that are remembered.
const MOST: usize = 256;

/// The weights to put in force for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The peer's agent id.
    pub peer: u64,
    /// How the weights hold.
    pub manner: Manner,
    /// The addresses that count, in order.
    pub weights: Vec<(IpAddr, u16)>,
}

/// An address that a peer names.
#[derive(Clone, Copy, Debug)]
struct Named {
    weight: u16,
    heard_ns: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// When its first wish arrived, and the last one of any kind.
    first_ns: u64,
    last_ns: u64,
    manner: Manner,
    named: BTreeMap<IpAddr, Named>,
    /// The fault of a wish, and when the last wish like that arrived. While it counts,
    /// others of this peer do not: connections that are about to open their subflows
    /// would bring back what those with all of them are refused.
    fault: Option<(String, u64)>,
    /// The wish that the agent refused to put in force, and why.
    refused: Option<(Wanted, String)>,
}

/// All wishes.
#[derive(Debug)]
pub struct Book {
    accept: Vec<IpNet>,
    peers: BTreeMap<u64, Peer>,
    /// The peer that has each address, and when it proved that last.
    owners: BTreeMap<IpAddr, (u64, u64)>,
    /// When a mistake of each peer was last logged.
    told: BTreeMap<u64, u64>,
    /// The wishes that are in force.
    in_force: Vec<Wanted>,
    changed_ns: u64,
    /// When [`Book::due`] was last asked.
    asked_ns: u64,
    refused: u64,
}

impl Book {
    /// Starts without wishes. Hosts in these prefixes may have some.
    pub fn new(accept: Vec<IpNet>) -> Self {
        Self {
            accept,
            peers: BTreeMap::new(),
            owners: BTreeMap::new(),
            told: BTreeMap::new(),
            in_force: Vec::new(),
            changed_ns: 0,
            asked_ns: 0,
            refused: 0,
        }
    }

    /// Takes a wish. Returns a line for the log if it is refused, and if there was
    /// none about this peer lately.
    pub fn hear(&mut self, heard: &Heard, now_ns: u64) -> Option<String> {
        let Heard { peer, from, asked } = heard;
        let from = from.to_canonical();
        let why = match asked {
            Ok(Asked::Nothing) => return None,
            Ok(Asked::NoMore) => {
                self.peers.remove(peer);
                return None;
            }
            Ok(Asked::Weights(wish)) => match self.check(*peer, wish) {
                Ok(()) => {
                    self.take(*peer, from, wish, now_ns);
                    return None;
                }
                Err(why) => why,
            },
            Err(fault) => fault.to_string(),
        };
        self.refused += 1;
        if self.peers.len() < MOST || self.peers.contains_key(peer) {
            let known = self.peers.entry(*peer).or_default();
            known.fault = Some((why.clone(), now_ns));
            known.last_ns = now_ns;
        }
        self.tell(*peer, now_ns)
            .then(|| format!("the wish of the agent at {from} is refused: {why}"))
    }

    /// Returns whether a line about this peer may be logged now.
    pub fn tell(&mut self, peer: u64, now_ns: u64) -> bool {
        self.told.retain(|_, at_ns| *at_ns + QUIET > now_ns);
        let quiet = self.told.len() >= MOST || self.told.contains_key(&peer);
        if !quiet {
            self.told.insert(peer, now_ns);
        }
        !quiet
    }

    fn check(&self, peer: u64, wish: &Wish) -> Result<(), String> {
        wish.check().map_err(|fault| fault.to_string())?;
        let accepted = |address: &IpAddr| self.accept.iter().any(|net| net.contains(address));
        let mut addresses = wish.weights.iter().map(|(address, _)| address);
        if let Some(foreign) = addresses.find(|address| !accepted(address)) {
            return Err(format!("{foreign} is in no prefix of accept-peer-policy"));
        }
        let known = self.peers.get(&peer);
        if known.is_none() && self.peers.len() >= MOST {
            return Err(format!("{MOST} other hosts ask already"));
        }
        let named = known.map(|known| &known.named);
        let is_new = |address: &IpAddr| !named.is_some_and(|named| named.contains_key(address));
        let new = wish.weights.iter().filter(|(address, _)| is_new(address));
        if named.map_or(0, BTreeMap::len) + new.count() > MOST_WEIGHTS {
            return Err(format!(
                "with those of its other connections it names more than {MOST_WEIGHTS} addresses"
            ));
        }
        Ok(())
    }

    fn take(&mut self, peer: u64, from: IpAddr, wish: &Wish, now_ns: u64) {
        let known = self.peers.entry(peer).or_default();
        let fault = known.fault.as_ref();
        if fault.is_some_and(|(_, at_ns)| at_ns + SILENT > now_ns) {
            return;
        }
        if known.named.is_empty() {
            known.first_ns = now_ns;
        }
        known.last_ns = now_ns;
        known.fault = None;
        known.manner = wish.manner;
        for (address, weight) in &wish.weights {
            let named = Named {
                weight: *weight,
                heard_ns: now_ns,
            };
            known.named.insert(*address, named);
        }
        if known.named.contains_key(&from) {
            self.owners.insert(from, (peer, now_ns));
        }
    }

    /// Forgets what has not been heard of for too long.
    fn forget(&mut self, now_ns: u64) {
        let fresh = |at_ns: u64| at_ns + SILENT > now_ns;
        for peer in self.peers.values_mut() {
            peer.named.retain(|_, named| fresh(named.heard_ns));
        }
        self.peers.retain(|_, peer| fresh(peer.last_ns));
        let peers = &self.peers;
        self.owners.retain(|address, (peer, _)| {
            let peer = peers.get(peer);
            peer.is_some_and(|peer| peer.named.contains_key(address))
        });
    }

    fn has(&self, peer: u64, address: &IpAddr) -> bool {
        let owner = self.owners.get(address);
        owner.is_some_and(|(owner, _)| *owner == peer)
    }

    /// Returns what to put in force instead of what is, if that is to change now.
    pub fn due(&mut self, now_ns: u64) -> Option<Vec<Wanted>> {
        self.forget(now_ns);
        self.asked_ns = now_ns;
        if now_ns < self.changed_ns + REST {
            return None;
        }
        let wanted = self.wanted(now_ns);
        (wanted != self.in_force).then_some(wanted)
    }

    /// Returns what to put in force.
    pub fn wanted(&self, now_ns: u64) -> Vec<Wanted> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        // First come, first served.
        peers.sort_by_key(|(id, peer)| (peer.first_ns, **id));
        let wanted = peers.into_iter().filter_map(|(id, peer)| {
            let counts = |address: &IpAddr| self.has(*id, address);
            let all = peer.named.keys().all(counts);
            if !all && now_ns < peer.first_ns + PATIENCE {
                // Its earlier wish stays in force until then.
                let before = self.in_force.iter().find(|one| one.peer == *id);
                return before.cloned();
            }
            let named = peer.named.iter();
            let counted = named.filter(|(address, _)| counts(address));
            let wanted = Wanted {
                peer: *id,
                manner: peer.manner,
                weights: counted
                    .map(|(address, named)| (*address, named.weight))
                    .collect(),
            };
            let refused = peer.refused.as_ref();
            let again = refused.is_some_and(|(refused, _)| *refused == wanted);
            let any = wanted.weights.iter().any(|(_, weight)| *weight > 0);
            (any && !again).then_some(wanted)
        });
        wanted.collect()
    }

    /// Returns when to ask [`Book::due`] again; `None` without wishes.
    pub fn due_ns(&self) -> Option<u64> {
        if self.peers.is_empty() && self.in_force.is_empty() {
            return None;
        }
        let peers = self.peers.values();
        let ends = peers.clone().flat_map(|peer| {
            let named = peer.named.values().map(|named| named.heard_ns + SILENT);
            named.chain([peer.last_ns + SILENT])
        });
        let ready = peers.map(|peer| peer.first_ns + PATIENCE);
        let all = ends.chain(ready).chain([self.changed_ns + REST]);
        all.filter(|at_ns| *at_ns > self.asked_ns).min()
    }

    /// Notes what is in force now.
    pub fn put_in_force(&mut self, wanted: Vec<Wanted>, now_ns: u64) {
        // A peer that goes makes room.
        let goes = |one: &Wanted| !wanted.iter().any(|wanted| wanted.peer == one.peer);
        if self.in_force.iter().any(goes) {
            self.reconsider();
        }
        self.in_force = wanted;
        self.changed_ns = now_ns;
    }

    /// Notes that what a peer wants is refused, until it wants something else.
    pub fn refuse(&mut self, wanted: Wanted, why: String) {
        self.refused += 1;
        if let Some(peer) = self.peers.get_mut(&wanted.peer) {
            peer.refused = Some((wanted, why));
        }
    }

    /// Lets everything that was refused be tried again, because the host's own
    /// settings have changed.
    pub fn reconsider(&mut self) {
        for peer in self.peers.values_mut() {
            peer.refused = None;
        }
    }

    /// Returns what is in force.
    pub fn in_force(&self) -> &[Wanted] {
        &self.in_force
    }

    /// Returns the number of wishes that were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn state(&self, id: u64, peer: &Peer) -> (WishState, Option<String>) {
        let in_force = self.in_force.iter().any(|one| one.peer == id);
        match (&peer.fault, &peer.refused) {
            (Some((why, _)), _) => (WishState::Refused, Some(why.clone())),
            (None, _) if in_force => (WishState::InForce, None),
            (None, Some((_, why))) => (WishState::Refused, Some(why.clone())),
            (None, None) => (WishState::Waits, None),
        }
    }

    /// Returns what to answer each peer.
    pub fn answers(&self) -> Vec<(u64, Answer)> {
        let peers = self.peers.iter();
        let answers = peers.map(|(id, peer)| {
            let answer = match self.state(*id, peer) {
                (WishState::InForce, _) => Answer::InForce,
                (WishState::Refused, why) => Answer::Refused(why.unwrap_or_default()),
                _ => Answer::Waits,
            };
            (*id, answer)
        });
        answers.collect()
    }

    /// Returns the peers and what has become of their wishes.
    pub fn shown(&self) -> Vec<HeardPeer> {
        let peers = self.peers.iter();
        let shown = peers.map(|(id, peer)| {
            let (state, reason) = self.state(*id, peer);
            let named = peer.named.iter();
            HeardPeer {
                weights: named
                    .map(|(address, named)| (*address, named.weight, self.has(*id, address)))
                    .collect(),
                state,
                reason,
            }
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests;
