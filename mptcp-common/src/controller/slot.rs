//! One path of one connection: what it did, and what it is owed.

use super::Tally;
use super::tuning::*;
use crate::word::Word;

/// One path of one connection.
///
/// The callbacks of any of the path's subflows write the atomics, on any CPU.
/// Only the step writes the rest, and only one step runs at a time.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Slot {
    /// Index of the path, plus one; 0: the slot is free.
    pub path: Word,
    /// Open subflows on this path.
    pub subflows: Word,
    /// How many of them the kernel takes for backups: it gives a backup nothing
    /// while the connection has an active subflow that is none.
    pub backups: Word,
    /// Bytes acked, in total.
    pub acked_bytes: Word,
    /// When the last of them were acked.
    pub progress_ns: Word,
    /// Retransmission timeouts since then.
    pub timeouts: Word,
    /// Smoothed round trip of the subflow that reported last, microseconds.
    pub srtt_us: Word,
    /// Bytes that this subflow has not sent.
    pub queued: Word,
    /// The path's cap, bytes per second, or [`NO_CAP`].
    pub cap: Word,
    /// 1 while the path makes no progress.
    pub dead: Word,
    /// The change that the last step saw or made: [`Slot::DIED`],
    /// [`Slot::RETURNED`], [`Slot::READMITTED`] or 0.
    pub turned: Word,
    /// Weight, copied from the policy when the slot is taken and before each step.
    pub weight: Word,
    /// 1 once the step has seen the slot.
    pub(super) known: Word,
    /// `acked_bytes` at the last step.
    pub(super) counted_bytes: Word,
    /// Smoothed rate, bytes per second.
    pub rate: Word,
    /// Bytes acked beyond the path's share, in two's complement.
    excess_bytes: Word,
    /// When the path was last owed nothing, or no other path was held back for
    /// it.
    pub(super) unowed_ns: Word,
    /// When the path was last not meant to carry anything.
    pub(super) rested_ns: Word,
    /// When the connection was last allowed to use the path again.
    pub(super) readmitted_ns: Word,
    /// The cap of each of the path's subflows under the host's ceiling for the
    /// path, bytes per second, copied before each step; 0 or [`NO_CAP`]: the
    /// path has none.
    pub ceiling: Word,
    /// The host's limit for the path, bytes per second, likewise; 0: none.
    pub limit: Word,
    /// 1 if the path carries as much as the ceiling lets it and less than its
    /// share: [`judge_ceiling`].
    pub ceiled: Word,
}

crate::layout::layout! {
    Slot {
        path, subflows, backups, acked_bytes, progress_ns, timeouts, srtt_us, queued, cap, dead,
        turned, weight, known, counted_bytes, rate, excess_bytes, unowed_ns, rested_ns, readmitted_ns, ceiling,
        limit, ceiled,
    }
}

/// The part that a path takes in a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// No subflow, or no progress, or its ceiling is below its share: neither
    /// counted nor capped.
    Out,
    /// Meant to carry nothing while another path carries the connection: its
    /// weight is 0, or its subflows are backups.
    Standby,
    /// Takes part with this weight.
    Active(u64),
}

impl Slot {
    /// [`Slot::turned`]: the path stopped making progress.
    pub const DIED: u64 = 1;
    /// [`Slot::turned`]: it makes progress again.
    pub const RETURNED: u64 = 2;
    /// [`Slot::turned`]: the connection may use the path again, which it did
    /// without by the ratio.
    pub const READMITTED: u64 = 3;

    /// Returns whether the path is in use.
    #[inline(always)]
    pub fn open(&self) -> bool {
        self.path.get() != 0 && self.subflows.get() != 0
    }

    /// Returns 1 if one of the path's subflows is no backup to the kernel's
    /// scheduler, else 0. No branch depends on it, because the verifier would
    /// follow both values.
    #[inline(always)]
    pub(super) fn ordinary(&self) -> u64 {
        self.backups.get().wrapping_sub(self.subflows.get()) >> 63
    }

    /// Returns whether the kernel's scheduler takes all of the path's subflows
    /// for backups.
    #[inline(always)]
    pub(super) fn is_backup(&self) -> bool {
        self.ordinary() == 0
    }

