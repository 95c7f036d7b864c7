//! Finds entries whose socket has gone without a callback. That happens if
//! somebody else's program has switched the callbacks off, and no sweep has
//! switched them on in time.
//!
//! A pass of `iter_tcp` names every socket that the programs know. An entry has
//! no socket if two comparisons in a row, some seconds apart, do not find one.
//! One comparison is not enough, because a pass may miss a socket that opens
//! while it runs.

use std::collections::HashSet;

/// Least time from one comparison to the next, in nanoseconds.
const INTERVAL_NS: u64 = 5_000_000_000;

/// How many entries are removed at most after one comparison, because each
/// takes a pass.
const MOST: usize = 16;

/// The entries that are suspected to have no socket.
#[derive(Debug, Default)]
pub(super) struct Gone {
    missing: HashSet<u64>,
    compared_ns: u64,
}

impl Gone {
    /// Returns whether to compare: there are more entries than sockets, and the
    /// last comparison is some time ago.
    pub(super) fn is_due(&mut self, entries: u64, sockets: usize, now_ns: u64) -> bool {
        if entries <= sockets as u64 {
            self.missing.clear();
            return false;
        }
        now_ns.saturating_sub(self.compared_ns) >= INTERVAL_NS
    }

    /// Compares the cookies of entries with those of sockets, and returns the
    /// entries that have to go.
    pub(super) fn compare(
        &mut self,
        entries: impl Iterator<Item = u64>,
        sockets: &HashSet<u64>,
        now_ns: u64,
    ) -> Vec<u64> {
        self.compared_ns = now_ns;
        let missing: HashSet<u64> = entries.filter(|cookie| !sockets.contains(cookie)).collect();
        let again = missing.intersection(&self.missing).copied();
        let gone = again.take(MOST).collect();
        self.missing = missing;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_what_is_missing_twice_is_gone() {
        let mut gone = Gone::default();
        let sockets = HashSet::from([1, 2]);
        assert!(!gone.is_due(2, 2, 10 * SECOND));
        assert!(gone.is_due(4, 2, 10 * SECOND));
        assert!(gone.compare(1..=4, &sockets, 10 * SECOND).is_empty());
        assert!(!gone.is_due(4, 2, 11 * SECOND));
        assert!(gone.is_due(4, 2, 15 * SECOND));
        // 3 was a socket that had just been opened.
        let sockets = HashSet::from([1, 2, 3]);
        assert_eq!(gone.compare(1..=5, &sockets, 15 * SECOND), [4]);
        // Once all entries have sockets, nothing is suspected any more.
        assert!(!gone.is_due(3, 3, 30 * SECOND));
        let none = HashSet::new();
        assert!(gone.compare(5..=5, &none, 30 * SECOND).is_empty());
    }

    #[test]
    fn a_comparison_never_takes_many_passes() {
        let (mut gone, none) = (Gone::default(), HashSet::new());
        assert!(gone.compare(0..1_000, &none, SECOND).is_empty());
        assert_eq!(gone.compare(0..1_000, &none, 9 * SECOND).len(), MOST);
    }
}
