//! The weighted policy, per connection.
//!
//! ```text
//!   every callback of a subflow:   progress()   what was acked, when, srtt
//!   every 20 ms, first come:       step()       one cap per path
//!   every callback of a subflow:   limits()     its share of its path's cap
//!
//!   rate_i   acked bytes per second of path i, smoothed
//!   V        sum of rate_i / sum of w_i           (bytes/s per unit of weight)
//!   excess_i bytes acked beyond the share w_i / W, forgotten beyond 2 tau
//!   lead_i   excess_i / (w_i V tau)
//!   cap_i    w_i V (1 + eps) (1 - lead_i)         none, if it lags by tau / 2
//!
//!   lead  -1 ........ -1/2 ......... 0 ......... 0.8 ........ +1
//!   cap   none        none | 1.5 (1+eps) ... 1 ... 0.2  | 0.2
//! ```
//!
//! The default scheduler (`mptcp_subflow_get_send`) gives the next burst to
//! the subflow with the least `sk_wmem_queued / avg_pacing_rate`, so a cap both
//! limits a subflow and makes the scheduler prefer the others.
//!
//! Limits, each for a reason that was seen on real links:
//! * A path that lags is never capped, and `eps` always leaves room to grow:
//!   caps that only follow the measured rate spiral down.
//! * Data queued on a subflow that is then throttled stalls the connection, so
//!   queues are kept short (`TCP_NOTSENT_LOWAT`), and a cap never falls below
//!   what drains a long queue within [`DRAIN`].
//! * A thin connection (below [`THIN_BYTES_PER_SEC`]) is not steered at all:
//!   there is nothing to balance, and latency to lose.
//! * A path of weight 0 is held out with a pacing rate of 0, which the kernel's
//!   scheduler passes over, and which TCP itself does not obey: what is queued
//!   there still leaves at once.

use crate::word::Word;

/// Paths of one connection that can be steered.
pub const MAX_SLOTS: usize = 8;

/// The largest weight.
pub const MAX_WEIGHT: u32 = 65_535;

/// Least time between two steps.
pub const STEP_NS: u64 = 20_000_000;

/// The horizon over which a lead or a lag is worked off.
pub const TAU_NS: u64 = 250_000_000;

/// Below this total rate a connection is left to the kernel alone. A request
/// and its response of a few hundred bytes every 20 ms stay well below.
pub const THIN_BYTES_PER_SEC: u64 = 64_000;

/// No cap is lower: one full-size segment every 25 ms.
pub const MIN_CAP_BYTES_PER_SEC: u64 = 64_000;

/// `SO_MAX_PACING_RATE` that means none.
pub const NO_CAP: u32 = u32::MAX;

/// `SO_MAX_PACING_RATE` that keeps a path out of the scheduler's choice.
pub const HELD_OUT: u32 = 0;

/// Send queue of a path without a cap, in bytes: one burst of the scheduler
/// (`MPTCP_SEND_BURST_SIZE`).
pub const BASE_LOWAT: u64 = 65_536;

/// What a capped path may queue, as time: all of it delays the connection.
pub const QUEUE_NS: u64 = 25_000_000;

/// Shortest send queue of a capped path, in bytes.
pub const MIN_LOWAT: u64 = 8_192;

/// Longest send queue, in bytes.
pub const MAX_LOWAT: u64 = 4_000_000;

/// A queue longer than allowed drains within one such part of a second.
pub const DRAIN: u64 = 8;

/// A connection that has become slower may have been stalled by its own caps:
/// they follow its rate down within this time, and up at once.
pub const UNIT_MEMORY_NS: u64 = 1_000_000_000;

/// A path is dead after so many timeouts without progress ...
pub const DEAD_TIMEOUTS: u64 = 2;

/// ... or after one, and this long without progress.
const DEAD_NS: u64 = 1_000_000_000;

