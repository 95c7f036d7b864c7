//! A ceiling for the host on one path (`--limit`), under every policy.
//!
//! ```text
//!   every callback of a subflow:   progress()   what was acked, srtt
//!   every 20 ms, first come:       step()       one level for all subflows
//!   every callback of a subflow:   lower()      no cap above the level
//!
//!   R        acked bytes per second on the path, of all connections, smoothed
//!   debt     bytes acked beyond the limit L: from -L/10 (100 ms) to L (one second)
//!   late     how late a subflow follows the level: a round trip, or as long as it
//!            waits after a burst
//!   target   L - debt / tau           from L/4 on; tau = 250 ms, or a few times late
//!   level    target / (R / the level as it was lately), at most the target
//! ```
//!
//! `R / level` is how many subflows would use the level up, so the level is an
//! even part of the target, but for what subflows that want less leave to the
//! others. A subflow that wants less never feels the level. One that is new can
//! have as much as the others at once.
//!
//! The account counts acked bytes, and the debt makes up for whatever the caps do
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
const CREDIT: u64 = 10;

/// The longest time that a subflow is taken to wait after a burst.
const MAX_BURST_US: u64 = 1_000_000;

/// A step that comes later than this after the last one follows a pause.
const MAX_ELAPSED_NS: u64 = 60 * NS_PER_SEC;

/// The longest part of that time for which the path may make up afterwards.
const MAX_CREDIT_US: u64 = 400_000;

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
    /// The level, as late as the rate follows it.
    late_level: Word,
    /// The late level, smoothed as the rate is.
    mean_level: Word,
    /// Microseconds since the step before the last one.
    elapsed_us: Word,
    /// Bytes acked in that time.
    fresh_bytes: Word,
    /// Bytes acked beyond the limit, in two's complement.
    debt_bytes: Word,
    /// The rate that works the debt off, bytes per second.
    target: Word,
    /// How long a subflow waits after a burst, microseconds.
    burst_us: Word,
    /// The longest round trip of the path's subflows, microseconds. It is
    /// forgotten slowly.
    longest_us: Word,
    /// The cap of each subflow, bytes per second.
    level: Word,
}

