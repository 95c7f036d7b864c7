//! Decides which datagrams to the agent's port are worth the loop's time.
//!
//! A flood must neither take the loop's time nor the queue from proven peers.
//! So the listener drops what cannot be a message, and datagrams from unknown
//! senders (strangers) are let in only while half of the queue is free, and at
//! a limited rate that is shared out by address.
//!
//! Pure: time is an argument.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use mptcp_common::address;

/// Number of buckets that strangers share, by a hash of their address. A flood
/// from one address, or a few, shuts out only a small part of the others.
const BUCKETS: usize = 1024;

/// Rate of one bucket, messages per second.
const RATE: u64 = 200;

/// Messages that a bucket lets in at once after a pause.
const BURST: u64 = 100;

/// Rate of all buckets together, messages per second.
const ALL_RATE: u64 = 2000;

/// Messages that all buckets together let in at once after a pause.
const ALL_BURST: u64 = 500;

const SECOND: u64 = 1_000_000_000;

/// The addresses that proven peers send from; shared with the listeners.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<RwLock<HashSet<SocketAddr>>>);

impl Known {
    /// Adds an address, or removes it.
    pub fn set(&self, remote: SocketAddr, known: bool) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known {
            all.insert(remote);
        } else {
            all.remove(&remote);
        }
    }

    fn has(&self, remote: &SocketAddr) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.contains(remote)
    }
}

/// A token bucket, measured in time: a token is worth a second over the rate.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When the bucket is full again, if nothing is taken from now on.
    full_ns: u64,
}

impl Bucket {
    fn take(&mut self, rate: u64, burst: u64, now_ns: u64) -> bool {
        let one = SECOND / rate;
        let full_ns = self.full_ns.max(now_ns) + one;
        let room = full_ns - now_ns <= burst * one;
        if room {
            self.full_ns = full_ns;
        }
        room
    }
}

/// Lets datagrams in, or keeps them out.
#[derive(Debug)]
pub struct Gate {
    known: Vec<Known>,
    hasher: RandomState,
    buckets: Vec<Bucket>,
    all: Bucket,
}

impl Gate {
    /// Creates a gate that always lets in the addresses in `known`, as long as
    /// the queue has room.
    pub fn new(known: Vec<Known>) -> Self {
        Self {
            known,
            hasher: RandomState::new(),
            buckets: vec![Bucket::default(); BUCKETS],
            all: Bucket::default(),
        }
    }

    /// Returns whether to let in a message from `remote`, while `free` of the
    /// queue's `places` are free. Strangers may fill only half of them.
    pub fn admits(&mut self, remote: &SocketAddr, free: usize, places: usize, now_ns: u64) -> bool {
        if self.known.iter().any(|known| known.has(remote)) {
            return free > 0;
        }
        let at = self.hasher.hash_one(prefix(remote.ip())) as usize % BUCKETS;
        free > places / 2
            && self.buckets[at].take(RATE, BURST, now_ns)
            && self.all.take(ALL_RATE, ALL_BURST, now_ns)
    }
}

/// Returns the part of an address that identifies its owner: all of an IPv4
/// address, the first 64 bits of an IPv6 one, since a host has 2^64 of those.
pub fn prefix(remote: IpAddr) -> [u8; 16] {
    let remote = remote.to_canonical();
    let mut octets = address::octets(remote);
    if remote.is_ipv6() {
        octets[8..].fill(0);
    }
    octets
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const MS: u64 = 1_000_000;
    const PLACES: usize = 1024;

    fn stranger(number: u32) -> SocketAddr {
        SocketAddr::from(([198, 18, (number >> 8) as u8, number as u8], 8684))
    }

    #[test]
    fn a_flood_from_one_address_leaves_others_alone() {
        let mut gate = Gate::new(Vec::new());
        let mut let_in = 0;
        for step in 0..100_000_u64 {
            // The flood has 100,000 datagrams a second.
            let now_ns = SECOND + step * 10_000;
            let_in += u64::from(gate.admits(&stranger(1), PLACES, PLACES, now_ns));
            if step % 10_000 == 9_999 {
                let others =
                    (2..40).filter(|&one| gate.admits(&stranger(one), PLACES, PLACES, now_ns));
                assert!(others.count() >= 36, "but for one that shares its bucket");
            }
        }
        assert!((RATE..=RATE + BURST).contains(&let_in), "{let_in}");
    }

    #[test]
    fn a_flood_from_everywhere_is_limited_and_peers_get_through() {
        let known = Known::default();
        let peer: SocketAddr = "192.0.2.1:8684".parse().unwrap();
        known.set(peer, true);
        let mut gate = Gate::new(vec![known.clone()]);
        let mut let_in = 0;
        for step in 0..100_000_u64 {
            let now_ns = SECOND + step * 10_000;
            let from = stranger(step as u32 % 50_000);
            let_in += u64::from(gate.admits(&from, PLACES, PLACES, now_ns));
            assert!(gate.admits(&peer, 1, PLACES, now_ns));
        }
        assert!(let_in <= ALL_RATE + ALL_BURST, "{let_in}");
        assert!(!gate.admits(&stranger(7), PLACES / 2, PLACES, 5 * SECOND));
        assert!(!gate.admits(&peer, 0, PLACES, 5 * SECOND));
        known.set(peer, false);
        assert!(!gate.admits(&peer, 1, PLACES, 5 * SECOND));
    }

    #[test]
    fn after_a_pause_a_burst_is_let_in() {
        let mut gate = Gate::new(Vec::new());
        let mut burst = |now_ns| {
            (0..1000)
                .filter(|_| gate.admits(&stranger(1), PLACES, PLACES, now_ns))
                .count() as u64
        };
        assert_eq!(burst(SECOND), BURST);
        assert_eq!(burst(SECOND + 5 * MS), 1);
        assert_eq!(burst(9 * SECOND), BURST);
    }

    #[test]
    fn hosts_have_many_addresses() {
        let own = |text: &str| prefix(text.parse().unwrap());
        assert_eq!(own("2001:db8::1"), own("2001:db8::ffff:1"));
        assert_ne!(own("2001:db8::1"), own("2001:db8:0:1::1"));
        assert_ne!(own("192.0.2.1"), own("192.0.2.2"));
        assert_eq!(own("192.0.2.1"), own("::ffff:192.0.2.1"));
    }
}