/// Round trips above this are a full queue's, not a path's: they do not
/// lengthen the others' queues.
const MAX_SRTT_US: u64 = 300_000;

/// `1 + eps` while nothing waits to be sent, ...
const ROOM_PERMILLE: u64 = 1080;

/// ... while something does, ...
const ROOM_BACKLOGGED_PERMILLE: u64 = 1250;

/// ... and while the connection becomes faster: caps are not to slow that down.
const ROOM_GROWING_PERMILLE: u64 = 2000;

const NS_PER_SEC: u64 = 1_000_000_000;
const PERMILLE: u64 = 1000;

/// One path of one connection.
///
/// The atomics are written by the callbacks of any of the path's subflows, on
/// any CPU; the rest only by the step, of which one runs at a time.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Slot {
    /// Index of the path, plus one; 0: the slot is free.
    pub path: Word,
    /// Open subflows on this path.
    pub subflows: Word,
    /// Bytes acked, in total.
    pub acked_bytes: Word,
    /// When the last of them were acked.
    pub progress_ns: Word,
    /// Retransmission timeouts since.
    pub timeouts: Word,
    /// Smoothed round trip of the subflow that spoke last, microseconds.
    pub srtt_us: Word,
    /// What that subflow has not sent, bytes.
    pub queued: Word,
    /// The path's cap, bytes per second: [`HELD_OUT`], [`NO_CAP`] or between.
    pub cap: Word,
    /// 1 while the path makes no progress.
    pub dead: Word,
    /// What the last step made of it: [`Slot::DIED`], [`Slot::RETURNED`] or 0.
    pub turned: Word,
    /// Weight; set from `PATHS` before each step.
    pub weight: u32,
    /// 1 once the step has seen the slot.
    known: u32,
    /// `acked_bytes` at the last step.
    counted_bytes: u64,
    /// Smoothed rate, bytes per second.
    pub rate: u64,
    /// Bytes acked beyond the path's share.
    pub excess_bytes: i64,
}

/// What a step counts over the paths.
///
/// In memory rather than in registers: the verifier would otherwise follow
/// every value that each count can have through all that comes after.
#[repr(C)]
#[derive(Debug, Default)]
struct Tally {
    /// Paths with a subflow.
    open: Word,
    /// The longest of their round trips, microseconds.
    longest_us: Word,
    /// 1 if one of them carries, and standby paths may rest.
    weighted: Word,
    /// Paths that take part, ...
    active: Word,
    /// ... their weights, ...
    weights: Word,
    /// ... their rates, bytes per second, ...
    rate: Word,
    /// ... and the bytes acked since the last step.
    acked: Word,
    /// Sum of their excess bytes (two's complement), which forgetting has moved
    /// away from zero.
    excess: Word,
    /// 1 if one of them cannot carry its share.
    full: Word,
}

/// State of the weighted policy for one connection.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Controller {
    /// Its paths.
    pub slots: [Slot; MAX_SLOTS],
    /// What the last step counted.
    tally: Tally,
    /// When the last step ran.
    pub step_ns: Word,
    /// Callbacks since then that found data waiting to be sent.
    pub backlogged: Word,
    /// What a unit of weight is worth, bytes per second: as much as it was
    /// lately (see [`UNIT_MEMORY_NS`]).
    pub unit: u64,
    /// Sum of the weights that `unit` was measured with.
    weights: u64,
    /// How far beyond their ratio paths may go, per mille; only `spill` moves it.
    pub spill_permille: u64,
}

/// What one subflow is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `SO_MAX_PACING_RATE`, bytes per second.
    pub cap: u32,
    /// `TCP_NOTSENT_LOWAT`, bytes; 0: the kernel's default.
    pub lowat: u32,
}

impl Limits {
    /// A socket as the kernel made it.
    pub const NONE: Self = Self { cap: NO_CAP, lowat: 0 };
}

