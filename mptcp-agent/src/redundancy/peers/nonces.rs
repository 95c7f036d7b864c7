//! Freshness: the nonces that were sent to an address, each of which may come
//! back from it once.

use std::num::NonZeroU64;

use mptcp_common::abi::redundant::ChannelKey;

/// Number of nonces remembered: an answer may be this many hellos late. While
/// hellos are not answered they go out four times a second, so that is 2 s.
const WINDOW: usize = 8;

/// All nonces are forgotten this long after the newest was sent, nanoseconds.
const FRESH: u64 = 5_000_000_000;

/// The nonces that a subflow and one address of its peer exchanged. They belong
/// to that pair, so a datagram that somebody caught and sends from elsewhere,
/// or uses for another subflow, is not fresh there.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The addresses, and the peer's port.
    pub road: ChannelKey,
    /// The peer's newest nonce; 0: none yet.
    pub heard: u64,
    /// Nonces sent and not yet returned, newest first; 0: none.
    sent: [u64; WINDOW],
    /// When the newest was sent.
    sent_ns: u64,
}

impl Exchange {
    /// Starts without nonces.
    pub fn new(road: ChannelKey) -> Self {
        Self {
            road,
            heard: 0,
            sent: [0; WINDOW],
            sent_ns: 0,
        }
    }

    /// Remembers a nonce to send.
    pub fn send(&mut self, nonce: NonZeroU64, now_ns: u64) {
        self.forget_old(now_ns);
        self.sent.rotate_right(1);
        self.sent[0] = nonce.get();
        self.sent_ns = now_ns;
    }

    /// Returns the newest nonce, if it may still come back. The server sends it
    /// again, so that replays of old hellos cannot push good nonces out.
    pub fn newest(&mut self, now_ns: u64) -> Option<NonZeroU64> {
        self.forget_old(now_ns);
        NonZeroU64::new(self.sent[0])
    }

    /// Returns whether `echo` is a nonce that was sent, and takes it, so that
    /// it is accepted only once.
    pub fn accept(&mut self, echo: u64, now_ns: u64) -> bool {
        self.forget_old(now_ns);
        let known = self.sent.iter_mut().find(|sent| **sent == echo);
        match known {
            Some(sent) if echo != 0 => {
                *sent = 0;
                true
            }
            _ => false,
        }
    }

    fn forget_old(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.sent_ns) > FRESH {
            self.sent = [0; WINDOW];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(nonces: impl IntoIterator<Item = u64>) -> Exchange {
        let mut exchange = Exchange::new(ChannelKey::default());
        for nonce in nonces.into_iter().filter_map(NonZeroU64::new) {
            exchange.send(nonce, 0);
        }
        exchange
    }

    #[test]
    fn each_comes_back_once() {
        let mut exchange = sent([5, 6]);
        assert!(exchange.accept(5, 1));
        assert!(!exchange.accept(5, 1));
        assert!(exchange.accept(6, 1));
        assert!(!exchange.accept(6, 1));
        assert_eq!(exchange.newest(1), None);
    }

    #[test]
    fn none_is_not_a_nonce() {
        assert!(!sent([]).accept(0, 0));
        assert!(!sent([5]).accept(0, 0));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let mut exchange = sent(1..=WINDOW as u64 + 1);
        assert!(!exchange.accept(1, 0));
        assert!(exchange.accept(2, 0));
        assert!(exchange.accept(3, FRESH));
        assert!(!exchange.accept(4, FRESH + 1));
        assert_eq!(exchange.newest(FRESH + 1), None);
    }
}
