//! The overflow policy, per connection: a path carries only what those of
//! larger weights cannot.
//!
//! ```text
//!   every callback of a subflow:   look()       whether it has unsent data
//!   every 20 ms, first come:       step()       who is let in
//!   every callback of a subflow:   holds_out()  whether it may be chosen
//!
//!   weight    3        2        1
//!           fibre     lte      sat
//!           |<- let in ->| held out        `least` = 2
//!
//!   let the next weight in   once data waits and every path that is let in is
//!                            full: each look for FULL_NS, or for three round
//!                            trips, found unsent data. Or once each look for
//!                            LONG_NS found data that waits
//!   hold the least one out   once at no step for ROOM_NS all paths of larger
//!                            weights had unsent data, or data waited
//! ```
//!
//! The default scheduler gives the next burst to an empty subflow, whatever its
//! rate, unless its pacing rate is 0. So a path of a smaller weight has to be
//! held out altogether while those of larger weights have room. While several
//! weights are let in, nothing is capped: the scheduler fills all of their paths.
//!
//! Limits:
//! * A path is also full while its window is too small for the load, so a
//!   connection that starts with much data uses the next path soon. A burst that
//!   a path takes longer than [`FULL_NS`] to send counts as a full path as well,
//!   even if the load would fit it on average.
//! * The scheduler gives nothing to anybody while its favourite's send queue is
//!   full, so that another path runs dry though data waits. That is why a path
//!   is not the only measure ([`LONG_NS`]).
//! * A load just above what the preferred path takes makes the next one come and
//!   go. A path that is needed again soon after it was held out stays for twice
//!   as long the next time, up to [`MAX_ROOM_NS`].
//! * A path without progress lets all others in, as standby does.

use super::Slot;
use super::tuning::{MAX_SLOTS, NS_PER_SEC};
use crate::word::Word;

/// A path is full after it had unsent data at each look for this long, or for
/// three round trips if those are longer.
pub const FULL_NS: u64 = 60_000_000;

/// Looks that are farther apart than this, or than three round trips, do not
/// belong to one queue.
const AGE_NS: u64 = 200_000_000;

/// Data that waits is remembered for this long.
const WAIT_NS: u64 = 100_000_000;

/// Paths that let data wait at each look for this long are full together, even
/// if one of them has nothing unsent now and then.
const LONG_NS: u64 = 500_000_000;

/// The preferred paths have room if a look in each time this long found nothing
/// unsent. Later: the longest such time.
pub const ROOM_NS: u64 = 500_000_000;

/// The longest time after which a path that is not needed is held out.
pub const MAX_ROOM_NS: u64 = 4 * ROOM_NS;

/// A path that is let in again within this time was held out too early.
const SOON_NS: u64 = 2 * NS_PER_SEC;

/// Findings of the looks at one path.
#[repr(C)]
#[derive(Debug, Default)]
struct Mark {
    /// Since when each look has found unsent data; 0: the last one found none.
    full_ns: Word,
    /// When the last look was.
    seen_ns: Word,
}

impl Mark {
    /// Returns since when each look has found unsent data; 0 if the last one
    /// found none, or was too long ago.
    #[inline(always)]
    fn since(&self, slot: &Slot, now_ns: u64) -> u64 {
        let age_ns = now_ns.saturating_sub(self.seen_ns.get());
        if age_ns < longer(AGE_NS, slot) {
            self.full_ns.get()
        } else {
            0
        }
    }
}

/// State of the overflow policy for one connection.
///
/// The sums of a step are in memory for the verifier's sake: see `Tally`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Overflow {
    /// The least weight that is let in; 0: only the largest.
    pub least: Word,
    /// The weight that the last step let in or held out.
    pub moved: Word,
    /// By the index of the slot.
    marks: [Mark; MAX_SLOTS],
    /// When a look last found data that waits: some that no subflow takes, or
    /// more unsent than a window.
    waits_ns: Word,
    /// Since when each look has; 0: the last one found none.
    waits_since_ns: Word,
    /// When the paths of the least weight were last needed.
    needed_ns: Word,
    /// When a weight was last held out, and after how long without need the
    /// next one is.
    held_out_ns: Word,
    room_ns: Word,
    /// 1 if a path that carries has a subflow that is no backup.
    primary: Word,
    /// The largest weight of the paths that take part.
    top: Word,
    /// The least of them that is let in.
    floor: Word,
    /// The largest of them that is not let in; 0: there is none.
    next: Word,
    /// The least of them above `floor`.
    above: Word,
    /// 1 if a path that is let in is not full.
    room: Word,
    /// 1 if a path above `floor` has nothing unsent.
    spare: Word,
}