impl Slot {
    /// [`Slot::turned`]: the path stopped making progress.
    pub const DIED: u64 = 1;
    /// [`Slot::turned`]: it makes progress again.
    pub const RETURNED: u64 = 2;

    /// Whether the path is in use.
    #[inline(always)]
    pub fn open(&self) -> bool {
        self.path.get() != 0 && self.subflows.get() != 0
    }

    /// A subflow of this path had `acked` more bytes acked (maybe none), and
    /// has `queued` bytes that it has not sent.
    #[inline(always)]
    pub fn progress(&self, acked: u64, srtt_us: u64, queued: u64, now_ns: u64) {
        if acked != 0 {
            self.acked_bytes.add(acked);
            self.progress_ns.set(now_ns);
            self.timeouts.set(0);
        }
        if srtt_us != 0 {
            self.srtt_us.set(srtt_us);
        }
        self.queued.set(queued);
    }

    /// Whether the path makes no progress, though it has something to send.
    #[inline(always)]
    fn is_dead(&self, now_ns: u64) -> bool {
        let timeouts = self.timeouts.get();
        let idle_ns = now_ns.saturating_sub(self.progress_ns.get());
        timeouts >= DEAD_TIMEOUTS || (timeouts != 0 && idle_ns > DEAD_NS)
    }
}

/// Which paths are weighed against each other in a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// No subflow, or no progress: neither counted nor capped.
    Out,
    /// Weight 0 while another path carries the connection.
    Standby,
    /// Takes part with this weight.
    Active(u64),
}

impl Controller {
    /// Whether a step is due; claims it, so that one caller alone runs it.
    #[inline(always)]
    pub fn claim_step(&self, now_ns: u64) -> Option<u64> {
        let last = self.step_ns.get();
        let elapsed = now_ns.wrapping_sub(last);
        if elapsed < STEP_NS {
            return None;
        }
        self.step_ns.replace(last, now_ns).then_some(elapsed)
    }

    /// Runs one step, `elapsed_ns` after the last one: every path gets its cap.
    ///
    /// `spill` lets paths exceed their ratio while another is full.
    #[inline(always)]
    pub fn step(&mut self, now_ns: u64, elapsed_ns: u64, spill: bool) {
        let backlogged = self.backlogged.get() != 0;
        self.backlogged.set(0);
        self.measure(now_ns, elapsed_ns);
        self.count();

        let weights = self.tally.weights.get().max(1);
        let rate = self.tally.rate.get();
        // What there is to share: a sum that is not zero would be a lead of all
        // paths over nobody, and hold all of them back.
        let shared = self.tally.acked.get() as i64 + self.tally.excess.get() as i64;
        let thin = rate < THIN_BYTES_PER_SEC || self.tally.active.get() < 2;
        let growing = self.follow(rate / weights + 1, weights, elapsed_ns) && backlogged;
        let room = match (backlogged, growing) {
            (false, _) => ROOM_PERMILLE,
            (true, false) => ROOM_BACKLOGGED_PERMILLE,
            (true, true) => ROOM_GROWING_PERMILLE,
        };
        self.tally.full.set(0);
        for slot in &mut self.slots {
            let fresh = slot.fresh_bytes();
            slot.counted_bytes += fresh;
            let cap = match slot.role(&self.tally) {
                Role::Out => NO_CAP,
                Role::Standby => HELD_OUT,
                Role::Active(weight) => {
                    let share = signed(shared, shared.unsigned_abs() * weight / weights);
                    let fair = weight * self.unit;
                    let lead = slot.lead_permille(fresh as i64 - share, fair);
                    if !growing && slot.is_full() {
                        self.tally.full.set(1);
                    }
                    if thin { NO_CAP } else { cap(fair * room / PERMILLE, lead, self.spill_permille) }
                }
            };
            slot.cap.set(u64::from(cap));
        }
        self.spill_permille = next_spill(self.spill_permille, spill && self.tally.full.get() != 0);
    }

