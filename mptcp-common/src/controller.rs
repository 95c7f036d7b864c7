//! The weighted policy: a controller for each connection, and a ledger
//! ([`Ledger`]) by which all of them keep one ratio.
//!
//! ```text
//!   every callback of a subflow:   progress()   what was acked, when, srtt
//!   every 20 ms, first come:       step()       one cap per path
//!   every callback of a subflow:   limits()     its share of its path's cap
//!
//!   rate_i   acked bytes per second of path i, smoothed
//!   V        sum of rate_i / sum of w_i (bytes/s per unit of weight): rises with
//!            the rate at once, and falls with it within 0.3 s, or a second
//!            while data waits that no subflow takes
//!   excess_i bytes acked beyond the share w_i / W; over all paths they sum to 0
//!   lead_i   excess_i / (w_i V tau)
//!   cap_i    w_i V (1 + eps) (1 - lead_i)         none, if it lags by tau / 2
//!   eps      0.08; 0.25 while data waits; 1 while the connection becomes faster
//!
//!   lead_i     -1 ...... -1/2 ............ 0 .......... 0.8 .......
//!   cap_i      none      none | 1.5 (1+eps) ..  1+eps  .. 0.2 (1+eps)   times w_i V
//! ```
//!
//! With a ledger, `lead_i` is the host's, and the cap is the largest of these
//! instead of `w_i V`, times the same factors:
//!
//! ```text
//!   w_i V                    the connection's own share, as above
//!   r_i w_i V_host / R_i     what it carries on the path now, brought down (or
//!                            up) by as much as the host has to come
//!   w_i V_host / (2 N)       half of an even part among N connections
//! ```
//!
//! The default scheduler (`mptcp_subflow_get_send`) gives the next burst to
//! the subflow with the least `sk_wmem_queued / avg_pacing_rate`, so a cap both
//! limits a subflow and makes the scheduler prefer the others.
//!
//! Limits, each for a problem that was seen on real links or simulated ones:
//! * A path that lags by half a horizon is not capped, and `eps` always leaves
//!   room to grow: caps that only follow the measured rate spiral down.
//! * The excesses sum to zero. If only one side of them were forgotten, every
//!   path would keep a lead over nobody, and all would be throttled.
//! * Data queued on a subflow that is then throttled stalls the connection. So
//!   queues are kept short (`TCP_NOTSENT_LOWAT`), and a cap never falls below
//!   what drains a long queue within a part ([`DRAIN`]) of a second. Where the
//!   send buffer is small and data waits, a cap does not fall below what lets
//!   the buffer last for a [`CHUNK`] either: the ratio comes second until the
//!   buffer has grown.
//! * A thin connection (below [`THIN_BYTES_PER_SEC`], and without data waiting
//!   most of the time) is not steered at all: there is nothing to balance, and
//!   steering would only cost latency. Most of its callbacks are passed over
//!   ([`Controller::may_rest`], [`is_quiet`]).
//! * A connection whose lagging path is given nothing, although the others are
//!   held back, is not steered either. Its application sends one chunk after
//!   the other, and waits for an answer to each.
//! * Under the ledger, a connection with one live path is capped as well, if it
//!   has others that the host still uses. A hundred transfers over a short queue
//!   always include some whose second subflow waits for a retransmission; if
//!   these were free, they would take all that the others give up.
//! * Under the ledger, connections so slow that the least cap for their send
//!   buffer is above their share of a path do without that path: as many as
//!   [`Account`] says. An idle subflow is let in again by a sweep only.
//! * Traffic that begins is not capped at first, unless the host's lead is
//!   large: a rate that was measured in slow start or over a pause says nothing
//!   about what the connection could carry.
//! * A path whose subflows are all backups (an endpoint's flag, or MP_PRIO from
//!   either side) takes no part while the connection has another: the kernel
//!   gives it nothing, however much it lags.
//! * A path of weight 0 is held out with a pacing rate of 0. The kernel's
//!   scheduler passes such a path over, but TCP itself does not obey that rate:
//!   what is queued there still leaves at once.

mod ledger;
mod limits;
pub mod overflow;
mod rest;
mod slot;
mod tally;
mod traffic;
mod tuning;
mod unit;

pub use ledger::{Account, Ledger};
pub use limits::Limits;
pub use rest::is_quiet;
pub use slot::Slot;
use slot::{Role, signed};
use tally::Tally;
pub use tuning::*;
pub use unit::Unit;

pub(crate) use ledger::FINGERPRINT as LEDGER_FINGERPRINT;
pub(crate) use slot::FINGERPRINT as SLOT_FINGERPRINT;
pub(crate) use tally::FINGERPRINT as TALLY_FINGERPRINT;
pub(crate) use unit::FINGERPRINT as UNIT_FINGERPRINT;

use crate::word::Word;

