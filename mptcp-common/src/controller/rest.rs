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
    /// Whether nothing is to be steered for a subflow of path `slot` that has no
    /// limit: the connection is thin, nothing about the path waits for its next
    /// ACK, and `acked` bytes in `elapsed_ns`, counted anew each [`STEP_NS`] or
    /// at the next ACK after that, are no more than a thin connection's.
    #[inline(always)]
    pub fn may_rest(&self, slot: &Slot, acked: u64, elapsed_ns: u64) -> bool {
        let well = slot.timeouts.get() == 0 && slot.dead.get() == 0;
        let most = THIN_BYTES_PER_SEC * elapsed_ns.max(STEP_NS) / NS_PER_SEC;
        self.tally.thin.get() != 0 && well && acked <= most
    }
}
