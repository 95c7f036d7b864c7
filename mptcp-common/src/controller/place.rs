//! `--thin place`: each thin connection uses one path, so that many of them
//! together follow the weights.
//!
//! The ledger keeps each path's load: the bytes of connections that were placed
//! there in the last ten seconds or so, and a charge for each such connection. A
//! connection that has been thin for [`PLACE_NS`] is placed on the path with the
//! least load for its weight, and its other paths rest as standby. It keeps that
//! path, its home, until the path dies. While it is not thin, it uses all its
//! paths.

use super::slot::{Role, Slot};
use super::tuning::*;
use super::{Account, Controller, Ledger};
use crate::word::Word;

/// Where a thin connection is placed.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Place {
    /// The home's path, as in [`Slot::path`]; 0: there is none yet.
    home: Word,
    /// The home's path while the connection is placed there, else 0.
    pub(super) placed: Word,
    /// Since when the connection is thin; 0: it is not.
    thin_ns: Word,
    /// 1 if the running step looks for a home.
    pub(super) seeking: Word,
    /// 1 if the running step has found that the home takes part.
    settled: Word,
    /// The best home that the running step has found, and its load for a unit of
    /// weight.
    best: Word,
    best_load: Word,
}

crate::layout::layout! {
    Place { home, placed, thin_ns, seeking, settled, best, best_load }
}

impl Place {
    /// [`super::Phase::Report`]: notes whether the path is the home, and adds to
    /// its load.
    #[inline(always)]
    pub(super) fn notice(&self, slot: &Slot, account: &Account) {
        if slot.path.get() == self.home.get() {
            self.settled.set(1);
        }
        if slot.path.get() == self.placed.get() {
            account.charge(slot.fresh_bytes());
        }
    }

    /// [`super::Phase::Place`]: compares a path that takes part with those
    /// before.
    #[inline(always)]
    pub(super) fn compare(&self, slot: &Slot, role: Role, ledger: &Ledger) {
        if let Role::Active(weight) = role
            && self.seeking.get() != 0
            && slot.timeouts.get() == 0
            && let Some(account) = ledger.path(slot.path.get().wrapping_sub(1))
        {
            let load = account.load_for(weight);
            if self.best.get() == 0 || load < self.best_load.get() {
                self.best.set(slot.path.get());
                self.best_load.set(load);
            }
        }
    }
}

impl Controller {
    /// Chooses whether the connection is placed, and whether it needs a home. To
    /// be called after the paths were counted. `places` is whether the policy
    /// places thin connections.
    #[inline(always)]
    pub(super) fn begin_placing(&self, now_ns: u64, places: bool) {
        let (place, tally) = (&self.place, &self.tally);
        let thin = places && tally.thin.get() != 0 && tally.backlogged.get() == 0;
        place.placed.set(0);
        place.seeking.set(0);
        place.best.set(0);
        if !thin {
            place.thin_ns.set(0);
            return;
        }
        if place.thin_ns.get() == 0 {
            place.thin_ns.set(now_ns);
        }
        let long = now_ns.saturating_sub(place.thin_ns.get()) >= PLACE_NS;
        if long && tally.active.get() > 1 {
            place.placed.set(place.home.get() * place.settled.get());
            place.seeking.set(u64::from(place.placed.get() == 0));
        }
    }

    /// Moves to the best home that was found, if the step looked for one.
    #[inline(always)]
    pub(super) fn end_placing(&self, ledger: &Ledger) {
        let place = &self.place;
        let best = place.best.get();
        place.settled.set(0);
        if let Some(account) = ledger.path(best.wrapping_sub(1)) {
            account.charge(PLACE_CHARGE);
            place.home.set(best);
            place.placed.set(best);
        }
    }
}