    /// Sums up the paths that take part.
    #[inline(always)]
    fn count(&mut self) {
        let tally = &self.tally;
        let sums = [&tally.weights, &tally.rate, &tally.acked, &tally.excess];
        tally.weighted.set(0);
        tally.active.set(0);
        for sum in sums {
            sum.set(0);
        }
        for slot in &self.slots {
            if slot.open() && slot.is_weighted() {
                tally.weighted.set(1);
            }
        }
        for slot in &self.slots {
            if let Role::Active(weight) = slot.role(tally) {
                tally.weights.set(tally.weights.get() + weight);
                tally.rate.set(tally.rate.get() + slot.rate);
                tally.acked.set(tally.acked.get() + slot.fresh_bytes());
                tally.active.set(tally.active.get() + 1);
                tally.excess.add(slot.excess_bytes as u64);
            }
        }
    }

    /// Moves `unit` towards what it is `now`; whether the connection has just
    /// become faster.
    #[inline(always)]
    fn follow(&mut self, now: u64, weights: u64, elapsed_ns: u64) -> bool {
        let growing = now > self.unit + self.unit / 50;
        if now >= self.unit || weights != self.weights || elapsed_ns >= UNIT_MEMORY_NS {
            self.unit = now;
        } else {
            let elapsed_us = elapsed_ns / 1000;
            self.unit -= (self.unit - now) * elapsed_us / (UNIT_MEMORY_NS / 1000);
        }
        self.weights = weights;
        growing
    }

    /// Brings every path's rate and life up to date.
    #[inline(always)]
    fn measure(&mut self, now_ns: u64, elapsed_ns: u64) {
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
        // A path speaks once per round trip: a shorter memory would see gaps.
        let memory_ns = (2_000 * tally.longest_us.get()).max(100_000_000);
        let elapsed_us = (elapsed_ns / 1000).max(1);
        for slot in &mut self.slots {
            if slot.known == 0 && slot.open() {
                slot.known = 1;
                slot.counted_bytes = slot.acked_bytes.get();
            }
            let now_rate = slot.fresh_bytes() * 1_000_000 / elapsed_us;
            let old = slot.rate * (memory_ns / 1000);
            slot.rate = (old + now_rate * elapsed_us) / (memory_ns / 1000 + elapsed_us);
            let dead = slot.is_dead(now_ns);
            if dead || !slot.open() {
                slot.excess_bytes = 0;
            }
            slot.turned.set(match (slot.dead.get() != 0, dead) {
                (false, true) => Slot::DIED,
                (true, false) => Slot::RETURNED,
                _ => 0,
            });
            slot.dead.set(u64::from(dead));
        }
    }

    /// Whether a path that carries is left. Not a matter for the next step: an
    /// idle standby path may be all that there is, and brings about no step.
    #[inline(always)]
    fn has_weighted(&self) -> bool {
        self.slots.iter().any(|slot| slot.open() && slot.is_weighted())
    }

    /// What a subflow of path `slot` is to be given, `queued` bytes of whose
    /// data wait to be sent.
    #[inline(always)]
    pub fn limits(&self, slot: &Slot, queued: u64) -> Limits {
        let path_cap = slot.cap.get() as u32;
        if self.tally.open.get() < 2 || (path_cap == HELD_OUT && !self.has_weighted()) {
            return Limits::NONE;
        }
        let subflows = slot.subflows.get().max(1);
        let lowat = lowat(slot, path_cap, self.tally.longest_us.get());
        let cap = match path_cap {
            NO_CAP | HELD_OUT => path_cap,
            cap => {
                let mut cap = (u64::from(cap) / subflows).max(MIN_CAP_BYTES_PER_SEC);
                if queued > BASE_LOWAT + lowat {
                    cap = cap.max((queued - lowat) * DRAIN);
                }
                cap.min(u64::from(NO_CAP)) as u32
            }
        };
        Limits { cap, lowat: lowat as u32 }
    }
}

