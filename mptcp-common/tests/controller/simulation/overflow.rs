//! Simulates what the programs do under the overflow policy.

use mptcp_common::controller::overflow::{Look, Overflow};
use mptcp_common::controller::{HELD_OUT, Limits, Slot};

use super::MS;
use super::connection::Connection;
use super::link::SharedLink;
use super::world::Host;

/// Less unsent than this is no queue behind which data waits.
const SHORT_QUEUE: f64 = 32_768.0;

impl Connection {
    /// Returns the limits of the subflow of this path under the overflow policy.
    pub(super) fn overflow_limits(&self, index: usize) -> Limits {
        let slots = &self.controller.slots;
        if self.overflow.holds_out(slots, &slots[index]) {
            return Limits {
                cap: HELD_OUT,
                lowat: 0,
            };
        }
        Limits::NONE
    }

    /// Does what `sockops` does at a callback of this path's subflow, and the
    /// sweep that the agent runs if that lets a path in or holds it out.
    pub(super) fn overflow_callback(
        &mut self,
        index: usize,
        unassigned: bool,
        links: &[SharedLink],
        host: &Host,
    ) {
        let now_ns = host.now_ms * MS;
        let slots = &self.controller.slots;
        let path = &self.paths[index];
        let queued = path.unsent_bytes();
        let waits = unassigned || queued as f64 > path.cwnd.max(SHORT_QUEUE);
        self.overflow
            .look(index, &slots[index], Look { queued, waits }, now_ns);
        let mut moved = false;
        if self.controller.claim_step(now_ns).is_some() {
            for path in 0..self.paths.len() {
                self.weigh_slot(path, links, host);
            }
            moved = self.overflow.step(slots, now_ns) != Overflow::NONE;
            let turned = |slot: &Slot| slot.turned.get() != 0;
            moved |= slots.iter().any(turned);
        }
        let may_rest = self.overflow.may_rest(index, &slots[index]);
        let limits = host.lower(index, self.overflow_limits(index));
        let path = &mut self.paths[index];
        path.limits = limits;
        path.quiet = (now_ns, path.acked);
        path.resting = limits == Limits::NONE && may_rest && !host.is_limited(index);
        path.seen_ns = now_ns;
        if moved {
            self.sweep(host);
        }
    }
}
