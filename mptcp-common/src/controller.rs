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
//!
//!   For one of many connections of a ledger, 0.1 instead of 0.2, and instead of none,
//!   twice what the path should carry for all of them.
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
//! * Under the ledger, each of many connections has a cap on every path, however low
//!   (`MIN_USERS`). No path is held out of them, because MPTCP sends what a slow path
//!   holds up once more on a subflow that has nothing to send
//!   (`mptcp_subflow_get_retrans`): a hundred connections gave a light path several
//!   times its share in this way. A chunk that a low cap paces out holds up the
//!   connection only until MPTCP sends it once more on another path.
//! * One of many has a cap even on a path that lags. Without one, the kernel's
//!   scheduler gives a single connection a megabyte at once.
//! * A path that has timed out holds data back. A connection with such a path is no
//!   thin one, and its traffic does not begin anew afterwards.
//! * Messages with gaps between them (frames of a video, or objects that are
//!   asked for one after the other) would be paced out by a cap. Such a
//!   connection uses each path as a whole or not at all: a path that leads is
//!   held out when the next message begins, until it lags. A message then takes
//!   as long as on that one path.
//! * Objects of some hundred kilobytes, asked for one after the other, are too long
//!   for one path and too short for a cap: each would wait for the last chunk that
//!   is paced out. Most of them use all paths as under the default scheduler. Once
//!   the host's lead on a path is large, the next object does without that path.
//! * If few connections have a choice, and others without one take nearly all of
//!   a path's share, even the least cap would be too much. The few do without
//!   the path until it lags. An idle subflow is let in again by a sweep only.
//! * Traffic that begins is not capped at first, unless the host's lead is
//!   large: a rate that was measured in slow start or over a pause says nothing
//!   about what the connection could carry.
//! * A path whose subflows are all backups (an endpoint's flag, or MP_PRIO from
//!   either side) takes no part while the connection has another: the kernel
//!   gives it nothing, however much it lags.
//! * A path of weight 0 is held out with a pacing rate of 0. The kernel's
//!   scheduler passes such a path over, but TCP itself does not obey that rate:
//!   what is queued there still leaves at once.

mod cap;
pub mod ceiling;
mod ledger;
mod limits;
pub mod overflow;
mod place;
mod rest;
mod slot;
mod tally;
mod traffic;
mod tuning;
mod unit;

pub use ledger::{Account, Ledger};
pub use limits::Limits;
pub use place::Place;
pub use rest::is_quiet;
pub use slot::Slot;
pub use tally::Phase;
use tally::Tally;
pub use tuning::*;
pub use unit::Unit;

pub(crate) use ledger::FINGERPRINT as LEDGER_FINGERPRINT;
pub(crate) use place::FINGERPRINT as PLACE_FINGERPRINT;
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
    /// 1 if the last callback found no data that waits.
    clear: Word,
    /// [`Found::given`] and [`Found::received`] of the last callback.
    given: Word,
    received: Word,
    /// When a callback last found that `given` had moved.
    moved_ns: Word,
    /// When something was last received while nothing waited.
    asked_ns: Word,
    /// When `given` last moved after a gap in which nothing waited.
    message_ns: Word,
    /// Size of the connection's send buffer, bytes.
    pub send_buffer: Word,
    /// Rate of one unit of weight, as it was lately.
    pub unit: Unit,
    /// `given` at the last step, and when it last moved.
    last_given: Word,
    given_ns: Word,
    /// When a subflow was last found to have timed out, which holds data back.
    stuck_ns: Word,
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
    /// The length of the answer before the one that is being sent, bytes.
    answered: Word,
    /// When data was last given to a subflow after a pause, or after something
    /// was received.
    burst_ns: Word,
    /// The value of `given` at that time.
    burst_given: Word,
    /// When the ledger last counted the connection.
    reported_ns: Word,
    /// Until when `spill` leaves the connection alone.
    spill_until_ns: Word,
    /// Where the connection is placed while it is thin.
    pub place: Place,
}

crate::layout::layout! {
    Controller {
        slots, tally, step_ns, backlogged, unassigned, clear, given, received, moved_ns, asked_ns, message_ns, send_buffer, unit, last_given,
        given_ns, stuck_ns, thin_ns, free_until_ns, free_ns, busy_permille, waited, taken_ns, full_ns, answered,
        burst_ns, burst_given, reported_ns, spill_until_ns, place,
    }
}

/// The work that the policy asks of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Paths may exceed their ratio while another is full.
    pub spill: bool,
    /// A thin connection uses one path. Has no effect without a ledger.
    pub place: bool,
    /// A sweep lets idle subflows in again, so that paths may be held out.
    pub revives: bool,
}

/// Findings of a subflow's callback about its connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Up to where the data was given to subflows (`mptcp_sock.snd_nxt`).
    pub given: u64,
    /// Up to where data was received in order (`mptcp_sock.ack_seq`).
    pub received: u64,
    /// Whether there is data that no subflow takes.
    pub unassigned: bool,
    /// Whether the callback's own subflow has unsent data.
    pub queued: bool,
}

