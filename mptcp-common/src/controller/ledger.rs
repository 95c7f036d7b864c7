//! The host's account of its paths under one policy.
//!
//! Each connection's step adds what the connection had acked ([`Account::add`]).
//! Each 20 ms the first connection to come runs a step of the ledger, which
//! works out how far each path leads or lags, over all connections. A
//! connection that obeys the ledger has the host's lead in place of its own
//! ([`super::Controller::cap_path`]): its part of the host's excess, relative
//! to its own rate, is the host's lead. So one connection alone is steered as it
//! would be without a ledger.
//!
//! A path takes part while a connection that has a choice uses it. Bytes of
//! connections without a choice (one path, thin, fallen back to TCP) count as
//! well, so that those with a choice make up for them.

use super::slot::{Slot, judge_ceiling, lead_permille, signed};
use super::tuning::*;
use super::unit::Unit;
use super::{claim_step, smooth};
use crate::word::Word;

/// The host's account of one path.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Account {
    /// Bytes acked in total, of all connections of the policy.
    acked_bytes: Word,
    /// `acked_bytes` at the last step of the ledger.
    counted_bytes: Word,
    /// `acked_bytes` beyond `counted_bytes` as the running step found it.
    fresh_bytes: Word,
    /// Smoothed rate, bytes per second.
    rate: Word,
    /// Bytes acked beyond the path's share, in two's complement.
    excess_bytes: Word,
    /// When a connection that has a choice last used the path.
    used_ns: Word,
    /// Since when the path takes part.
    began_ns: Word,
    /// When a step of the ledger last found fresh bytes.
    progress_ns: Word,
    /// The path's weight, as that connection had it.
    weight: Word,
    /// The lead that the last step found: see [`Account::lead_permille`].
    lead_permille: Word,
    /// The path's share of the host's rate, bytes per second.
    fair: Word,
    /// The load of connections that were placed on the path: what they have sent lately,
    /// and are expected to send, bytes. See [`Account::load_for`].
    load: Word,
    /// The host's limit for the path, bytes per second; 0: none.
    pub(super) limit: Word,
    /// 1 if the path takes no part because of that limit: [`judge_ceiling`].
    ceiled: Word,
}

/// The host's account of all paths under one policy.
#[repr(C)]
#[derive(Debug)]
pub struct Ledger {
    /// The paths, by their index in `PATHS`.
    pub paths: [Account; MAX_PATHS],
    /// All paths that connections have told of have a lower index than this.
    known: Word,
    /// When the last step ran.
    step_ns: Word,
    /// How long it came after the one before.
    elapsed_ns: Word,
    /// The longest round trip that a connection has reported, microseconds. It
    /// is forgotten slowly.
    longest_us: Word,
    /// When a step last found fresh bytes on any path.
    progress_ns: Word,
    /// When that was for the first time after a pause.
    resumed_ns: Word,
    /// 1 if a connection since the last step has data that no subflow takes.
    unassigned: Word,
    /// Sums over the paths that take part.
    weights: Word,
    rate: Word,
    acked: Word,
    excess: Word,
    /// Connections with a choice that have reported in this second, and in the
    /// last one.
    reported: Word,
    users: Word,
    /// When this second began.
    second_ns: Word,
    /// Rate of one unit of weight.
    unit: Unit,
    /// When the host was last too thin to be steered.
    thin_ns: Word,
    /// How far the running step forgets excesses: it divides them by two to
    /// this power.
    forget: Word,
}

crate::layout::layout! {
    Account {
        acked_bytes, counted_bytes, fresh_bytes, rate, excess_bytes, used_ns, began_ns, progress_ns, weight,
        lead_permille, fair, load, limit, ceiled,
    }
    Ledger {
        paths, known, step_ns, elapsed_ns, longest_us, progress_ns, resumed_ns, unassigned, weights, rate, acked, excess, reported, users,
        second_ns, unit,
        thin_ns, forget,
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            paths: core::array::from_fn(|_| Account::default()),
            known: Word::default(),
            step_ns: Word::default(),
            elapsed_ns: Word::default(),
            longest_us: Word::default(),
            progress_ns: Word::default(),
            resumed_ns: Word::default(),
            unassigned: Word::default(),
            weights: Word::default(),
            rate: Word::default(),
            acked: Word::default(),
            excess: Word::default(),
            reported: Word::default(),
            users: Word::default(),
            second_ns: Word::default(),
            unit: Unit::default(),
            thin_ns: Word::default(),
            forget: Word::default(),
        }
    }
}

impl Account {
    /// Adds bytes that a connection has had acked on this path.
    #[inline(always)]
    pub fn add(&self, bytes: u64) {
        if bytes != 0 {
            self.acked_bytes.add(bytes);
        }
    }

    /// Notes that a connection which has a choice uses the path, with this
    /// weight.
    #[inline(always)]
    pub(super) fn used(&self, weight: u64, now_ns: u64) {
        if self.used_ns.get() == 0 {
            self.began_ns.set(now_ns);
        }
        self.used_ns.set(now_ns);
        self.weight.set(weight);
    }