crate::layout::layout! {
    Ceiling { acked_bytes, counted_bytes, step_ns, limit, rate, late_level, mean_level, elapsed_us,
        fresh_bytes, debt_bytes, target, burst_us, longest_us, level }
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
    ///
    /// Each part leaves its results in memory rather than in registers, as in
    /// [`super::Tally`].
    #[inline(always)]
    pub fn step(&self, limit: u64, elapsed_ns: u64) {
        // All subflows may have waited, so that none has caused a step.
        let elapsed_us = (elapsed_ns.min(MAX_ELAPSED_NS) / 1000).max(1);
        self.elapsed_us.set(elapsed_us);
        self.follow_limit(limit);
        self.measure();
        self.owe(limit);
        self.aim(limit);
        self.average();
        self.set_level();
    }

    /// Finds out what was acked since the last step, and how late subflows follow
    /// a change of the level.
    #[inline(always)]
    fn measure(&self) {
        let acked = self.acked_bytes.get();
        self.fresh_bytes
            .set(acked.wrapping_sub(self.counted_bytes.get()));
        self.counted_bytes.set(acked);
        let longest_us = self.longest_us.get();
        self.burst_us.set(self.burst_after(longest_us));
        self.longest_us.set(longest_us - longest_us / 64);
    }

    /// Adds what was acked beyond the limit to the debt.
    #[inline(always)]
    fn owe(&self, limit: u64) {
        let allowed = limit * self.elapsed_us.get() / US_PER_SEC;
        let debt = self.debt_bytes.get() as i64 + self.fresh_bytes.get() as i64 - allowed as i64;
        // Between their bursts all subflows may wait at the same time.
        let waits = limit * self.burst_us.get().min(MAX_CREDIT_US) / US_PER_SEC;
        self.target.set((limit / CREDIT).max(waits));
        let credit = self.target.get() as i64;
        self.debt_bytes.set(debt.max(-credit) as u64);
        let debt = self.debt_bytes.get() as i64;
        self.debt_bytes.set(debt.min(limit as i64) as u64);
    }

    /// Works out the rate at which all subflows together work the debt off.
    #[inline(always)]
    fn aim(&self, limit: u64) {
        let late_us = (4 * self.longest_us.get()).max(2 * self.burst_us.get());
        self.target.set(late_us);
        let tau_us = self.target.get().max(TAU_NS / 1000);
        let debt = self.debt_bytes.get() as i64;
        let owed = signed(debt, debt.unsigned_abs() * US_PER_SEC / tau_us.max(1));
        let target = (limit as i64 - owed).max((limit / 4) as i64);
        self.target.set(target as u64);
    }

    /// Brings the rate up to date, and the level that belongs to it.
    #[inline(always)]
    fn average(&self) {
        // A subflow reports once per round trip, so a shorter memory would see
        // gaps. Both sides of the quotient have the same memory, so that it does
        // not matter how long after a change of the level the rate follows.
        let (longest_us, burst_us) = (self.longest_us.get(), self.burst_us.get());
        let elapsed_us = self.elapsed_us.get();
        let memory_us = (2 * longest_us).max(burst_us).max(MEMORY_US);
        let fresh = self.fresh_bytes.get() * US_PER_SEC;
        smooth(&self.rate, fresh, elapsed_us, memory_us);
        let (late, mean) = (&self.late_level, &self.mean_level);
        let late_us = longest_us * 3 / 2 + burst_us / 2;
        smooth(late, self.level.get() * elapsed_us, elapsed_us, late_us);
        smooth(mean, late.get() * elapsed_us, elapsed_us, memory_us);
    }

    /// Gives each subflow an even part of the target.
    #[inline(always)]
    fn set_level(&self) {
        let users = self.rate.get() * PERMILLE / self.mean_level.get().max(1);
        let target = self.target.get();
        let level = self.level.get();
        self.level
            .set((target * PERMILLE / users.max(1)).min(target));
        // The path may be idle only for a moment, so the level does not rise at
        // once.
        let highest = level + level * self.elapsed_us.get().min(US_PER_SEC) / RISE_US + 1;
        self.level.set(self.level.get().min(highest));
        let level = self.level.get().max(MIN_LEVEL_BYTES_PER_SEC);
        self.level.set(level.min(u64::from(NO_CAP) - 1));
    }

    /// Returns how long a subflow waits after a burst, microseconds. It learns of
    /// another level only after that.
    ///
    /// On a short round trip TCP sends up to 64 KiB at once, whatever its pacing
    /// rate is (`net.ipv4.tcp_tso_rtt_log`: half of that for each 512
    /// microseconds), of which the scheduler has given it a chunk.
    #[inline(always)]
    fn burst_after(&self, rtt_us: u64) -> u64 {
        let burst = CHUNK >> (rtt_us / 512).min(63);
        (burst * US_PER_SEC / self.level.get().max(1)).min(MAX_BURST_US)
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
        if before == 0 {
            for rate in [&self.level, &self.late_level, &self.mean_level, &self.rate] {
                rate.set(limit);
            }
            return;
        }
        // As many subflows as before share the new limit.
        let parts = (before * PERMILLE / limit.max(1)).max(1);
        for level in [&self.level, &self.late_level, &self.mean_level] {
            level.set(level.get() * PERMILLE / parts);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const LIMIT: u64 = 1_250_000;

    /// Runs so many steps in which `users` subflows use the level up, each at
    /// `part` per mille of its cap, and returns the bytes that they had acked.
    fn run(ceiling: &Ceiling, limit: u64, users: u64, part: u64, steps: u64) -> u64 {
        let mut sum = 0;
        for _ in 0..steps {
            let acked = users * u64::from(ceiling.level()) * part / PERMILLE / 50;
            ceiling.progress(acked, 10_000);
            ceiling.step(limit, 20 * MS);
            sum += acked;
        }
        sum
    }

    fn started(limit: u64) -> Ceiling {
        let ceiling = Ceiling::default();
        assert_eq!(ceiling.level(), NO_CAP);
        ceiling.step(limit, 20 * MS);
        ceiling
    }

    #[test]
    fn the_mean_is_the_limit_whatever_the_caps_achieve() {
        for part in [850, 1000, 1200] {
            for users in [1, 10, 60] {
                let ceiling = started(LIMIT);
                run(&ceiling, LIMIT, users, part, 150);
                let acked = run(&ceiling, LIMIT, users, part, 250);
                let mean = acked as f64 / (5 * LIMIT) as f64;
                assert!((mean - 1.0).abs() < 0.01, "{users} at {part}: {mean}");
            }
        }
    }

    #[test]
    fn a_subflow_alone_may_have_all_and_many_have_even_parts() {
        for users in [1, 5, 20] {
            let ceiling = started(LIMIT);
            run(&ceiling, LIMIT, users, 1000, 200);
            let even = u64::from(ceiling.level()) * users;
            assert!((LIMIT * 9 / 10..LIMIT * 11 / 10).contains(&even), "{even}");
        }
    }

    #[test]
    fn after_a_pause_little_is_made_up_for() {
        let ceiling = started(LIMIT);
        run(&ceiling, LIMIT, 1, 1000, 200);
        run(&ceiling, LIMIT, 0, 1000, 200);
        ceiling.step(LIMIT, u64::MAX);
        let acked = run(&ceiling, LIMIT, 1, 1000, 250);
        assert!(acked < 5 * LIMIT + LIMIT / 10 + LIMIT / 100, "{acked}");
    }

    #[test]
    fn a_new_limit_is_shared_by_as_many_as_before() {
        let ceiling = started(LIMIT);
        run(&ceiling, LIMIT, 10, 1000, 200);
        for limit in [LIMIT / 5, LIMIT * 3, 1_000, LIMIT] {
            ceiling.step(limit, 20 * MS);
            run(&ceiling, limit, 10, 1000, 100);
            let acked = run(&ceiling, limit, 10, 1000, 250);
            let least = (10 * MIN_LEVEL_BYTES_PER_SEC).max(limit) * 5;
            let mean = acked as f64 / least as f64;
            assert!((mean - 1.0).abs() < 0.02, "{limit}: {mean}");
        }
    }

    #[test]
    fn the_lower_cap_counts_and_the_queue_gets_the_mark() {
        let ceiling = started(LIMIT);
        let limits = |cap, lowat| Limits { cap, lowat };
        let level = ceiling.level();
        let lowered = ceiling.lower(Limits::NONE);
        assert_eq!(lowered, limits(level, MARKED_LOWAT));
        assert_eq!(lowered.split().0, lowered);
        assert_eq!(ceiling.lower(limits(NO_CAP, 9_000)), limits(level, 9_000));
        for policy in [limits(HELD_OUT, 0), limits(level - 1, 9_000)] {
            assert_eq!(ceiling.lower(policy), policy);
        }
        // Before the first step there is no level.
        assert_eq!(Ceiling::default().lower(Limits::NONE), Limits::NONE);
    }

    /// Runs subflows that each send a chunk at once and then wait as the level of
    /// that time asks, and returns the rates of windows of 5 s, as parts of the
    /// limit.
    fn bursts(users: u64, limit: u64, windows: usize) -> Vec<f64> {
        let ceiling = Ceiling::default();
        let mut due = vec![0; users as usize];
        let mut sums = vec![0; windows];
        for now_us in (0..windows as u64 * 5_000_000).step_by(100) {
            for due in &mut due {
                if *due <= now_us {
                    ceiling.progress(CHUNK, 300);
                    if let Some(elapsed_ns) = ceiling.claim_step((now_us + 1) * 1000) {
                        ceiling.step(limit, elapsed_ns);
                    }
                    let level = u64::from(ceiling.level()).min(5_000_000);
                    *due = now_us + CHUNK * 1_000_000 / level;
                    sums[(now_us / 5_000_000) as usize] += CHUNK;
                }
            }
        }
        let part = |sum| sum as f64 / (5 * limit) as f64;
        sums.into_iter().map(part).collect()
    }

    #[test]
    fn subflows_that_send_in_bursts_keep_the_limit() {
        for (users, limit) in [(1, LIMIT), (1, LIMIT / 4), (10, LIMIT), (10, 8 * LIMIT)] {
            let parts = bursts(users, limit, 8);
            // One burst more or less.
            let burst = (users * CHUNK) as f64 / (5 * limit) as f64;
            let fits = |part: &f64| (part - 1.0).abs() < 0.01 + burst;
            assert!(
                parts[2..].iter().all(fits),
                "{users} of {limit}: {parts:.3?}"
            );
        }
    }

    /// Each subflow waits for more than a second after each burst, and at first
    /// all of them send at once.
    #[test]
    fn many_slow_subflows_come_near_the_limit() {
        for (users, limit) in [(10, LIMIT / 4), (60, LIMIT)] {
            let parts = bursts(users, limit, 16);
            let mean = parts[8..].iter().sum::<f64>() / 8.0;
            assert!((mean - 1.0).abs() < 0.1, "{users} of {limit}: {parts:.3?}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let ceiling = Ceiling::default();
        for limit in [1_000, 4_250_000_000, 0, 1, 4_250_000_000] {
            for elapsed_ns in [0, 1, 20 * MS, u64::MAX] {
                for acked in [0, 1, 1 << 40] {
                    ceiling.progress(acked, u64::MAX);
                    ceiling.step(limit, elapsed_ns);
                    assert!(ceiling.level() >= MIN_LEVEL_BYTES_PER_SEC as u32);
                }
            }
        }
    }
}
