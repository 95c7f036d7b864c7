//! The cap of each path, by what it leads or lags.

use super::slot::{Role, signed};
use super::tuning::*;
use super::{Controller, Ledger, Slot};

impl Controller {
    /// Gives a path its cap, after the sums of a step are taken.
    #[inline(always)]
    pub(super) fn cap_path(&self, slot: &Slot, now_ns: u64, ledger: Option<&Ledger>) {
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
                self.idle_cap(slot)
            }
            Role::Active(weight) => {
                self.judge_lead(slot, weight, fresh, now_ns, ledger);
                self.note_idle(slot, now_ns);
                self.active_cap(slot, weight, now_ns, ledger.is_some())
            }
        };
        if slot.is_held_out() && cap != HELD_OUT && slot.turned.get() == 0 {
            slot.turned.set(Slot::READMITTED);
            slot.readmitted_ns.set(now_ns);
        }
        slot.cap.set(u64::from(cap));
    }

    /// Returns the cap of a path that takes no part. If it has died while another path
    /// takes part, the cap keeps the scheduler from filling its queue: the kernel
    /// would otherwise give it much data because of its old pacing rate, and all of
    /// that would leave at once when the path returns. The cap does not keep it from
    /// returning, because TCP does not pace the packet that it sends after a timeout
    /// (`tcp_retransmit_timer`).
    #[inline(always)]
    fn idle_cap(&self, slot: &Slot) -> u32 {
        if slot.dead.get() != 0 && self.tally.active.get() != 0 {
            THIN_BYTES_PER_SEC as u32
        } else {
            NO_CAP
        }
    }

    /// Works out how far a path that takes part leads, and what it may carry.
    /// `fresh` bytes were acked on it since the last step.
    #[inline(always)]
    fn judge_lead(
        &self,
        slot: &Slot,
        weight: u64,
        fresh: u64,
        now_ns: u64,
        ledger: Option<&Ledger>,
    ) {
        let tally = &self.tally;
        let weights = tally.weights.get().max(1);
        // Excesses that do not sum to zero are shared out as well. Otherwise
        // they would be a lead of all paths over nobody, and hold all of them
        // back.
        let shared = tally.acked.get() as i64 + tally.excess.get() as i64;
        slot.set_excess_bytes(slot.excess_bytes() >> (tally.forget.get() & 63));
        let share = signed(shared, shared.unsigned_abs() * weight / weights);
        let fair = weight * self.unit.get();
        let lead = slot.lead_permille(fresh as i64 - share, fair, weights * self.unit.get());
        // The ledger leaves a path out that nobody can use.
        let bulk = ledger.is_some() && now_ns.saturating_sub(self.full_ns.get()) < FULL_NS;
        tally.bulk.set(u64::from(bulk));
        // An application that waits for answers would wait for each chunk that a
        // lower cap paces out.
        let least = if bulk { 0 } else { THIN_BYTES_PER_SEC };
        let slow = tally.rate.get() * weight / weights * 17 / 20;
        let floor = tally.fits.get().min(slow + tally.spare.get()).max(least);
        tally.floor.set(floor);
        tally.fair.set(fair);
        tally.lead.set(lead as u64);
        tally.few.set(0);
        tally.most.set(u64::from(NO_CAP));
        let account = ledger.and_then(|ledger| ledger.path(slot.path.get().wrapping_sub(1)));
        if let (Some(ledger), Some(account)) = (ledger, account) {
            let part = account.fair_part(slot.rate.get());
            tally.lead.set(account.lead_permille() as u64);
            tally.fair.set(if tally.active.get() < 2 {
                part
            } else {
                fair.max(part).max(ledger.even_part(account))
            });
            let few = ledger.is_used_by_few();
            tally.few.set(u64::from(few));
            if !few {
                // A connection that waits for a chunk leaves the other paths to others,
                // so the caps of many may be lower than their send buffers ask for.
                tally.floor.set(least);
                tally.most.set(account.most_for_one());
            }
        }
    }

    /// Notes since when a path has been owed something, and whether it is given
    /// nothing all the same.
    #[inline(always)]
    fn note_idle(&self, slot: &Slot, now_ns: u64) {
        let tally = &self.tally;
        let (lead, bulk) = (tally.lead.get() as i64, tally.bulk.get() != 0);
        if slot.is_held_out() {
            // It was given nothing because it was not meant to be.
            slot.unowed_ns.set(now_ns);
            slot.rested_ns.set(now_ns);
        } else if lead >= 0 || tally.held.get() == 0 {
            slot.unowed_ns.set(now_ns);
        } else if !bulk && slot.is_idle(self.given_ns.get(), tally.fair.get()) {
            tally.starving.set(1);
        }
        if !bulk && lead < 0 && slot.is_forgotten(self.given_ns.get(), tally.steered_ns.get()) {
            tally.starving.set(1);
        }
    }

    /// Returns the cap of a path that takes part.
    #[inline(always)]
    fn active_cap(&self, slot: &Slot, weight: u64, now_ns: u64, hosted: bool) -> u32 {
        let tally = &self.tally;
        let lead = tally.lead.get() as i64;
        let home = self.place.placed.get();
        if home != 0 && slot.path.get() != home {
            return HELD_OUT;
        }
        if tally.whole.get() != 0
            && tally.free.get() == 0
            && let Some(cap) = self.switch(slot, weight, lead, now_ns)
        {
            return cap;
        }
        if tally.free.get() != 0
            || (hosted && tally.fresh.get() != 0 && lead < FRESH_LEAD_PERMILLE)
            || (tally.active.get() < 2 && lead <= 0)
        {
            return NO_CAP;
        }
        self.note_needless(slot);
        let relieved = tally.relief.get() & tally.revives.get();
        if relieved & tally.needless.get() != 0 {
            return HELD_OUT;
        }
        let room = tally.fair.get() * tally.room.get() / PERMILLE;
        let least = tally.floor.get().max(MIN_CAP_BYTES_PER_SEC);
        cap(room, lead, least, tally.most.get())
    }

    /// Notes whether the connection should do without a path: it is one of few, and the
    /// least cap would still be too much.
    #[inline(always)]
    fn note_needless(&self, slot: &Slot) {
        let tally = &self.tally;
        let held_out = slot.is_held_out();
        let most = if held_out { 0 } else { FULL_LEAD_PERMILLE };
        let leads = tally.lead.get() as i64 > most;
        tally.needless.set(tally.few.get() & u64::from(leads));
    }

    /// Returns the cap of a path that the connection's messages use as a whole or
    /// not at all. An object that is being sent on a path that leads by too much has
    /// the cap of other traffic (`None`).
    #[inline(always)]
    fn switch(&self, slot: &Slot, weight: u64, lead: i64, now_ns: u64) -> Option<u32> {
        let objects = self.tally.objects.get() != 0;
        let excess = OBJECT_EXCESS_PERMILLE * self.tally.weights.get() / weight.max(1);
        let (most, least) = match objects {
            true => (excess.min(OBJECT_LEAD_PERMILLE) as i64, 0),
            false => (SWITCH_LEAD_PERMILLE, -SWITCH_LEAD_PERMILLE),
        };
        if slot.is_held_out() {
            return Some(if lead > least { HELD_OUT } else { NO_CAP });
        }
        if lead <= most {
            return Some(NO_CAP);
        }
        // As long as a path is not used again, the connection needs the others.
        let swept = !self.slots.iter().any(|other| other.awaits_sweep(now_ns));
        match (self.clear.get() != 0 && swept, objects) {
            (true, _) => Some(HELD_OUT),
            (false, true) => None,
            (false, false) => Some(NO_CAP),
        }
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

/// Returns `w V (1 + eps) (1 - lead)`, but no less than `least`; or `most` for a path
/// that lags. `room` is the product without its last factor, which is smaller for one
/// of many connections: each of them has a `most`.
#[inline(always)]
fn cap(room: u64, lead_permille: i64, least: u64, most: u64) -> u32 {
    let lowest = match most == u64::from(NO_CAP) {
        true => LEAST_PERMILLE,
        false => LEAST_OF_MANY_PERMILLE,
    };
    let factor = (PERMILLE as i64 - lead_permille).max(lowest) as u64;
    let cap = match lead_permille <= -500 {
        true => most,
        false => room * factor / PERMILLE,
    };
    cap.max(least).min(u64::from(NO_CAP)) as u32
}
