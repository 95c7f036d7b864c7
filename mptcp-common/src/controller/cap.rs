//! The cap of each path, by what it leads or lags.

use super::slot::{Role, signed};
use super::tuning::*;
use super::{Controller, Ledger, Slot};

impl Controller {
    /// Gives a path its cap, after the sums of a step are taken.
    #[inline(always)]
    pub(super) fn cap_path(&self, slot: &Slot, now_ns: u64, ledger: Option<&Ledger>) {
        let weights = self.tally.weights.get().max(1);
        let rate = self.tally.rate.get();
        // Excesses that do not sum to zero are shared out as well. Otherwise
        // they would be a lead of all paths over nobody, and hold all of them
        // back.
        let shared = self.tally.acked.get() as i64 + self.tally.excess.get() as i64;
        let fresh = slot.fresh_bytes();
        slot.counted_bytes.set(slot.counted_bytes.get() + fresh);
        let cap = match slot.role(&self.tally) {
            // Standby paths are held out one by one: see `limits`.
            Role::Out | Role::Standby => {
                // When it takes part again, it owes nothing and is owed
                // nothing.
                slot.set_excess_bytes(0);
                slot.unowed_ns.set(now_ns);
                slot.rested_ns.set(now_ns);
                NO_CAP
            }
            Role::Active(weight) => {
                slot.set_excess_bytes(slot.excess_bytes() >> (self.tally.forget.get() & 63));
                let share = signed(shared, shared.unsigned_abs() * weight / weights);
                let mut fair = weight * self.unit.get();
                let mut lead =
                    slot.lead_permille(fresh as i64 - share, fair, weights * self.unit.get());
                // The ledger leaves a path out that nobody can use.
                let bulk = ledger.is_some() && now_ns.saturating_sub(self.full_ns.get()) < FULL_NS;
                let (mut spared, mut few) = (false, false);
                if let Some(ledger) = ledger
                    && let Some(account) = ledger.path(slot.path.get().wrapping_sub(1))
                {
                    lead = account.lead_permille();
                    let part = account.fair_part(slot.rate.get());
                    fair = if self.tally.active.get() < 2 {
                        part
                    } else {
                        fair.max(part).max(ledger.even_part(account))
                    };
                    spared = account.is_spared(self.lot.get());
                    few = ledger.is_used_by_few();
                }
                let slow = rate * weight / weights * 17 / 20;
                // An application that waits for answers would wait for each
                // chunk that a lower cap paces out.
                let least = if bulk { 0 } else { THIN_BYTES_PER_SEC };
                let floor = self
                    .tally
                    .fits
                    .get()
                    .min(slow + self.tally.spare.get())
                    .max(least);
                if slot.is_held_out() {
                    // It was given nothing because it was not meant to be.
                    slot.unowed_ns.set(now_ns);
                    slot.rested_ns.set(now_ns);
                } else if lead >= 0 || self.tally.held.get() == 0 {
                    slot.unowed_ns.set(now_ns);
                } else if !bulk && slot.is_idle(self.given_ns.get(), fair) {
                    self.tally.starving.set(1);
                }
                if !bulk
                    && lead < 0
                    && slot.is_forgotten(self.given_ns.get(), self.tally.steered_ns.get())
                {
                    self.tally.starving.set(1);
                }
                let whole = self.tally.whole.get() != 0;
                let home = self.place.placed.get();
                if home != 0 && slot.path.get() != home {
                    HELD_OUT
                } else if whole && self.tally.free.get() == 0 {
                    self.switch(slot, lead, now_ns)
                } else if self.tally.free.get() != 0
                    || (self.tally.fresh.get() != 0
                        && ledger.is_some()
                        && lead < FRESH_LEAD_PERMILLE)
                    || (self.tally.active.get() < 2 && lead <= 0)
                {
                    NO_CAP
                } else {
                    let room = fair * self.tally.room.get() / PERMILLE;
                    let cap = cap(room, lead);
                    let coarse = fair < floor || (slot.is_held_out() && fair < 2 * floor);
                    let most = if slot.is_held_out() {
                        0
                    } else {
                        FULL_LEAD_PERMILLE
                    };
                    let relieved = self.tally.relief.get() & self.tally.revives.get();
                    if relieved != 0 && (spared && coarse || few && lead > most) {
                        HELD_OUT
                    } else {
                        cap.max(floor as u32)
                    }
                }
            }
        };
        if slot.is_held_out() && cap != HELD_OUT && slot.turned.get() == 0 {
            slot.turned.set(Slot::READMITTED);
            slot.readmitted_ns.set(now_ns);
        }
        slot.cap.set(u64::from(cap));
    }

    /// Returns the cap of a path that the connection's messages use as a whole or
    /// not at all.
    #[inline(always)]
    fn switch(&self, slot: &Slot, lead: i64, now_ns: u64) -> u32 {
        // As long as a path is not used again, the connection needs the others.
        let swept = !self.slots.iter().any(|other| other.awaits_sweep(now_ns));
        let most = if slot.is_held_out() {
            -SWITCH_LEAD_PERMILLE
        } else if self.clear.get() != 0 && swept {
            SWITCH_LEAD_PERMILLE
        } else {
            i64::MAX
        };
        if lead > most { HELD_OUT } else { NO_CAP }
    }

    /// Leaves the connection alone for a while if holding back its other paths
    /// does not bring data to the one that lags. An application that writes one
    /// chunk and waits for the answer has nothing for a second path, and would
    /// only wait longer. Each time lasts twice as long as the one before, until
    /// [`MAX_FREE_NS`] pass without another.
    #[inline(always)]
    pub(super) fn give_up_if_futile(&self, now_ns: u64) {
        if self.has_given_up() {
            self.free_ns
                .set((self.free_ns.get() * 2).clamp(MIN_FREE_NS, MAX_FREE_NS));
            self.free_until_ns.set(now_ns + self.free_ns.get());
        } else if now_ns.saturating_sub(self.free_until_ns.get()) > MAX_FREE_NS {
            self.free_ns.set(0);
        }
    }
}

/// Returns `w V (1 + eps) (1 - lead)`, or no cap for a path that lags. `room`
/// is the product without its last factor.
#[inline(always)]
fn cap(room: u64, lead_permille: i64) -> u32 {
    if lead_permille <= -500 {
        return NO_CAP;
    }
    let factor = (PERMILLE as i64 - lead_permille).max(200) as u64;
    let cap = room * factor / PERMILLE;
    cap.clamp(MIN_CAP_BYTES_PER_SEC, u64::from(NO_CAP)) as u32
}