/// State of the weighted policy for one connection.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Controller {
    /// Its paths.
    pub slots: [Slot; MAX_SLOTS],
    /// The sums of the last step.
    tally: Tally,
    /// When the last step ran.
    pub step_ns: Word,
    /// 1 if a callback since the last step found data that waits to be sent,
    /// given to a subflow or not.
    pub backlogged: Word,
    /// 1 if such a callback found data that no subflow takes.
    unassigned: Word,
    /// Up to where the connection's data was given to subflows
    /// (`mptcp_sock.snd_nxt`).
    given: Word,
    /// Size of the connection's send buffer, bytes.
    pub send_buffer: Word,
    /// Rate of one unit of weight, as it was lately.
    pub unit: Unit,
    /// `given` at the last step, and when it last moved.
    last_given: Word,
    given_ns: Word,
    /// When the connection was last too thin to be steered.
    thin_ns: Word,
    /// Until when the connection is left alone, and for how long it was left
    /// alone the last time.
    free_until_ns: Word,
    free_ns: Word,
    /// The part of the last second in which data waited to be sent, per mille.
    busy_permille: Word,
    /// 1 if the last step found data that waited to be sent.
    waited: Word,
    /// When a step last found no data that no subflow takes.
    taken_ns: Word,
    /// When a step last found some.
    full_ns: Word,
    /// When data was last given to a subflow after a pause.
    burst_ns: Word,
    /// What `given` was then.
    burst_given: Word,
    /// When the ledger last counted the connection.
    reported_ns: Word,
    /// Until when `spill` leaves the connection alone.
    spill_until_ns: Word,
    /// A number from 0 to [`LOTS`] - 1 that the connection keeps. By this number
    /// the ledger chooses connections that do without a path.
    pub lot: Word,
}

crate::layout::layout! {
    Controller {
        slots, tally, step_ns, backlogged, unassigned, given, send_buffer, unit, last_given,
        given_ns, thin_ns, free_until_ns, free_ns, busy_permille, waited, taken_ns, full_ns,
        burst_ns, burst_given, reported_ns, spill_until_ns, lot,
    }
}

impl Controller {
    /// Claims a step if one is due, so that only one caller runs it. Returns
    /// the time since the last step, ns.
    #[inline(always)]
    pub fn claim_step(&self, now_ns: u64) -> Option<u64> {
        let last = self.step_ns.get();
        // Another CPU may have claimed a step that is later than `now_ns`.
        let elapsed = now_ns.saturating_sub(last);
        if elapsed < STEP_NS {
            return None;
        }
        self.step_ns.replace(last, now_ns).then_some(elapsed)
    }

    /// Notes what a callback found: up to where the connection's data was given
    /// to subflows (`given`, `mptcp_sock.snd_nxt`), whether there is more
    /// (`unassigned`), and whether the callback's own subflow has unsent data
    /// (`queued`).
    #[inline(always)]
    pub fn notice(&self, given: u64, unassigned: bool, queued: bool) {
        self.given.set(given);
        if unassigned {
            self.unassigned.set(1);
        }
        if unassigned || queued {
            self.backlogged.set(1);
        }
    }

    /// Returns whether the last step chose to leave the connection alone for a
    /// while.
    #[inline(always)]
    pub fn has_given_up(&self) -> bool {
        self.tally.starving.get() != 0 && self.tally.free.get() == 0
    }

    /// Runs one step, `elapsed_ns` after the last one: every path gets its cap.
    ///
    /// `spill` lets paths exceed their ratio while another is full. With a
    /// `ledger`, the ratio is that of the host; without one, it is the
    /// connection's own.
    #[inline(always)]
    pub fn step(&self, now_ns: u64, elapsed_ns: u64, spill: bool, ledger: Option<&Ledger>) {
        self.step_with(
            now_ns,
            elapsed_ns,
            spill,
            ledger,
            |index, ledger| self.report_path(index, ledger, now_ns),
            |ledger| ledger.step(now_ns),
            |index, fits| self.cap_path(index, now_ns, fits, ledger),
        );
    }

