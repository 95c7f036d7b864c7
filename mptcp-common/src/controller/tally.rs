//! The knowledge that a step has of all paths before it looks at them one by one.

use super::slot::Role;
use super::tuning::*;
use super::{Controller, Ledger, Slot, smooth};
use crate::word::Word;

/// Sums that a step takes over the paths, and what it decides before it looks
/// at the paths one by one.
///
/// All of it is in memory rather than in registers. The verifier would
/// otherwise follow every value that each of these can have through all the
/// code that comes after.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Tally {
    /// Microseconds since the last step.
    pub(super) elapsed_us: Word,
    /// 1 if data waits to be sent, given to a subflow or not.
    pub(super) backlogged: Word,
    /// 1 if data waits that no subflow takes.
    pub(super) unassigned: Word,
    /// 1 if a subflow has data that it has not sent.
    pub(super) queued: Word,
    /// 1 if a subflow has timed out since it last made progress.
    pub(super) stuck: Word,
    /// Paths with a subflow.
    pub(super) open: Word,
    /// The longest round trip of these paths, microseconds.
    opened_us: Word,
    /// The longest round trip of the paths that take part, microseconds. A path
    /// that takes no part lengthens no queue.
    pub(super) longest_us: Word,
    /// 1 if a path makes progress and has a subflow that is no backup. The
    /// kernel then gives backups nothing.
    pub(super) primary: Word,
    /// 1 if a path with a weight carries the connection, so that standby paths
    /// may rest.
    pub(super) weighted: Word,
    /// Number of the paths that take part.
    pub(super) active: Word,
    /// Number of the paths that their ceiling keeps from taking part.
    pub(super) ceiled: Word,
    /// Sum of their weights.
    pub(super) weights: Word,
    /// Sum of their rates, bytes per second.
    pub(super) rate: Word,
    /// Sum of their bytes acked since the last step.
    pub(super) acked: Word,
    /// Sum of their excess bytes (two's complement), which forgetting has moved
    /// away from zero.
    pub(super) excess: Word,
    /// 1 if the connection is left alone for now.
    pub(super) free: Word,
    /// 1 if the connection's traffic has just begun. With a ledger, its paths
    /// are then capped only where they lead by much.
    pub(super) fresh: Word,
    /// 1 if paths may be held out: [`super::Asked::revives`].
    pub(super) revives: Word,
    /// 1 if the connection's messages use one path after the other as a whole,
    /// rather than paths with caps.
    pub(super) whole: Word,
    /// 1 if these messages are objects: answers longer than a frame, and not long
    /// enough for caps.
    pub(super) objects: Word,
    /// 1 if a path of the connection does not lead, over all connections, so
    /// that it can take what another path gives up.
    pub(super) relief: Word,
    /// 1 if the connection has a choice, so that its paths take part in the ledger.
    pub(super) choice: Word,
    /// 1 if it is left alone because it has little to send.
    pub(super) thin: Word,
    /// 1 if a path lags, and still is given nothing.
    pub(super) starving: Word,
    /// 1 if a path could carry more than its cap lets it.
    pub(super) held: Word,
    /// At a rate below this the next chunk would not fit the send buffer, bytes
    /// per second.
    pub(super) fits: Word,
    /// No cap falls below about its path's share plus this, bytes per second.
    pub(super) spare: Word,
    /// How far this step forgets excesses: it divides them by two to this
    /// power.
    pub(super) forget: Word,
    /// `1 + eps`, per mille.
    pub(super) room: Word,
    /// Since when the connection is steered.
    pub(super) steered_ns: Word,
    /// How far the path that is looked at leads, in thousandths of a horizon (two's
    /// complement). All that follows is of that path, too.
    pub(super) lead: Word,
    /// The rate of its share, bytes per second.
    pub(super) fair: Word,
    /// Its cap does not fall below this, bytes per second.
    pub(super) floor: Word,
    /// 1 if the connection lately had data that no subflow took, and the ledger
    /// leaves out a path that nobody can use.
    pub(super) bulk: Word,
    /// 1 if a ledger steers the connection, and few have a choice.
    pub(super) few: Word,
    /// Its cap while it lags, bytes per second; [`NO_CAP`] but for one of many
    /// connections.
    pub(super) most: Word,
    /// 1 if the connection should do without the path.
    pub(super) needless: Word,
}

crate::layout::layout! {
    Tally {
        elapsed_us, backlogged, unassigned, queued, stuck, open, opened_us, longest_us, primary, weighted, active,
        ceiled, weights, rate, acked, excess, free, fresh, revives, whole, objects, relief, choice, thin, starving, held, fits,
        spare, forget, room, steered_ns, lead, fair, floor, bulk, few, most, needless,
    }
}

/// The things that a step does, each for every path in turn before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Counts the paths with a subflow.
    Open,
    /// Brings the rates up to date, and whether the paths make progress.
    Measure,
    /// Finds out whether a path with a weight carries the connection.
    Rank,
    /// Sums up the paths that take part.
    Sum,
    /// Adds what was acked to the ledger.
    Report,
    /// Looks for the path that a thin connection is placed on.
    Place,
    /// Gives the paths their caps.
    Cap,
    /// Judges which paths their ceiling keeps from taking part in the next step.
    Judge,
}