    /// Notes that a subflow of this path had `acked` more bytes acked (maybe
    /// none), and has `queued` unsent bytes.
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

    /// Returns whether the path makes no progress, though it has something to
    /// send.
    #[inline(always)]
    pub(super) fn is_dead(&self, now_ns: u64) -> bool {
        let timeouts = self.timeouts.get();
        let idle_ns = now_ns.saturating_sub(self.progress_ns.get());
        timeouts >= DEAD_TIMEOUTS || (timeouts != 0 && idle_ns > DEAD_NS)
    }

    /// Notes whether the path makes progress, and whether that has changed since
    /// the last step.
    #[inline(always)]
    pub(super) fn judge(&self, now_ns: u64) {
        let dead = self.is_dead(now_ns);
        self.turned.set(match (self.dead.get() != 0, dead) {
            (false, true) => Self::DIED,
            (true, false) => Self::RETURNED,
            _ => 0,
        });
        self.dead.set(u64::from(dead));
    }

    #[inline(always)]
    pub(super) fn fresh_bytes(&self) -> u64 {
        self.acked_bytes
            .get()
            .wrapping_sub(self.counted_bytes.get())
    }

    /// Returns the bytes acked beyond the path's share.
    #[inline(always)]
    pub(super) fn excess_bytes(&self) -> i64 {
        self.excess_bytes.get() as i64
    }

    #[inline(always)]
    pub(super) fn set_excess_bytes(&self, bytes: i64) {
        self.excess_bytes.set(bytes as u64);
    }

    /// Returns whether the connection does without this path, because the ledger
    /// has chosen so.
    #[inline(always)]
    pub(super) fn is_held_out(&self) -> bool {
        self.cap.get() == u64::from(HELD_OUT)
    }

    /// Returns whether the path's subflow may not know yet that the connection may
    /// use the path again. An idle subflow learns of that by a sweep only.
    #[inline(always)]
    pub(super) fn awaits_sweep(&self, now_ns: u64) -> bool {
        let readmitted_ns = self.readmitted_ns.get();
        let heard = self.progress_ns.get() > readmitted_ns;
        self.open() && !heard && now_ns.saturating_sub(readmitted_ns) < READMIT_NS
    }

    /// Returns whether its cap keeps the path from carrying more.
    #[inline(always)]
    pub(super) fn is_held(&self) -> bool {
        self.cap.get() < self.rate.get() / 32 * 33
    }

    /// Returns whether the path has been given nothing for too long, although
    /// it was owed something and others were held back for it: longer than it
    /// takes to carry three chunks at the rate `fair`, and than four round
    /// trips and 100 ms. The time ends at `given_ns`, when any path was last
    /// given data.
    #[inline(always)]
    pub(super) fn is_idle(&self, given_ns: u64, fair: u64) -> bool {
        let quiet_ns = given_ns.saturating_sub(self.progress_ns.get().max(self.unowed_ns.get()));
        let chunks_ns = 3 * CHUNK * NS_PER_SEC / fair.max(1);
        let trips_ns = 4_000 * self.srtt_us.get();
        let least_ns = chunks_ns.max(trips_ns).max(100_000_000);
        self.timeouts.get() == 0 && quiet_ns > least_ns
    }

    /// Returns whether the path has been given nothing for so long that nothing
    /// will come, whether others are held back or not. The time begins no
    /// earlier than `steered_ns` and ends at `given_ns`, when any path was last
    /// given data. The time in which the path was not meant to carry anything
    /// does not count.
    #[inline(always)]
    pub(super) fn is_forgotten(&self, given_ns: u64, steered_ns: u64) -> bool {
        let since_ns = self
            .progress_ns
            .get()
            .max(steered_ns)
            .max(self.rested_ns.get());
        let quiet_ns = given_ns.saturating_sub(since_ns);
        self.timeouts.get() == 0 && quiet_ns > FORGOTTEN_NS
    }

    /// Returns whether this path carries the connection, so that standby paths
    /// may rest.
    #[inline(always)]
    pub(super) fn carries(&self) -> bool {
        let alive = self.dead.get() == 0 && self.timeouts.get() < DEAD_TIMEOUTS;
        self.open() && self.weight.get() != 0 && alive
    }