impl Slot {
    #[inline(always)]
    fn fresh_bytes(&self) -> u64 {
        self.acked_bytes.get().wrapping_sub(self.counted_bytes)
    }

    /// Whether the path carries all that it can: it has something to send, and
    /// leaves room below its cap.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.queued.get() >= BASE_LOWAT / 2 && self.rate < self.cap.get() / 8 * 7
    }

    /// Whether standby paths may rest: this one carries.
    #[inline(always)]
    fn is_weighted(&self) -> bool {
        self.weight != 0 && self.dead.get() == 0 && self.timeouts.get() < DEAD_TIMEOUTS
    }

    #[inline(always)]
    fn role(&self, tally: &Tally) -> Role {
        if !self.open() || self.dead.get() != 0 {
            Role::Out
        } else if tally.weighted.get() == 0 {
            Role::Active(1)
        } else if self.weight == 0 {
            Role::Standby
        } else {
            Role::Active(u64::from(self.weight))
        }
    }

    /// Adds `gained` to the excess, forgets what exceeds two horizons at the
    /// rate `fair`, and returns the lead in thousandths of a horizon.
    #[inline(always)]
    fn lead_permille(&mut self, gained: i64, fair: u64) -> i64 {
        let horizon = (fair / (NS_PER_SEC / TAU_NS) + 1) as i64;
        // Not `clamp`: it can panic, and the verifier refuses what can.
        #[allow(clippy::manual_clamp, reason = "see above")]
        let excess = (self.excess_bytes + gained).max(-2 * horizon).min(2 * horizon);
        self.excess_bytes = excess;
        signed(excess, excess.unsigned_abs() * PERMILLE / horizon as u64)
    }
}

/// `size` with the sign of `like`: eBPF has no signed division before its
/// fourth version.
#[inline(always)]
fn signed(like: i64, size: u64) -> i64 {
    if like < 0 { -(size as i64) } else { size as i64 }
}

/// `w V (1 + eps) (1 - lead)`, or none for a path that lags; `room` is what
/// comes before the lead.
#[inline(always)]
fn cap(room: u64, lead_permille: i64, spill_permille: u64) -> u32 {
    if lead_permille <= -500 {
        return NO_CAP;
    }
    let factor = (PERMILLE as i64 - lead_permille).max(200) as u64;
    let cap = room * factor / PERMILLE * (PERMILLE + spill_permille) / PERMILLE;
    cap.clamp(MIN_CAP_BYTES_PER_SEC, u64::from(NO_CAP)) as u32
}

/// `spill`: the room beyond the ratio grows by a quarter each step in which a
/// path is full, and shrinks as fast when none is.
#[inline(always)]
fn next_spill(spill_permille: u64, full: bool) -> u64 {
    if full {
        (spill_permille + spill_permille / 4 + 100).min(100_000)
    } else {
        spill_permille - spill_permille / 4 - spill_permille.min(10) * 3 / 4
    }
}

/// The scheduler sends nothing while its favourite's queue is full. With equal
/// queues a path of a short round trip would always look emptier, so each may
/// hold, beyond [`QUEUE_NS`] of its cap, what it lacks in round trip to the
/// longest.
#[inline(always)]
fn lowat(slot: &Slot, path_cap: u32, longest_us: u64) -> u64 {
    let gap_us = longest_us.saturating_sub(slot.srtt_us.get());
    let known = if slot.rate == 0 { 1_000_000 } else { slot.rate };
    let (rate, base) = match path_cap {
        HELD_OUT | NO_CAP => (known, BASE_LOWAT),
        cap => {
            let cap = u64::from(cap);
            (known.min(cap), (cap / (NS_PER_SEC / QUEUE_NS)).max(MIN_LOWAT).min(BASE_LOWAT))
        }
    };
    (base + rate / 1000 * gap_us / 1000 * 3 / 2).min(MAX_LOWAT)
}