    /// Returns the path's load for a unit of its weight, in sixty-four-thousandths
    /// of a byte.
    #[inline(always)]
    pub(super) fn load_for(&self, weight: u64) -> u64 {
        (self.load.get() << 16) / weight.max(1)
    }

    /// Adds what a connection that is placed on the path has sent, or is expected
    /// to send.
    #[inline(always)]
    pub(super) fn charge(&self, bytes: u64) {
        self.load.add(bytes);
    }

    /// Returns how far the path leads (or lags, if negative), in thousandths of
    /// what it carries in a horizon ([`TAU_NS`]) at its rate.
    #[inline(always)]
    pub(super) fn lead_permille(&self) -> i64 {
        self.lead_permille.get() as i64
    }

    /// Returns the cap of one of many connections while the path lags, bytes per second:
    /// twice the path's share. The kernel's scheduler can give a connection that has no
    /// cap a megabyte at once, which may be more than a light path carries in a second.
    #[inline(always)]
    pub(super) fn most_for_one(&self) -> u64 {
        2 * self.fair.get()
    }

    /// Returns the part of `rate`, a connection's rate on this path, that would
    /// be left if the path carried just its share of the host's rate. At most
    /// [`MAX_REGAIN`] times `rate`.
    #[inline(always)]
    pub(super) fn fair_part(&self, rate: u64) -> u64 {
        let host = self.rate.get().max(1);
        let most = rate * MAX_REGAIN;
        // Kibibytes per second, so that the product fits.
        (rate * (self.fair.get() >> 10) / ((host >> 10) + 1)).min(most)
    }
}

impl Ledger {
    /// Returns the account of a path, by its index in `PATHS`.
    #[inline(always)]
    pub fn path(&self, index: u64) -> Option<&Account> {
        let index = index as usize;
        // `get` alone would satisfy rustc. The verifier needs the mask as well.
        if index < MAX_PATHS {
            self.paths.get(index & (MAX_PATHS - 1))
        } else {
            None
        }
    }

    /// Returns the account of a path that a connection tells of.
    #[inline(always)]
    pub(super) fn told(&self, index: u64) -> Option<&Account> {
        let account = self.path(index);
        if account.is_some() && index >= self.known.get() {
            self.known.set(index + 1);
        }
        account
    }

    /// Returns whether a connection has told of this path, or of one after it.
    #[inline(always)]
    pub fn knows(&self, index: u64) -> bool {
        index < self.known.get()
    }

    /// Notes a connection's longest round trip, and whether it has data that no
    /// subflow takes.
    #[inline(always)]
    pub(super) fn notice(&self, longest_us: u64, unassigned: bool) {
        if longest_us > self.longest_us.get() {
            self.longest_us.set(longest_us);
        }
        if unassigned {
            self.unassigned.set(1);
        }
    }

    /// Counts a connection that has a choice. Each is counted once a second.
    #[inline(always)]
    pub(super) fn count_user(&self) {
        self.reported.add(1);
    }

    /// Returns the least rate of a connection on a path, bytes per second, that
    /// the connection may reach at once: half of an even part of the path's
    /// share. A connection that has fallen behind could otherwise grow only as
    /// fast as its own slow rate.
    #[inline(always)]
    pub(super) fn even_part(&self, account: &Account) -> u64 {
        account.fair.get() / self.users.get().max(1) / 2
    }

    /// Returns whether fewer than [`MIN_USERS`] connections have a choice.
    #[inline(always)]
    pub(super) fn is_used_by_few(&self) -> bool {
        self.users.get().max(self.reported.get()) < MIN_USERS
    }

    /// Claims a step if one is due, so that only one caller runs it.
    #[inline(always)]
    pub fn claim_step(&self, now_ns: u64) -> bool {
        let elapsed_ns = claim_step(&self.step_ns, now_ns);
        if let Some(elapsed_ns) = elapsed_ns {
            self.elapsed_ns.set(elapsed_ns);
        }
        elapsed_ns.is_some()
    }

    /// Runs one step, after [`Ledger::claim_step`].
    #[inline(always)]
    pub fn step(&self, now_ns: u64) {
        self.begin();
        let paths = || (0..MAX_PATHS as u64).take_while(|index| self.knows(*index));
        for index in paths() {
            self.sum_path(index, now_ns);
        }
        self.follow(now_ns);
        for index in paths() {
            self.settle_path(index);
        }
    }

    /// Clears the sums.
    #[inline(always)]
    pub fn begin(&self) {
        for sum in [&self.weights, &self.rate, &self.acked, &self.excess] {
            sum.set(0);
        }
    }