impl Controller {
    /// Claims a step if one is due, so that only one caller runs it. Returns
    /// the time since the last step, ns.
    #[inline(always)]
    pub fn claim_step(&self, now_ns: u64) -> Option<u64> {
        claim_step(&self.step_ns, now_ns)
    }

    /// Notes what a callback of a subflow found.
    #[inline(always)]
    pub fn notice(&self, found: Found, now_ns: u64) {
        // Data that is sent after something was received, while nothing waited, is
        // the next request or answer.
        if found.received != self.received.get() {
            self.received.set(found.received);
            if self.clear.get() != 0 {
                self.burst_ns.set(now_ns);
                self.asked_ns.set(now_ns);
                let given = self.given.get();
                self.answered
                    .set(given.wrapping_sub(self.burst_given.get()));
                self.burst_given.set(given);
            }
        }
        if found.given != self.given.get() {
            let paused = now_ns.saturating_sub(self.moved_ns.get()) >= GAP_NS;
            if paused && self.clear.get() != 0 {
                self.message_ns.set(now_ns);
            }
            self.moved_ns.set(now_ns);
            self.given.set(found.given);
        }
        if found.unassigned {
            self.unassigned.set(1);
        }
        let waits = found.unassigned || found.queued;
        if waits {
            self.backlogged.set(1);
        }
        self.clear.set(u64::from(!waits));
    }

    /// Returns whether the last step chose to leave the connection alone for a
    /// while.
    #[inline(always)]
    pub fn has_given_up(&self) -> bool {
        self.tally.starving.get() != 0 && self.tally.free.get() == 0
    }

    /// Runs one step, `elapsed_ns` after the last one: every path gets its cap.
    ///
    /// With a `ledger`, the ratio is that of the host; without one, it is the
    /// connection's own.
    #[inline(always)]
    pub fn step(&self, now_ns: u64, elapsed_ns: u64, asked: Asked, ledger: Option<&Ledger>) {
        self.step_with(
            now_ns,
            elapsed_ns,
            asked,
            ledger,
            |phase, index| self.look(phase, index, now_ns, ledger),
            |ledger| ledger.step(now_ns),
        );
    }

    /// Runs one step as [`Controller::step`] does. Calls `look` in each
    /// [`Phase`] for the index of each slot ([`Controller::look`]), and `settle`
    /// if a step of the ledger is due ([`Ledger::step`]). In the kernel both are
    /// behind functions that the verifier walks through once rather than once
    /// for each path.
    #[inline(always)]
    pub fn step_with(
        &self,
        now_ns: u64,
        elapsed_ns: u64,
        asked: Asked,
        ledger: Option<&Ledger>,
        look: impl Fn(Phase, usize),
        settle: impl Fn(&Ledger),
    ) {
        let tally = &self.tally;
        tally.backlogged.set(self.backlogged.get());
        self.backlogged.set(0);
        tally.unassigned.set(self.unassigned.get());
        self.unassigned.set(0);
        self.note_given(now_ns);
        tally.begin(elapsed_ns);
        for phase in [Phase::Open, Phase::Measure, Phase::Rank, Phase::Sum] {
            for index in 0..MAX_SLOTS {
                look(phase, index);
            }
        }
        self.note_busy(elapsed_ns);
        self.waited.set(tally.backlogged.get());
        tally.revives.set(u64::from(asked.revives));
        self.choose(now_ns, ledger.is_some());
        if let Some(ledger) = ledger {
            self.report(ledger, now_ns);
            for index in 0..MAX_SLOTS {
                look(Phase::Report, index);
            }
            self.begin_placing(now_ns, asked.place);
            if self.place.seeking.get() != 0 {
                for index in 0..MAX_SLOTS {
                    look(Phase::Place, index);
                }
            }
            self.end_placing(ledger);
            if ledger.claim_step(now_ns) {
                settle(ledger);
            }
        }
        self.release(now_ns, asked.spill);
        self.prepare(now_ns, elapsed_ns);
        for phase in [Phase::Cap, Phase::Judge] {
            for index in 0..MAX_SLOTS {
                look(phase, index);
            }
        }
        self.give_up_if_futile(now_ns);
    }

    /// Does the work of one phase of a step for the path at `index`.
    #[inline(always)]
    pub fn look(&self, phase: Phase, index: usize, now_ns: u64, ledger: Option<&Ledger>) {
        let Some(slot) = self.slots.get(index & (MAX_SLOTS - 1)) else {
            return;
        };
        match phase {
            Phase::Open => self.tally.open(slot),
            Phase::Measure => self.tally.measure(slot, now_ns),
            Phase::Rank => self.tally.rank(slot),
            Phase::Sum => self.tally.sum(slot),
            Phase::Report => self.report_path(slot, ledger, now_ns),
            Phase::Place => {
                if let Some(ledger) = ledger {
                    self.place.compare(slot, slot.role(&self.tally), ledger);
                }
            }
            Phase::Cap => self.cap_path(slot, now_ns, ledger),
            Phase::Judge => self.judge_path(slot, ledger),
        }
    }

