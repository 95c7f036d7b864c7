//! What the programs do under the overflow policy.

use mptcp_common::controller::overflow::{Look, Overflow};
use mptcp_common::controller::{HELD_OUT, Limits, MAX_SLOTS, Slot};

use super::path::bytes;
use super::{MS, Simulation};

/// Less unsent than this is no queue behind which data waits.
const SHORT_QUEUE: f64 = 32_768.0;

/// Returns the limits of a subflow of path `slot`.
pub(super) fn limits(overflow: &Overflow, slots: &[Slot; MAX_SLOTS], slot: &Slot) -> Limits {
    if overflow.holds_out(slots, slot) {
        return Limits {
            cap: HELD_OUT,
            lowat: 0,
        };
    }
    Limits::NONE
}

impl Simulation {
    /// Puts the connection under the overflow policy, from now on.
    pub fn overflows(&mut self) {
        self.overflow = Some(Overflow::default());
        self.weigh();
        self.sweep();
    }

    fn weigh(&self) {
        for (path, slot) in self.paths.iter().zip(&self.controller.slots) {
            slot.weight.set(u64::from(path.link.weight));
            slot.backups.set(u64::from(path.link.backup));
        }
    }

    /// Does what `sockops` does at a callback of this path's subflow, and the
    /// sweep that the agent runs if that lets a path in or holds it out.
    pub(super) fn overflow_callback(&mut self, index: usize, unassigned: bool) {
        let now_ns = self.now_ms * MS;
        let Some(overflow) = &self.overflow else {
            return;
        };
        let slots = &self.controller.slots;
        let path = &self.paths[index];
        let queued = bytes(&path.unsent);
        let waits = unassigned || queued as f64 > path.cwnd.max(SHORT_QUEUE);
        overflow.look(index, &slots[index], Look { queued, waits }, now_ns);
        let mut moved = false;
        if self.controller.claim_step(now_ns).is_some() {
            self.weigh();
            moved = overflow.step(slots, now_ns) != Overflow::NONE;
            let turned = |slot: &Slot| slot.turned.get() != 0;
            moved |= slots.iter().any(turned);
        }
        let may_rest = overflow.may_rest(index, &slots[index]);
        let limits = self.limits(index);
        let path = &mut self.paths[index];
        path.limits = limits;
        path.quiet = (now_ns, path.acked);
        path.resting = limits == Limits::NONE && may_rest;
        path.seen_ns = now_ns;
        if moved {
            self.sweep();
        }
    }
}