crate::layout::layout! {
    Mark { full_ns, seen_ns }
    Overflow {
        least, moved, marks, waits_ns, waits_since_ns, needed_ns, held_out_ns, room_ns, primary, top, floor, next,
        above, room, spare,
    }
}

/// The things that a step does, each for every path in turn before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Finds out whether the path makes progress.
    Judge,
    /// Finds the largest weight.
    Top,
    /// Tells paths that are let in from those that are held out.
    Sort,
}

impl Phase {
    /// The phase of this number; [`Phase::Sort`] for a number of none.
    #[inline(always)]
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Judge,
            1 => Self::Top,
            _ => Self::Sort,
        }
    }
}

/// Findings of a callback about a subflow.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Bytes that it was given and has not sent.
    pub queued: u64,
    /// Whether the connection has data that no subflow takes, or this one more
    /// unsent than its window.
    pub waits: bool,
}

impl Overflow {
    /// [`Overflow::step`]: nothing changed.
    pub const NONE: u32 = 0;
    /// The paths of weight `moved` are let in from now on.
    pub const LET_IN: u32 = 1;
    /// The paths of weight `moved` are held out from now on.
    pub const HELD_OUT: u32 = 2;

    /// Notes what a callback of a subflow of the path at `index` found.
    #[inline(always)]
    pub fn look(&self, index: usize, slot: &Slot, look: Look, now_ns: u64) {
        let Some(mark) = self.marks.get(index & (MAX_SLOTS - 1)) else {
            return;
        };
        let goes_on = mark.since(slot, now_ns) != 0;
        mark.seen_ns.set(now_ns);
        if look.queued == 0 {
            mark.full_ns.set(0);
        } else if !goes_on {
            mark.full_ns.set(now_ns);
        }
        if !look.waits {
            self.waits_since_ns.set(0);
            return;
        }
        if self.waits_since_ns.get() == 0 || !self.waits(now_ns) {
            self.waits_since_ns.set(now_ns);
        }
        self.waits_ns.set(now_ns);
    }

    /// Runs one step: lets the next weight in or holds the least one out, if it
    /// is time, and returns which of [`Overflow::LET_IN`] and its neighbours.
    /// The weights are those of [`Slot::weight`].
    #[inline(always)]
    pub fn step(&self, slots: &[Slot; MAX_SLOTS], now_ns: u64) -> u32 {
        self.step_with(now_ns, |phase, index| {
            self.count(phase, index, &slots[index], now_ns);
        })
    }

    /// Runs one step as [`Overflow::step`] does. Calls `count` in each [`Phase`]
    /// for the index of each slot ([`Overflow::count`]). In the kernel it is
    /// behind a function that the verifier walks through once rather than once
    /// for each path.
    #[inline(always)]
    pub fn step_with(&self, now_ns: u64, count: impl Fn(Phase, usize)) -> u32 {
        let all = |phase| (0..MAX_SLOTS).for_each(|index| count(phase, index));
        self.begin();
        all(Phase::Judge);
        all(Phase::Top);
        let (least, top) = (self.least.get(), self.top.get());
        self.floor
            .set(if least == 0 { top } else { least.min(top) });
        all(Phase::Sort);
        let waits = self.waits(now_ns);
        let since_ns = self.waits_since_ns.get();
        let waited_ns = if waits && since_ns != 0 {
            now_ns.saturating_sub(since_ns)
        } else {
            0
        };
        let full = waits && self.room.get() == 0 || waited_ns >= LONG_NS;
        if full && self.next.get() != 0 {
            let soon = now_ns.saturating_sub(self.held_out_ns.get()) < SOON_NS;
            let longer_ns = (2 * self.room_ns.get()).min(MAX_ROOM_NS);
            self.room_ns.set(if soon {
                longer_ns.max(ROOM_NS)
            } else {
                ROOM_NS
            });
            self.needed_ns.set(now_ns);
            // The path that comes in gets its chance first.
            self.waits_since_ns.set(0);
            self.least.set(self.next.get());
            self.moved.set(self.next.get());
            return Self::LET_IN;
        }
        if self.floor.get() == self.top.get() {
            // The least weight that was let in is now the largest one.
            self.least.set(0);
        } else if self.spare.get() == 0 || waited_ns >= FULL_NS {
            self.needed_ns.set(now_ns);
        } else if now_ns.saturating_sub(self.needed_ns.get()) >= self.room_ns.get() {
            self.needed_ns.set(now_ns);
            self.held_out_ns.set(now_ns);
            self.moved.set(self.floor.get());
            let above = self.above.get();
            self.least
                .set(if above == self.top.get() { 0 } else { above });
            return Self::HELD_OUT;
        }
        Self::NONE
    }