    /// Chooses whether the connection is left alone, and whether its paths take
    /// part in the ledger if the connection is `hosted` by one.
    #[inline(always)]
    fn choose(&self, now_ns: u64, hosted: bool) {
        let tally = &self.tally;
        // A slow connection that has data waiting is no thin one.
        let little = tally.rate.get() < THIN_BYTES_PER_SEC && !self.is_busy();
        // If the connection's other paths make no progress, it cannot choose.
        // The host can, as long as other connections use those paths.
        let alone = tally.active.get() < 2;
        let bound = hosted && tally.active.get() == 1 && tally.open.get() > 1;
        tally
            .thin
            .set(u64::from(little) | u64::from(alone && !bound));
        if tally.thin.get() != 0 {
            self.thin_ns.set(now_ns);
        }
        let resting = now_ns < self.free_until_ns.get();
        tally.free.set(tally.thin.get() | u64::from(resting));
        tally
            .choice
            .set(u64::from(tally.has_choice()) & (1 - (tally.free.get() & 1)));
        let begun_ns = self.thin_ns.get().max(self.burst_ns.get());
        let fresh = now_ns.saturating_sub(begun_ns) < FRESH_NS;
        tally.fresh.set(u64::from(fresh));
        // A burst no longer than a frame passes. The kernel gives most of it to
        // one subflow, and a cap would only pace it out.
        let burst = self.given.get().wrapping_sub(self.burst_given.get());
        let short = fresh && burst <= FRAME && tally.unassigned.get() == 0;
        tally.free.set(tally.free.get() | u64::from(short));
        let full = now_ns.saturating_sub(self.full_ns.get()) < FULL_NS;
        let lately = |since: &Word| now_ns.saturating_sub(since.get()) < FRESH_NS;
        let objects = (FRAME..OBJECT).contains(&self.answered.get()) && burst < OBJECT;
        tally.objects.set(u64::from(objects));
        let taken = tally.unassigned.get() == 0;
        let answers = lately(&self.asked_ns) && (taken || objects);
        let messages = lately(&self.message_ns) && !full;
        let whole = tally.revives.get() != 0 && !alone && (answers || messages);
        tally.whole.set(u64::from(whole));
    }

    /// Leaves the connection alone if `spill` says so: its traffic has just
    /// begun, or it exceeds its ratio.
    #[inline(always)]
    fn release(&self, now_ns: u64, spill: bool) {
        self.note_waiting(now_ns);
        let exceeds = now_ns < self.spill_until_ns.get();
        if spill && (exceeds || self.tally.fresh.get() != 0) {
            self.tally.free.set(1);
        }
    }

    /// Works out what all paths have in common before each is given its cap.
    #[inline(always)]
    fn prepare(&self, now_ns: u64, elapsed_ns: u64) {
        let tally = &self.tally;
        // If data waits, the connection is slow rather than thin, and is looked
        // at closely.
        if tally.backlogged.get() != 0 {
            tally.thin.set(0);
        }
        tally
            .steered_ns
            .set(self.thin_ns.get().max(self.free_until_ns.get()));
        // While the connection is young, excesses are halved in each step:
        // paths do not have to make up for what they did not carry while they
        // started.
        let young = now_ns.saturating_sub(self.thin_ns.get()) < YOUNG_NS;
        tally.forget.set(u64::from(young));
        if tally.free.get() != 0 {
            // No path was steered, so none owes anything (but a byte, which the
            // shift leaves), and none was held back.
            tally.forget.set(63);
            tally.held.set(0);
        }
        let (weights, rate) = (tally.weights.get().max(1), tally.rate.get());
        let unassigned = tally.unassigned.get();
        let growing = self
            .unit
            .follow(rate / weights + 1, weights, elapsed_ns, unassigned != 0);
        tally
            .room
            .set(match (tally.backlogged.get() != 0, growing) {
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
        let others = u64::from(tally.active.get() > 1);
        let fits = CHUNK * rate / self.send_buffer.get().max(1) * 6 / 5 * others;
        tally.fits.set(fits);
        tally.spare.set(fits * unassigned);
        tally.starving.set(0);
    }
}

/// Claims a step if one is due since `step_ns`, so that only one caller runs it.
/// Returns the time since the last step, ns.
#[inline(always)]
fn claim_step(step_ns: &Word, now_ns: u64) -> Option<u64> {
    let last = step_ns.get();
    // Another CPU may have claimed a step that is later than `now_ns`.
    let elapsed = now_ns.saturating_sub(last);
    if elapsed < STEP_NS {
        return None;
    }
    step_ns.replace(last, now_ns).then_some(elapsed)
}

/// Moves `mean` towards what a value was over the last `elapsed_us`. `sum` is
/// that value times these microseconds: for a mean in bytes per second, the bytes
/// times [`US_PER_SEC`]. What came before is forgotten within `memory_us`.
#[inline(always)]
fn smooth(mean: &Word, sum: u64, elapsed_us: u64, memory_us: u64) {
    let old = mean.get() * memory_us;
    mean.set((old + sum) / (memory_us + elapsed_us).max(1));
}
