//! What a step knows of all paths before it looks at them one by one.

use super::slot::Role;
use super::tuning::*;
use super::{Controller, Ledger};
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
    /// Paths with a subflow.
    pub(super) open: Word,
    /// The longest round trip of the paths that take part, microseconds.
    pub(super) longest_us: Word,
    /// 1 if a path makes progress and has a subflow that is no backup. The
    /// kernel then gives backups nothing.
    pub(super) primary: Word,
    /// 1 if a path with a weight carries the connection, so that standby paths
    /// may rest.
    pub(super) weighted: Word,
    /// Number of the paths that take part.
    pub(super) active: Word,
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
    /// 1 if the connection's paths are capped only where they lead by much,
    /// because its traffic has just begun.
    pub(super) fresh: Word,
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
    /// No cap falls below about its path's share plus this, bytes per second.
    pub(super) spare: Word,
    /// How far this step forgets excesses: it divides them by two to this
    /// power.
    pub(super) forget: Word,
    /// `1 + eps`, per mille.
    pub(super) room: Word,
    /// Since when the connection is steered.
    pub(super) steered_ns: Word,
}

crate::layout::layout! {
    Tally {
        open, longest_us, primary, weighted, active, weights, rate, acked, excess, free, fresh, relief, choice, thin,
        starving, held, spare, forget, room, steered_ns,
    }
}

impl Controller {
    /// Adds what the connection had acked since its last step to the ledger. If
    /// the connection has a `choice`, its paths take part there.
    #[inline(always)]
    pub(super) fn report(&self, ledger: &Ledger, now_ns: u64, choice: bool, unassigned: bool) {
        ledger.notice(self.tally.longest_us.get(), unassigned);
        self.tally.relief.set(0);
        if choice && now_ns.saturating_sub(self.reported_ns.get()) >= NS_PER_SEC {
            self.reported_ns.set(now_ns);
            ledger.count_user();
        }
    }

    /// Adds what the path at `index` had acked since the last step to the ledger:
    /// the part of a report that each path makes.
    #[inline(always)]
    pub fn report_path(&self, index: usize, ledger: &Ledger, now_ns: u64) {
        let Some(slot) = self.slots.get(index & (MAX_SLOTS - 1)) else {
            return;
        };
        let Some(account) = ledger.path(slot.path.get().wrapping_sub(1)) else {
            return;
        };
        account.add(slot.fresh_bytes());
        if let Role::Active(weight) = slot.role(&self.tally)
            && self.tally.choice.get() != 0
        {
            account.used(weight, now_ns);
            if account.lead_permille() <= 0 && slot.timeouts.get() == 0 {
                self.tally.relief.set(1);
            }
        }
    }

    /// Sums up the paths that take part.
    #[inline(always)]
    pub(super) fn count(&self) {
        let tally = &self.tally;
        let sums = [&tally.weights, &tally.rate, &tally.acked, &tally.excess];
        tally.primary.set(0);
        tally.weighted.set(0);
        // A path that takes no part lengthens no queue, however long its round
        // trip.
        tally.longest_us.set(0);
        tally.active.set(0);
        tally.held.set(0);
        for sum in sums {
            sum.set(0);
        }
        for slot in &self.slots {
            if slot.open() && slot.dead.get() == 0 && !slot.is_backup() {
                tally.primary.set(1);
            }
        }
        for slot in &self.slots {
            if slot.carries() && (tally.primary.get() == 0 || !slot.is_backup()) {
                tally.weighted.set(1);
            }
        }
        for slot in &self.slots {
            if let Role::Active(weight) = slot.role(tally) {
                tally.weights.set(tally.weights.get() + weight);
                tally.rate.set(tally.rate.get() + slot.rate.get());
                tally.acked.set(tally.acked.get() + slot.fresh_bytes());
                tally.active.set(tally.active.get() + 1);
                let srtt_us = slot.srtt_us.get().min(MAX_SRTT_US);
                tally.longest_us.set(tally.longest_us.get().max(srtt_us));
                tally.excess.add(slot.excess_bytes() as u64);
                if slot.is_held() {
                    tally.held.set(1);
                }
            }
        }
    }

    /// Brings every path's rate up to date, and whether it makes progress.
    #[inline(always)]
    pub(super) fn measure(&self, now_ns: u64, elapsed_ns: u64) {
        let tally = &self.tally;
        tally.open.set(0);
        tally.longest_us.set(0);
        for slot in &self.slots {
            if slot.open() {
                tally.open.set(tally.open.get() + 1);
                let srtt_us = slot.srtt_us.get().min(MAX_SRTT_US);
                tally.longest_us.set(tally.longest_us.get().max(srtt_us));
            }
        }
        // A path reports once per round trip, so a shorter memory would see
        // gaps.
        let memory_ns = (2_000 * tally.longest_us.get()).max(100_000_000);
        let elapsed_us = (elapsed_ns / 1000).max(1);
        for slot in &self.slots {
            if slot.known.get() == 0 && slot.open() {
                slot.known.set(1);
                slot.counted_bytes.set(slot.acked_bytes.get());
            }
            let now_rate = slot.fresh_bytes() * 1_000_000 / elapsed_us;
            let old = slot.rate.get() * (memory_ns / 1000);
            let rate = (old + now_rate * elapsed_us) / (memory_ns / 1000 + elapsed_us);
            slot.rate.set(rate);
            slot.judge(now_ns);
            if slot.dead.get() != 0 || !slot.open() {
                slot.set_excess_bytes(0);
            }
        }
    }
}