    /// Returns whether data waits, or did a moment ago.
    #[inline(always)]
    fn waits(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.waits_ns.get()) < WAIT_NS
    }

    /// Clears the sums of a step.
    #[inline(always)]
    fn begin(&self) {
        let sums = [
            &self.primary,
            &self.top,
            &self.next,
            &self.room,
            &self.spare,
        ];
        for sum in sums {
            sum.set(0);
        }
        self.above.set(u64::MAX);
    }

    /// Does the work of one phase of a step for the path at `index`.
    #[inline(always)]
    pub fn count(&self, phase: Phase, index: usize, slot: &Slot, now_ns: u64) {
        match phase {
            Phase::Judge => {
                slot.judge(now_ns);
                if slot.carries() && !slot.is_backup() {
                    self.primary.set(1);
                }
            }
            Phase::Top => self.top.set(self.top.get().max(self.part(slot))),
            Phase::Sort => self.sort(index, slot, now_ns),
        }
    }

    /// [`Phase::Sort`].
    #[inline(always)]
    fn sort(&self, index: usize, slot: &Slot, now_ns: u64) {
        let Some(mark) = self.marks.get(index & (MAX_SLOTS - 1)) else {
            return;
        };
        let weight = self.part(slot);
        let floor = self.floor.get();
        if weight == 0 {
            return;
        }
        if weight < floor {
            self.next.set(self.next.get().max(weight));
            return;
        }
        // A path with a timeout carries nothing more for now.
        let well = slot.timeouts.get() == 0;
        let since_ns = mark.since(slot, now_ns);
        let long = now_ns.saturating_sub(since_ns) >= longer(FULL_NS, slot);
        if well && (since_ns == 0 || !long) {
            self.room.set(1);
        }
        if weight > floor {
            self.above.set(self.above.get().min(weight));
            if well && since_ns == 0 {
                self.spare.set(1);
            }
        }
    }

    /// Returns the weight of a path if it takes part, else 0. The kernel gives
    /// backups nothing while there is a path that is none.
    #[inline(always)]
    fn part(&self, slot: &Slot) -> u64 {
        let used = self.primary.get() == 0 || !slot.is_backup();
        if slot.carries() && used {
            slot.weight.get()
        } else {
            0
        }
    }

    /// Returns whether a path must be held out: a path of a larger weight
    /// carries the connection, and is not full. If this path is no backup, that
    /// path must not be one either, because the kernel would still give it
    /// nothing.
    #[inline(always)]
    #[must_use]
    pub fn holds_out(&self, slots: &[Slot; MAX_SLOTS], slot: &Slot) -> bool {
        let weight = slot.weight.get();
        let ordinary = slot.ordinary();
        // `least` is 0 where no weight is let in beside the largest.
        let let_in = self.least.get().wrapping_sub(1) < weight;
        if let_in || slot.dead.get() != 0 {
            return false;
        }
        let relieves = |other: &Slot| {
            other.carries() && other.weight.get() > weight && other.ordinary() >= ordinary
        };
        slots.iter().any(relieves)
    }

    /// Returns whether a subflow of the path at `index` needs no look as long as
    /// it stays quiet.
    #[inline(always)]
    #[must_use]
    pub fn may_rest(&self, index: usize, slot: &Slot) -> bool {
        let empty = match self.marks.get(index & (MAX_SLOTS - 1)) {
            Some(mark) => mark.full_ns.get() == 0,
            None => true,
        };
        let well = slot.timeouts.get() == 0 && slot.dead.get() == 0;
        empty && well && self.least.get() == 0
    }
}

/// Returns `ns`, or three round trips of the path if those are longer.
#[inline(always)]
fn longer(ns: u64, slot: &Slot) -> u64 {
    (3_000 * slot.srtt_us.get()).max(ns)
}

#[cfg(test)]
mod tests;
