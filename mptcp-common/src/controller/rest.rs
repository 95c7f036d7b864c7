//! Which callbacks of a thin connection are passed over.
//!
//! An account and a step at each callback would be most of what a request and
//! its response feel of the policy: a callback runs before what came with the
//! ACK is handed to the application, and with caches that are cold after each
//! pause. Nothing is lost: who becomes faster is looked at with the next ACK, and
//! totals lag by [`REST_NS`] at most.

use super::tuning::*;
use super::{Controller, Slot};

impl Controller {
    /// Whether there is nothing to steer for a subflow of path `slot` that has no
    /// limit, as long as it stays quiet ([`is_quiet`]): the connection is thin,
    /// and nothing about the path waits for its next ACK.
    #[inline(always)]
    pub fn may_rest(&self, slot: &Slot) -> bool {
        let well = slot.timeouts.get() == 0 && slot.dead.get() == 0;
        self.tally.thin.get() != 0 && well
    }
}

/// Whether `acked` bytes in `elapsed_ns`, counted anew each [`STEP_NS`] or at the
/// next ACK after that, are no more than a thin connection's.
#[inline(always)]
#[must_use]
pub fn is_quiet(acked: u64, elapsed_ns: u64) -> bool {
    // A pause of more than a second earns nothing, and cannot overflow.
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
