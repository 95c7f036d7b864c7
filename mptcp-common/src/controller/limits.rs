//! The limits of one subflow: its share of its path's cap, and the length of
//! its send queue.

use super::tuning::*;
use super::{Controller, Slot};

/// The limits of one subflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `SO_MAX_PACING_RATE`, bytes per second; [`NO_CAP`]: none.
    pub cap: u32,
    /// `TCP_NOTSENT_LOWAT`, bytes; 0: none.
    pub lowat: u32,
}

impl Limits {
    /// No limit by the agent: the socket has what it had before.
    pub const NONE: Self = Self {
        cap: NO_CAP,
        lowat: 0,
    };

    /// Splits the limits of a socket, of which nothing else is known, into
    /// those that an agent has set and those that were there before. An agent
    /// that was killed leaves its limits behind, and where its programs could
    /// not outlive it, no record of them. Its limits are then recognised by
    /// [`LOWAT_MARK`], or by a rate of 0, which nobody else sets.
    #[inline(always)]
    #[must_use]
    pub fn split(self) -> (Self, Self) {
        let marked = self.lowat & !LOWAT_MASK == LOWAT_MARK;
        let (mut ours, mut prior) = (Self::NONE, self);
        if marked || self.cap == HELD_OUT {
            (ours.cap, prior.cap) = (self.cap, NO_CAP);
        }
        if marked {
            (ours.lowat, prior.lowat) = (self.lowat, NO_LOWAT);
        }
        (ours, prior)
    }
}

impl Controller {
    /// Returns whether a path must rest: its weight is 0, or the ledger has
    /// chosen the connection to do without it, and another path carries the
    /// connection. If the path is no backup, that other path must
    /// not be one either: as long as there is a path that is no backup, the
    /// kernel gives backups nothing, even if that path is held out.
    ///
    /// This cannot wait for the next step, since an idle subflow causes none:
    /// it may just have been opened, its weight may have changed, or it may be
    /// all there is.
    #[inline(always)]
    fn rests(&self, slot: &Slot) -> bool {
        let spared = slot.weight.get() == 0 || slot.is_held_out();
        let standby = spared && slot.dead.get() == 0;
        let ordinary = slot.ordinary();
        let relieves =
            |other: &Slot| other.carries() && !other.is_held_out() && other.ordinary() >= ordinary;
        standby && self.slots.iter().any(relieves)
    }

    /// Returns the limits of a subflow of path `slot` that has `queued` unsent
    /// bytes.
    #[inline(always)]
    pub fn limits(&self, slot: &Slot, queued: u64) -> Limits {
        let longest_us = self.tally.longest_us.get();
        if self.rests(slot) {
            // The scheduler prefers a path whose queue is not empty for some bursts
            // yet. The shorter the queue, the less these bring.
            return Limits {
                cap: HELD_OUT,
                lowat: lowat(slot, MIN_CAP_BYTES_PER_SEC as u32, longest_us) as u32,
            };
        }
        if self.tally.free.get() != 0 || self.tally.open.get() < 2 {
            return Limits::NONE;
        }
        // The kernel gives this backup nothing anyway.
        if slot.is_backup() && self.tally.primary.get() != 0 {
            return Limits::NONE;
        }
        let path_cap = slot.cap.get() as u32;
        let subflows = slot.subflows.get().max(1);
        let lowat = lowat(slot, path_cap, longest_us);
        let cap = match path_cap {
            NO_CAP | HELD_OUT => NO_CAP,
            cap => {
                let mut cap = (u64::from(cap) / subflows).max(MIN_CAP_BYTES_PER_SEC);
                if queued > BASE_LOWAT + lowat {
                    cap = cap.max((queued - lowat) * DRAIN);
                }
                cap.min(u64::from(NO_CAP)) as u32
            }
        };
        Limits {
            cap,
            lowat: lowat as u32,
        }
    }
}

/// Returns how long a subflow's send queue may be, bytes.
///
/// The scheduler sends nothing while its favourite's queue is full. With equal
/// queues a path with a short round trip would always look emptier. So each
/// path may queue [`QUEUE_NS`] of its cap, and beyond that as much as it
/// carries in the time by which its round trip is shorter than the longest.
#[inline(always)]
fn lowat(slot: &Slot, path_cap: u32, longest_us: u64) -> u64 {
    let gap_us = longest_us.saturating_sub(slot.srtt_us.get());
    let known = match slot.rate.get() {
        0 => 1_000_000,
        rate => rate,
    };
    let (rate, base) = match path_cap {
        NO_CAP => (known, BASE_LOWAT),
        cap => {
            let cap = u64::from(cap);
            let queue = cap / (NS_PER_SEC / QUEUE_NS);
            (known.min(cap), queue.clamp(MIN_LOWAT, BASE_LOWAT))
        }
    };
    let lowat = (base + rate / 1000 * gap_us / 1000 * 3 / 2).min(MAX_LOWAT);
    // The mark never lengthens a queue: two bursts fill the base, and one byte
    // more would let a third one in.
    let mark = u64::from(LOWAT_MARK);
    lowat.saturating_sub(mark) & u64::from(LOWAT_MASK) | mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_has_left_is_told_from_what_others_set() {
        let limits = |cap, lowat| Limits { cap, lowat };
        // Sockets as the kernel makes them, before and since Linux 6.10.
        for lowat in [0, NO_LOWAT] {
            let stock = limits(NO_CAP, lowat);
            assert_eq!(stock.split(), (Limits::NONE, stock));
        }
        let others = limits(5_000_000, 16_384);
        assert_eq!(others.split(), (Limits::NONE, others));

        // The mark does not let another burst into the queue.
        let base = lowat(&Slot::default(), NO_CAP, 0);
        assert!((BASE_LOWAT - 256..=BASE_LOWAT).contains(&base), "{base}");

        let free = limits(NO_CAP, NO_LOWAT);
        let left = limits(64_000, lowat(&Slot::default(), 64_000, 0) as u32);
        assert_eq!(left.split(), (left, free));
        let held_out = limits(HELD_OUT, 0);
        let (ours, prior) = held_out.split();
        assert_eq!((ours.cap, prior), (HELD_OUT, limits(NO_CAP, 0)));
    }
}
