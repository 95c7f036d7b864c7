//! A ceiling for the host on one path (`--limit`), under every policy.
//!
//! ```text
//!   every callback of a subflow:   progress()   what was acked, srtt
//!   every 20 ms, first come:       step()       one level for all subflows
//!   every callback of a subflow:   lower()      no cap above the level
//!
//!   R        acked bytes per second on the path, of all connections, smoothed
//!   debt     bytes acked beyond the limit L: from -L/20 (50 ms) to L (one second)
//!   target   L - debt / tau           from L/4 on; tau = 250 ms, or four round trips
//!   level    target / (R / the level as it was lately), at most the target
//! ```
//!
//! `R / level` is how many subflows would use the level up, so the level is an
//! even part of the target, but for what subflows that want less leave to the
//! others. A subflow that wants less never feels the level. One that is new can
//! have as much as the others at once.
//!
//! What counts are acked bytes, and the debt makes up for whatever the caps do
//! not achieve: a cap that paces a little too fast ends with a small debt, one
//! that paces too slowly with a small credit. So the mean is the limit, whatever
//! the congestion control does. The credit is small, because the path may exceed
//! its limit by that much after a pause.

use super::limits::Limits;
use super::slot::signed;
use super::tuning::*;
use super::{claim_step, smooth};
use crate::word::Word;

/// The path may exceed its limit after a pause by so many bytes as it carries
/// in a second divided by this.
const CREDIT: u64 = 20;

/// The least memory of rate and level.
const MEMORY_US: u64 = 100_000;

/// Within this time the level doubles at most.
const RISE_US: u64 = 250_000;

/// The account of one path that has a limit, by its index in `PATHS`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Ceiling {
    /// Bytes acked while the path had a limit, of all connections.
    acked_bytes: Word,
    /// `acked_bytes` at the last step.
    counted_bytes: Word,
    /// When the last step ran.
    step_ns: Word,
    /// The limit that the last step found, bytes per second; 0 before the first
    /// step.
    limit: Word,
    /// Smoothed rate of all connections, bytes per second.
    rate: Word,
    /// The level, smoothed as the rate is.
    mean_level: Word,
    /// Bytes acked beyond the limit, in two's complement.
    debt_bytes: Word,
    /// The longest round trip of the path's subflows, microseconds. It is
    /// forgotten slowly.
    longest_us: Word,
    /// The cap of each subflow, bytes per second.
    level: Word,
}

crate::layout::layout! {
    Ceiling { acked_bytes, counted_bytes, step_ns, limit, rate, mean_level, debt_bytes, longest_us, level }
}

impl Ceiling {
    /// Notes that a subflow on the path had `acked` more bytes acked (maybe
    /// none).
    #[inline(always)]
    pub fn progress(&self, acked: u64, srtt_us: u64) {
        if acked != 0 {
            self.acked_bytes.add(acked);
        }
        let srtt_us = srtt_us.min(MAX_SRTT_US);
        if srtt_us > self.longest_us.get() {
            self.longest_us.set(srtt_us);
        }
    }

    /// Claims a step if one is due, so that only one caller runs it. Returns
    /// the time since the last step, ns.
    #[inline(always)]
    pub fn claim_step(&self, now_ns: u64) -> Option<u64> {
        claim_step(&self.step_ns, now_ns)
    }

    /// Runs a step, `elapsed_ns` after the last one. `limit` is the path's
    /// limit now, bytes per second.
    #[inline(always)]
    pub fn step(&self, limit: u64, elapsed_ns: u64) {
        let acked = self.acked_bytes.get();
        let fresh = acked.wrapping_sub(self.counted_bytes.get());
        self.counted_bytes.set(acked);
        self.follow_limit(limit);
        let elapsed_us = (elapsed_ns.min(NS_PER_SEC) / 1000).max(1);
        let longest_us = self.longest_us.get();
        self.longest_us.set(longest_us - longest_us / 64);

        let debt = self.debt_bytes.get() as i64 + fresh as i64
            - (limit * elapsed_us / 1_000_000) as i64;
        let credit = (limit / CREDIT) as i64;
        // Not `clamp`: it can panic, which the verifier refuses.
        #[allow(clippy::manual_clamp, reason = "see above")]
        let debt = debt.max(-credit).min(limit as i64);
        self.debt_bytes.set(debt as u64);
        let tau_us = (4 * longest_us).max(TAU_NS / 1000);
        let owed = signed(debt, debt.unsigned_abs() * 1_000_000 / tau_us.max(1));
        let target = (limit as i64 - owed).max((limit / 4) as i64) as u64;

        // A subflow reports once per round trip, so a shorter memory would see
        // gaps. Both sides of the quotient have the same memory, so that it does
        // not matter how long after a change of the level the rate follows.
        let memory_us = (2 * longest_us).max(MEMORY_US);
        smooth(&self.rate, fresh, elapsed_us, memory_us);
        let mean = self.mean_level.get() * memory_us + self.level.get() * elapsed_us;
        self.mean_level.set(mean / (memory_us + elapsed_us).max(1));
        let users = self.rate.get() * PERMILLE / self.mean_level.get().max(1);
        let even = target * PERMILLE / users.max(1);
        // The path may be idle only for a moment, so the level does not rise at
        // once.
        let level = self.level.get();
        let highest = level + level * elapsed_us.min(MEMORY_US) / RISE_US + 1;
        let level = even.min(highest).min(target).max(MIN_CAP_BYTES_PER_SEC);
        self.level.set(level.min(u64::from(NO_CAP) - 1));
    }

    /// Begins anew if the limit has changed.
    #[inline(always)]
    fn follow_limit(&self, limit: u64) {
        let before = self.limit.get();
        if before == limit {
            return;
        }
        self.limit.set(limit);
        self.debt_bytes.set(0);
        // As many subflows as before share the new limit.
        for level in [&self.level, &self.mean_level] {
            level.set(match before {
                0 => limit,
                before => level.get() * PERMILLE / (before * PERMILLE / limit.max(1)).max(1),
            });
        }
        if before == 0 {
            self.rate.set(limit);
        }
    }

    /// Returns the cap of each subflow on the path, bytes per second;
    /// [`NO_CAP`] before the first step.
    #[inline(always)]
    pub fn level(&self) -> u32 {
        match self.level.get() {
            0 => NO_CAP,
            level => level as u32,
        }
    }

    /// Returns what the ceiling leaves of the policy's limits for a subflow on
    /// the path. The send queue is as long as the policy wants it: the kernel's
    /// scheduler compares how long queues take to drain, and would give the other
    /// paths nothing while one that looks empty is full. But its length has the
    /// mark by which the next agent tells a cap that this one has left.
    #[inline(always)]
    #[must_use]
    pub fn lower(&self, limits: Limits) -> Limits {
        let level = self.level();
        if limits.cap <= level {
            return limits;
        }
        Limits {
            cap: level,
            lowat: match limits.lowat {
                0 => MARKED_LOWAT,
                lowat => lowat,
            },
        }
    }
}