impl Phase {
    /// The phase of this number; [`Phase::Judge`] for a number of none.
    #[inline(always)]
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Open,
            1 => Self::Measure,
            2 => Self::Rank,
            3 => Self::Sum,
            4 => Self::Report,
            5 => Self::Place,
            6 => Self::Cap,
            _ => Self::Judge,
        }
    }
}

impl Tally {
    /// Clears the sums for a step that comes `elapsed_ns` after the last one.
    #[inline(always)]
    pub(super) fn begin(&self, elapsed_ns: u64) {
        self.elapsed_us.set((elapsed_ns / 1000).max(1));
        let sums = [
            &self.queued,
            &self.stuck,
            &self.open,
            &self.opened_us,
            &self.longest_us,
            &self.primary,
            &self.weighted,
            &self.active,
            &self.ceiled,
            &self.weights,
            &self.rate,
            &self.acked,
            &self.excess,
            &self.relief,
            &self.held,
        ];
        for sum in sums {
            sum.set(0);
        }
    }

    /// [`Phase::Open`].
    #[inline(always)]
    pub(super) fn open(&self, slot: &Slot) {
        if slot.open() {
            self.open.set(self.open.get() + 1);
            let srtt_us = slot.srtt_us.get().min(MAX_SRTT_US);
            self.opened_us.set(self.opened_us.get().max(srtt_us));
            if slot.queued.get() != 0 {
                self.queued.set(1);
            }
            if slot.timeouts.get() != 0 {
                self.stuck.set(1);
            }
        }
    }

    /// [`Phase::Measure`].
    #[inline(always)]
    pub(super) fn measure(&self, slot: &Slot, now_ns: u64) {
        if slot.known.get() == 0 && slot.open() {
            slot.known.set(1);
            slot.counted_bytes.set(slot.acked_bytes.get());
        }
        // A path reports once per round trip, so a shorter memory would see
        // gaps.
        let memory_us = (2 * self.opened_us.get()).max(100_000);
        let elapsed_us = self.elapsed_us.get();
        smooth(
            &slot.rate,
            slot.fresh_bytes() * US_PER_SEC,
            elapsed_us,
            memory_us,
        );
        slot.judge(now_ns);
        if slot.dead.get() != 0 || !slot.open() {
            slot.set_excess_bytes(0);
        } else if !slot.is_backup() {
            self.primary.set(1);
        }
    }

    /// [`Phase::Rank`].
    #[inline(always)]
    pub(super) fn rank(&self, slot: &Slot) {
        if slot.carries() && (self.primary.get() == 0 || !slot.is_backup()) {
            self.weighted.set(1);
        }
    }

    /// [`Phase::Sum`].
    #[inline(always)]
    pub(super) fn sum(&self, slot: &Slot) {
        if let Role::Active(weight) = slot.role(self) {
            self.weights.set(self.weights.get() + weight);
            self.rate.set(self.rate.get() + slot.rate.get());
            self.acked.set(self.acked.get() + slot.fresh_bytes());
            self.active.set(self.active.get() + 1);
            let srtt_us = slot.srtt_us.get().min(MAX_SRTT_US);
            self.longest_us.set(self.longest_us.get().max(srtt_us));
            self.excess.add(slot.excess_bytes() as u64);
            if slot.is_held() {
                self.held.set(1);
            }
        } else if slot.ceiled.get() != 0 {
            self.ceiled.set(self.ceiled.get() + 1);
            // The scheduler compares its queue with those of the others.
            let srtt_us = slot.srtt_us.get().min(MAX_SRTT_US);
            self.longest_us.set(self.longest_us.get().max(srtt_us));
        }
    }

    /// Returns whether the connection has paths to choose from, one of which its
    /// ceiling may keep from taking part.
    #[inline(always)]
    pub(super) fn has_choice(&self) -> bool {
        self.active.get() + self.ceiled.get() >= 2
    }
}

impl Controller {
    /// [`Phase::Report`]. If the connection has a choice, the path takes part in
    /// the ledger.
    #[inline(always)]
    pub(super) fn report_path(&self, slot: &Slot, ledger: Option<&Ledger>, now_ns: u64) {
        let path = slot.path.get().wrapping_sub(1);
        let Some(account) = ledger.and_then(|ledger| ledger.told(path)) else {
            return;
        };
        account.add(slot.fresh_bytes());
        account.limit.set(slot.limit.get());
        if let Role::Active(weight) = slot.role(&self.tally) {
            self.place.notice(slot, account);
            if self.tally.choice.get() != 0 {
                account.used(weight, now_ns);
                if account.lead_permille() <= 0 && slot.timeouts.get() == 0 {
                    self.tally.relief.set(1);
                }
            }
        }
    }

    /// [`Phase::Judge`].
    #[inline(always)]
    pub(super) fn judge_path(&self, slot: &Slot, ledger: Option<&Ledger>) {
        match ledger {
            Some(ledger) => ledger.judge_ceiling(slot),
            None => slot.judge_ceiling(&self.tally),
        }
    }

    /// Tells the ledger what the connection's step has found.
    #[inline(always)]
    pub(super) fn report(&self, ledger: &Ledger, now_ns: u64) {
        let tally = &self.tally;
        ledger.notice(tally.longest_us.get(), tally.unassigned.get() != 0);
        let counted = now_ns.saturating_sub(self.reported_ns.get()) < NS_PER_SEC;
        if tally.choice.get() != 0 && !counted {
            self.reported_ns.set(now_ns);
            ledger.count_user();
        }
    }
}