    /// Runs one step as [`Controller::step`] does. Calls `report_path` for the
    /// index of each slot ([`Controller::report_path`]), `settle` if a step of
    /// the ledger is due ([`Ledger::step`]), and `cap_path` for the index of
    /// each slot ([`Controller::cap_path`]). In the kernel all are behind
    /// functions that the verifier walks through once rather than once for each
    /// path.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "three of them are the functions that the verifier walks through once"
    )]
    pub fn step_with(
        &self,
        now_ns: u64,
        elapsed_ns: u64,
        spill: bool,
        ledger: Option<&Ledger>,
        report_path: impl Fn(usize, &Ledger),
        settle: impl Fn(&Ledger),
        cap_path: impl Fn(usize, u64),
    ) {
        let backlogged = self.backlogged.get() != 0;
        self.backlogged.set(0);
        let unassigned = self.unassigned.get() != 0;
        self.unassigned.set(0);
        self.note_given(now_ns);
        self.measure(now_ns, elapsed_ns);
        self.count();

        let weights = self.tally.weights.get().max(1);
        let rate = self.tally.rate.get();
        self.note_busy(elapsed_ns);
        self.waited.set(u64::from(backlogged));
        // A slow connection that has data waiting is no thin one.
        let little = rate < THIN_BYTES_PER_SEC && !self.is_busy();
        // If the connection's other paths make no progress, it cannot choose.
        // The host can, as long as other connections use those paths.
        let alone = self.tally.active.get() < 2;
        let bound = ledger.is_some() && self.tally.active.get() == 1 && self.tally.open.get() > 1;
        let thin = little || (alone && !bound);
        if thin {
            self.thin_ns.set(now_ns);
        }
        let mut free = thin || now_ns < self.free_until_ns.get();
        if let Some(ledger) = ledger {
            let choice = !free && !alone;
            self.tally.choice.set(u64::from(choice));
            self.report(ledger, now_ns, choice, unassigned);
            for index in 0..MAX_SLOTS {
                report_path(index, ledger);
            }
            if ledger.claim_step(now_ns) {
                settle(ledger);
            }
        }
        let begun_ns = self.thin_ns.get().max(self.burst_ns.get());
        let fresh = now_ns.saturating_sub(begun_ns) < FRESH_NS;
        self.tally.fresh.set(u64::from(fresh && ledger.is_some()));
        if self.must_spill(now_ns, unassigned) && spill {
            free = true;
        }
        // A burst no longer than a frame passes. A cap would only pace it out.
        let burst = self.given.get().wrapping_sub(self.burst_given.get());
        if fresh && (spill || (burst <= FRAME && !unassigned)) {
            free = true;
        }
        // If data waits, the connection is slow rather than thin, and is looked
        // at closely.
        self.tally.thin.set(u64::from(thin && !backlogged));
        self.tally.free.set(u64::from(free));
        self.tally
            .steered_ns
            .set(self.thin_ns.get().max(self.free_until_ns.get()));
        // While the connection is young, excesses are halved in each step:
        // paths do not have to make up for what they did not carry while they
        // started.
        let young = now_ns.saturating_sub(self.thin_ns.get()) < YOUNG_NS;
        self.tally.forget.set(u64::from(young));
        if free {
            // No path was steered, so none owes anything (but a byte, which the
            // shift leaves), and none was held back.
            self.tally.forget.set(63);
            self.tally.held.set(0);
        }
        let growing = self
            .unit
            .follow(rate / weights + 1, weights, elapsed_ns, unassigned)
            && backlogged;
        self.tally.room.set(match (backlogged, growing) {
            (false, _) => ROOM_PERMILLE,
            (true, false) => ROOM_BACKLOGGED_PERMILLE,
            (true, true) => ROOM_GROWING_PERMILLE,
        });
        // The chunk that a path is given next holds up all data that comes
        // after it, and that data must fit into the send buffer meanwhile. At a
        // rate below `fits` it would not. While data waits, slowing a path down
        // below that would only stall the others. If none waits, a path is
        // slowed down only as far as it takes to work off a lead (`slow`).
        // Written without branches, which the verifier would follow.
        let others = u64::from(self.tally.active.get() > 1);
        let fits = CHUNK * rate / self.send_buffer.get().max(1) * 6 / 5 * others;
        self.tally.spare.set(fits * u64::from(unassigned));
        self.tally.starving.set(0);
        for index in 0..MAX_SLOTS {
            cap_path(index, fits);
        }
        self.give_up_if_futile(now_ns);
    }

    /// Gives the path at `index` its cap, after the sums of a step are taken. At
    /// a rate below `fits` the next chunk would not fit the send buffer.
    #[inline(always)]
    pub fn cap_path(&self, index: usize, now_ns: u64, fits: u64, ledger: Option<&Ledger>) {
        let Some(slot) = self.slots.get(index & (MAX_SLOTS - 1)) else {
            return;
        };
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
                let mut spared = false;
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
                }
                let slow = rate * weight / weights * 17 / 20;
                // An application that waits for answers would wait for each
                // chunk that a lower cap paces out.
                let least = if bulk { 0 } else { THIN_BYTES_PER_SEC };
                let floor = fits.min(slow + self.tally.spare.get()).max(least);
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
                if self.tally.free.get() != 0
                    || (self.tally.fresh.get() != 0 && lead < FRESH_LEAD_PERMILLE)
                    || (self.tally.active.get() < 2 && lead <= 0)
                {
                    NO_CAP
                } else {
                    let room = fair * self.tally.room.get() / PERMILLE;
                    let cap = cap(room, lead);
                    let coarse = fair < floor || (slot.is_held_out() && fair < 2 * floor);
                    if spared && coarse && self.tally.relief.get() != 0 {
                        HELD_OUT
                    } else {
                        cap.max(floor as u32)
                    }
                }
            }
        };
        slot.cap.set(u64::from(cap));
    }

    /// Leaves the connection alone for a while if holding back its other paths
    /// does not bring data to the one that lags. An application that writes one
    /// chunk and waits for the answer has nothing for a second path, and would
    /// only wait longer. Each time lasts twice as long as the one before, until
    /// [`MAX_FREE_NS`] pass without another.
    #[inline(always)]
    fn give_up_if_futile(&self, now_ns: u64) {
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