    /// Brings a path's rate up to date and adds the path to the sums.
    #[inline(always)]
    pub fn sum_path(&self, index: u64, now_ns: u64) {
        let Some(account) = self.path(index) else {
            return;
        };
        let acked = account.acked_bytes.get();
        let fresh = acked.wrapping_sub(account.counted_bytes.get());
        // Bytes that are acked while the path takes no part must not count as a burst
        // once it takes part again.
        account.counted_bytes.set(acked);
        // Kilobytes, so that the product fits.
        let elapsed_ns = self.elapsed_ns.get().min(LOAD_NS);
        let forgotten = (account.load.get() >> 10) * (elapsed_ns >> 10) / (LOAD_NS >> 20);
        account
            .load
            .set(account.load.get().saturating_sub(forgotten));
        let used_ns = account.used_ns.get();
        if used_ns == 0 {
            return;
        }
        account.fresh_bytes.set(fresh);
        let memory_us = 2 * self.longest_us.get().max(50_000);
        let elapsed_us = (self.elapsed_ns.get() / 1000).max(1);
        smooth(&account.rate, fresh * US_PER_SEC, elapsed_us, memory_us);
        if fresh != 0 {
            account.progress_ns.set(now_ns);
            if now_ns.saturating_sub(self.progress_ns.get()) > SILENT_NS / 2 {
                self.resumed_ns.set(now_ns);
            }
            self.progress_ns.set(now_ns);
        }
        let trips_ns = 4_000 * self.longest_us.get();
        let heard_ns = account.progress_ns.get().max(account.began_ns.get());
        let since_ns = heard_ns.max(self.resumed_ns.get());
        let silent_ns = self.progress_ns.get().saturating_sub(since_ns);
        if now_ns.saturating_sub(used_ns) > USED_NS + trips_ns || silent_ns > SILENT_NS + trips_ns {
            // Nobody can use the path, so it owes nothing and is owed nothing.
            account.used_ns.set(0);
            account.excess_bytes.set(0);
            account.lead_permille.set(0);
            return;
        }
        self.weights.add(account.weight.get());
        self.rate.add(account.rate.get());
        self.acked.add(fresh);
        self.excess.add(account.excess_bytes.get());
    }

    /// Moves the rate of a unit of weight, after the sums are taken.
    #[inline(always)]
    pub fn follow(&self, now_ns: u64) {
        let weights = self.weights.get().max(1);
        let unassigned = self.unassigned.get() != 0;
        self.unassigned.set(0);
        let now = self.rate.get() / weights + 1;
        self.unit
            .follow(now, weights, self.elapsed_ns.get(), unassigned);
        let longest_us = self.longest_us.get();
        self.longest_us.set(longest_us - longest_us / 64);
        // As in a connection's step: while the host's traffic starts, paths do
        // not have to make up for what they did not carry.
        if self.rate.get() < THIN_BYTES_PER_SEC {
            self.thin_ns.set(now_ns);
        }
        if now_ns.saturating_sub(self.second_ns.get()) >= NS_PER_SEC {
            self.second_ns.set(now_ns);
            self.users.set(self.reported.get());
            self.reported.set(0);
        }
        let young = now_ns.saturating_sub(self.thin_ns.get()) < YOUNG_NS;
        self.forget.set(u64::from(young));
    }

    /// Judges by what all connections carry whether a path takes part: see
    /// [`judge_ceiling`].
    #[inline(always)]
    fn judge_account(&self, account: &Account) {
        // 0 or 1, so that products do without branches.
        let own = u64::from(account.used_ns.get() != 0);
        let weight = account.weight.get();
        let rate = self.rate.get().saturating_sub(account.rate.get() * own);
        let weights = self.weights.get().saturating_sub(weight * own);
        let share = rate * weight / weights.max(1) * u64::from(weights != 0);
        judge_ceiling(
            &account.ceiled,
            account.limit.get(),
            account.rate.get(),
            share,
        );
    }

    /// Tells a connection's path whether it takes part in the connection's next
    /// step.
    #[inline(always)]
    pub(super) fn judge_ceiling(&self, slot: &Slot) {
        let account = self.path(slot.path.get().wrapping_sub(1));
        let ceiled = account.map_or(0, |account| account.ceiled.get());
        slot.ceiled.set(ceiled);
    }

    /// Works out how far a path leads or lags.
    #[inline(always)]
    pub fn settle_path(&self, index: u64) {
        let Some(account) = self.path(index) else {
            return;
        };
        self.judge_account(account);
        if account.used_ns.get() == 0 {
            return;
        }
        let weights = self.weights.get().max(1);
        let weight = account.weight.get();
        let excess = account.excess_bytes.get() as i64 >> (self.forget.get() & 63);
        account.excess_bytes.set(excess as u64);
        // As in a connection's step, excesses that do not sum to zero are
        // shared out as well.
        let shared = self.acked.get() as i64 + self.excess.get() as i64;
        let share = signed(shared, shared.unsigned_abs() * weight / weights);
        let fair = weight * self.unit.get();
        let gained = account.fresh_bytes.get() as i64 - share;
        let lead = lead_permille(
            &account.excess_bytes,
            gained,
            fair,
            weights * self.unit.get(),
            CHUNKS_PERMILLE,
        );
        account.fair.set(fair);
        account.lead_permille.set(lead as u64);
    }
}
