//! The rate of one unit of weight.

use super::tuning::*;
use crate::word::Word;

/// The rate of one unit of weight, as it was lately: it rises with the present
/// rate at once, and falls with it within [`UNIT_MEMORY_NS`] or
/// [`IDLE_UNIT_MEMORY_NS`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct Unit {
    /// Bytes per second.
    rate: Word,
    /// Sum of the weights that it was measured with.
    weights: Word,
}

crate::layout::layout! {
    Unit { rate, weights }
}

impl Unit {
    /// Returns the rate, bytes per second.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.rate.get()
    }

    /// Moves the rate towards `now`, its present value with this sum of
    /// weights. Returns whether the rate has just become larger.
    #[inline(always)]
    pub(super) fn follow(&self, now: u64, weights: u64, elapsed_ns: u64, unassigned: bool) -> bool {
        let unit = self.rate.get();
        let growing = now > unit + unit / 50;
        let memory_ns = if unassigned {
            UNIT_MEMORY_NS
        } else {
            IDLE_UNIT_MEMORY_NS
        };
        if now >= unit || weights != self.weights.get() {
            self.rate.set(now);
        } else {
            // Count only so much of a pause, which says nothing about how fast
            // the connection is.
            let elapsed_us = elapsed_ns.min(MAX_STEP_NS) / 1000;
            self.rate
                .set(unit - (unit - now) * elapsed_us / (memory_ns / 1000));
        }
        self.weights.set(weights);
        growing
    }
}
