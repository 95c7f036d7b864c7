//! Decides which callbacks of a thin connection are passed over.
//!
//! Accounting and a step at each callback would be most of the delay that the
//! policy adds to a request and its response: a callback runs before the data
//! that came with the ACK is handed to the application, and with caches that
//! are cold after each pause. Nothing is lost by passing callbacks over: a
//! connection that becomes faster is looked at with the next ACK, and totals
//! lag by [`REST_NS`] at most.

use super::tuning::*;
use super::{Controller, Slot};

impl Controller {
    /// Returns whether a subflow of path `slot` that has no limit needs no
    /// steering as long as it stays quiet ([`is_quiet`]): the connection is
    /// thin, and the path has neither timed out nor died.
    #[inline(always)]
    pub fn may_rest(&self, slot: &Slot) -> bool {
        let well = slot.timeouts.get() == 0 && slot.dead.get() == 0;
        self.tally.thin.get() != 0 && well
    }
}

/// Returns whether `acked` bytes in `elapsed_ns` are no more than a thin
/// connection's. Callers count them anew each [`STEP_NS`], or at the next ACK
/// after that.
#[inline(always)]
#[must_use]
pub fn is_quiet(acked: u64, elapsed_ns: u64) -> bool {
    // A pause counts as a second at most, so that the product cannot overflow.
    let elapsed_ns = elapsed_ns.clamp(STEP_NS, NS_PER_SEC);
    acked <= THIN_BYTES_PER_SEC * elapsed_ns / NS_PER_SEC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_a_thin_connections_rate_and_never_more_than_a_second_of_it() {
        let in_a_step = THIN_BYTES_PER_SEC * STEP_NS / NS_PER_SEC;
        assert!(is_quiet(in_a_step, 0) && is_quiet(in_a_step, STEP_NS));
        assert!(!is_quiet(in_a_step + 1, STEP_NS));
        assert!(is_quiet(2 * in_a_step, 2 * STEP_NS));
        assert!(is_quiet(THIN_BYTES_PER_SEC, u64::MAX));
        assert!(!is_quiet(THIN_BYTES_PER_SEC + 1, u64::MAX));
    }
}