    #[inline(always)]
    pub(super) fn role(&self, tally: &Tally) -> Role {
        if !self.open() || self.dead.get() != 0 || self.ceiled.get() != 0 {
            Role::Out
        } else if self.is_backup() && tally.primary.get() != 0 {
            Role::Standby
        } else if tally.weighted.get() == 0 {
            Role::Active(1)
        } else if self.weight.get() == 0 {
            Role::Standby
        } else {
            Role::Active(self.weight.get())
        }
    }

    /// Judges by what the connection itself carries whether the path takes part
    /// in the next step: see [`judge_ceiling`].
    #[inline(always)]
    pub(super) fn judge_ceiling(&self, tally: &Tally) {
        let level = self.ceiling.get();
        let none = level == 0 || level >= u64::from(NO_CAP);
        let ceiling = level * self.subflows.get() * u64::from(!none);
        let weight = self.weight.get();
        let active = matches!(self.role(tally), Role::Active(_));
        // 0 or 1, so that products do without branches.
        let own = u64::from(active);
        let rate = tally.rate.get().saturating_sub(self.rate.get() * own);
        let weights = tally.weights.get().saturating_sub(weight * own);
        let share = rate * weight / weights.max(1) * u64::from(weights != 0);
        judge_ceiling(&self.ceiled, ceiling, self.rate.get(), share);
    }

    /// Adds `gained` to the excess and returns the lead: see [`lead_permille`].
    #[inline(always)]
    pub(super) fn lead_permille(&self, gained: i64, fair: u64, total: u64) -> i64 {
        lead_permille(&self.excess_bytes, gained, fair, total, 0)
    }
}

/// Judges whether a path takes part in the ratio. It does not while it carries
/// the rate of its `ceiling` (0: none), and its share of what the other paths
/// carry would be more than that. All of them would otherwise be slowed down for
/// a path that cannot become faster.
#[inline(always)]
pub(super) fn judge_ceiling(ceiled: &Word, ceiling: u64, rate: u64, share: u64) {
    // While the ratio holds, the share is the path's rate, and so is close to
    // the ceiling if the path has reached that.
    let begins = rate > ceiling / 16 * 15 && share > ceiling / 32 * 31;
    let goes_on = share > ceiling / 16 * 15;
    let stays = if ceiled.get() == 0 { begins } else { goes_on };
    ceiled.set(u64::from(stays && ceiling != 0));
}

/// Adds `gained` to `excess`, bytes in two's complement, and returns the lead,
/// in thousandths of what a path carries in a horizon at its rate `fair`.
/// `total` is the rate of all paths.
///
/// A lead is forgotten beyond two horizons of the path, or beyond this part of what
/// all paths carry in a horizon (`chunks_permille`), if that is more. A lag is
/// remembered for longer, because what one light path lacks is what holds all the
/// others back.
#[inline(always)]
pub(super) fn lead_permille(
    excess: &Word,
    gained: i64,
    fair: u64,
    total: u64,
    chunks_permille: u64,
) -> i64 {
    let horizon = (fair / (NS_PER_SEC / TAU_NS) + 1) as i64;
    let carried = total / (NS_PER_SEC / TAU_NS);
    let longest_lag = 2 * horizon + (carried / 2) as i64;
    let chunks = (carried * chunks_permille / PERMILLE) as i64;
    // Not `clamp`: it can panic, which the verifier refuses.
    #[allow(clippy::manual_clamp, reason = "see above")]
    let bytes = (excess.get() as i64 + gained)
        .max(-longest_lag)
        .min(chunks.max(2 * horizon));
    excess.set(bytes as u64);
    signed(bytes, bytes.unsigned_abs() * PERMILLE / horizon as u64)
}

/// Returns `size` with the sign of `like`. eBPF has no signed division before
/// its fourth version.
#[inline(always)]
pub(super) fn signed(like: i64, size: u64) -> i64 {
    if like < 0 {
        -(size as i64)
    } else {
        size as i64
    }
}
