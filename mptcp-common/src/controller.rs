//! The weighted policy, per connection.
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
//! * A thin connection (below [`THIN_BYTES_PER_SEC`]) is not steered at all:
//!   there is nothing to balance, and steering would only cost latency. Most of
//!   its callbacks are passed over ([`Controller::may_rest`], [`is_quiet`]).
//! * A connection whose lagging path is given nothing, although the others are
//!   held back, is not steered either. Its application sends one chunk after
//!   the other, and waits for an answer to each.
//! * A path whose subflows are all backups (an endpoint's flag, or MP_PRIO from
//!   either side) takes no part while the connection has another: the kernel
//!   gives it nothing, however much it lags.
//! * A path of weight 0 is held out with a pacing rate of 0. The kernel's
//!   scheduler passes such a path over, but TCP itself does not obey that rate:
//!   what is queued there still leaves at once.

mod limits;
pub mod overflow;
mod rest;
mod slot;
mod tuning;

pub use limits::Limits;
pub use rest::is_quiet;
pub use slot::Slot;
use slot::{Role, signed};
pub use tuning::*;

pub(crate) use slot::FINGERPRINT as SLOT_FINGERPRINT;

use crate::word::Word;

/// Sums that a step takes over the paths, and what it decides before it looks
/// at the paths one by one.
///
/// All of it is in memory rather than in registers. The verifier would
/// otherwise follow every value that each of these can have through all the
/// code that comes after.
#[repr(C)]
#[derive(Debug, Default)]
struct Tally {
    /// Paths with a subflow.
    open: Word,
    /// The longest round trip of the paths that take part, microseconds.
    longest_us: Word,
    /// 1 if a path makes progress and has a subflow that is no backup. The
    /// kernel then gives backups nothing.
    primary: Word,
    /// 1 if a path with a weight carries the connection, so that standby paths
    /// may rest.
    weighted: Word,
    /// Number of the paths that take part.
    active: Word,
    /// Sum of their weights.
    weights: Word,
    /// Sum of their rates, bytes per second.
    rate: Word,
    /// Sum of their bytes acked since the last step.
    acked: Word,
    /// Sum of their excess bytes (two's complement), which forgetting has moved
    /// away from zero.
    excess: Word,
    /// 1 if the connection is left alone for now.
    free: Word,
    /// 1 if it is left alone because it has little to send.
    thin: Word,
    /// 1 if a path lags, and still is given nothing.
    starving: Word,
    /// 1 if a path cannot carry its share.
    full: Word,
    /// 1 if a path could carry more than its cap lets it.
    held: Word,
    /// No cap falls below about its path's share plus this, bytes per second.
    spare: Word,
    /// How far this step forgets excesses: it divides them by two to this
    /// power.
    forget: Word,
    /// `1 + eps`, per mille.
    room: Word,
    /// Since when the connection is steered.
    steered_ns: Word,
}

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
    /// Rate of one unit of weight, bytes per second, as it was lately (see
    /// [`UNIT_MEMORY_NS`]).
    pub unit: Word,
    /// `given` at the last step, and when it last moved.
    last_given: Word,
    given_ns: Word,
    /// When the connection was last too thin to be steered.
    thin_ns: Word,
    /// Until when the connection is left alone, and for how long it was left
    /// alone the last time.
    free_until_ns: Word,
    free_ns: Word,
    /// Sum of the weights that `unit` was measured with.
    weights: Word,
    /// How far beyond their ratio paths may go, per mille; only `spill` moves it.
    pub spill_permille: Word,
}

