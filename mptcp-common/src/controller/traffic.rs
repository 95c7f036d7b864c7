//! Recognises what a connection's application does: whether it sends all the time, has
//! just begun to, or has more than its paths take.

use super::Controller;
use super::tuning::*;

impl Controller {
    /// Notes when a subflow was last given data. While none is given any, the
    /// application pauses, and a path that lags is not passed over.
    #[inline(always)]
    pub(super) fn note_given(&self, now_ns: u64) {
        let given = self.given.get();
        let last = self.last_given.get();
        // The application waits for a retransmission, and does not pause.
        if self.tally.stuck.get() != 0 {
            self.stuck_ns.set(now_ns);
        }
        if given != last {
            self.last_given.set(given);
            let pause_ns = 2_000 * self.tally.longest_us.get() + PAUSE_NS;
            let since_ns = self.given_ns.get().max(self.stuck_ns.get());
            let paused = now_ns.saturating_sub(since_ns) > pause_ns;
            if paused && self.waited.get() == 0 {
                self.burst_ns.set(now_ns);
                self.burst_given.set(last);
            }
            self.given_ns.set(now_ns);
        }
    }

    /// Notes for how long data has waited, judged by what the last step found: a
    /// slow connection has steps as seldom as one that pauses.
    #[inline(always)]
    pub(super) fn note_busy(&self, elapsed_ns: u64) {
        let elapsed_us = elapsed_ns.min(NS_PER_SEC) / 1000;
        let old = self.busy_permille.get().min(PERMILLE) * (1_000_000 - elapsed_us);
        let tally = &self.tally;
        let waited = self.waited.get() | tally.queued.get() | tally.stuck.get();
        let now = waited * PERMILLE * elapsed_us;
        self.busy_permille.set((old + now) / 1_000_000);
    }

    /// Returns whether data waits most of the time.
    #[inline(always)]
    pub(super) fn is_busy(&self) -> bool {
        self.busy_permille.get() > PERMILLE / 2
    }

    /// Notes whether data waits that no subflow takes. If some has waited for
    /// long, the connection exceeds its ratio under `spill` from now on.
    #[inline(always)]
    pub(super) fn note_waiting(&self, now_ns: u64) {
        if self.tally.unassigned.get() != 0 {
            self.full_ns.set(now_ns);
        } else {
            self.taken_ns.set(now_ns);
        }
        if now_ns.saturating_sub(self.taken_ns.get()) > SPILL_NS {
            self.spill_until_ns.set(now_ns + SPILLING_NS);
        }
    }
}