crate::layout::layout! {
    Tally {
        open, longest_us, primary, weighted, active, weights, rate, acked, excess, free, thin,
        starving, full, held, spare, forget, room, steered_ns,
    }
    Controller {
        slots, tally, step_ns, backlogged, unassigned, given, send_buffer, unit, last_given,
        given_ns, thin_ns, free_until_ns, free_ns, weights, spill_permille,
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
    /// `spill` lets paths exceed their ratio while another is full.
    #[inline(always)]
    pub fn step(&self, now_ns: u64, elapsed_ns: u64, spill: bool) {
        self.step_with(now_ns, elapsed_ns, spill, |index, fits| {
            self.cap_path(index, now_ns, fits);
        });
    }

    /// Runs one step as [`Controller::step`] does, and calls `cap_path` for the
    /// index of each slot: [`Controller::cap_path`], in the kernel behind a
    /// function that the verifier walks through once instead of eight times.
    #[inline(always)]
    pub fn step_with(
        &self,
        now_ns: u64,
        elapsed_ns: u64,
        spill: bool,
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
        let thin = rate < THIN_BYTES_PER_SEC || self.tally.active.get() < 2;
        if thin {
            self.thin_ns.set(now_ns);
        }
        let free = thin || now_ns < self.free_until_ns.get();
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
        let growing =
            self.follow(rate / weights + 1, weights, elapsed_ns, unassigned) && backlogged;
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
        let fits = CHUNK * rate / self.send_buffer.get().max(1) * 6 / 5;
        self.tally.spare.set(if backlogged { fits } else { 0 });
        self.tally.full.set(0);
        self.tally.starving.set(0);
        for index in 0..MAX_SLOTS {
            cap_path(index, fits);
        }
        let spill = next_spill(
            self.spill_permille.get(),
            spill && self.tally.full.get() != 0,
        );
        self.spill_permille.set(spill);
        self.give_up_if_futile(now_ns);
    }

    /// Gives the path at `index` its cap, after the sums of a step are taken. At
    /// a rate below `fits` the next chunk would not fit the send buffer.
    #[inline(always)]
    pub fn cap_path(&self, index: usize, now_ns: u64, fits: u64) {
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
                let fair = weight * self.unit.get();
                let lead =
                    slot.lead_permille(fresh as i64 - share, fair, weights * self.unit.get());
                if self.tally.room.get() != ROOM_GROWING_PERMILLE && slot.is_full() {
                    self.tally.full.set(1);
                }
                let slow = rate * weight / weights * 17 / 20;
                let floor = fits.min(slow + self.tally.spare.get());
                if lead >= 0 || self.tally.held.get() == 0 {
                    slot.unowed_ns.set(now_ns);
                } else if slot.is_idle(self.given_ns.get(), fair) {
                    self.tally.starving.set(1);
                }
                if lead < 0 && slot.is_forgotten(self.given_ns.get(), self.tally.steered_ns.get()) {
                    self.tally.starving.set(1);
                }
                if self.tally.free.get() != 0 {
                    NO_CAP
                } else {
                    let room = fair * self.tally.room.get() / PERMILLE;
                    cap(room, lead, self.spill_permille.get()).max(floor as u32)
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

    /// Sums up the paths that take part.
    #[inline(always)]
    fn count(&self) {
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

    /// Notes when a subflow was last given data. While none is given any, the
    /// application pauses, and a path that lags is not passed over.
    #[inline(always)]
    fn note_given(&self, now_ns: u64) {
        let given = self.given.get();
        if given != self.last_given.get() {
            self.last_given.set(given);
            self.given_ns.set(now_ns);
        }
    }

    /// Moves `unit` towards its present value, `now`. Returns whether the
    /// connection has just become faster.
    #[inline(always)]
    fn follow(&self, now: u64, weights: u64, elapsed_ns: u64, unassigned: bool) -> bool {
        let growing = now > self.unit.get() + self.unit.get() / 50;
        let memory_ns = if unassigned {
            UNIT_MEMORY_NS
        } else {
            IDLE_UNIT_MEMORY_NS
        };
        if now >= self.unit.get() || weights != self.weights.get() {
            self.unit.set(now);
        } else {
            // Count only so much of a pause, which says nothing about how fast
            // the connection is.
            let elapsed_us = elapsed_ns.min(MAX_STEP_NS) / 1000;
            let unit = self.unit.get();
            self.unit
                .set(unit - (unit - now) * elapsed_us / (memory_ns / 1000));
        }
        self.weights.set(weights);
        growing
    }

    /// Brings every path's rate up to date, and whether it makes progress.
    #[inline(always)]
    fn measure(&self, now_ns: u64, elapsed_ns: u64) {
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

/// Returns `w V (1 + eps) (1 - lead)`, or no cap for a path that lags. `room`
/// is the product without its last factor.
#[inline(always)]
fn cap(room: u64, lead_permille: i64, spill_permille: u64) -> u32 {
    if lead_permille <= -500 {
        return NO_CAP;
    }
    let factor = (PERMILLE as i64 - lead_permille).max(200) as u64;
    let cap = room * factor / PERMILLE * (PERMILLE + spill_permille) / PERMILLE;
    cap.clamp(MIN_CAP_BYTES_PER_SEC, u64::from(NO_CAP)) as u32
}

/// Returns the next room beyond the ratio under `spill`. It grows by a quarter
/// in each step in which a path is full, and shrinks as fast when none is.
#[inline(always)]
fn next_spill(spill_permille: u64, full: bool) -> u64 {
    if full {
        (spill_permille + spill_permille / 4 + 100).min(100_000)
    } else {
        spill_permille - spill_permille / 4 - spill_permille.min(10) * 3 / 4
    }
}
