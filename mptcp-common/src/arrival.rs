//! Tells the second arrival of a segment from a retransmission.
//!
//! ```text
//!   received    all of the segment is in the socket: below rcv_nxt, in a SACK
//!               block, or in the backlog. Only the socket tells: a segment
//!               that passed a hook may have been dropped after it.
//!   newest      timestamp (TSval) of the newest segment that brought something
//!
//!   second  =  received  and  tsval <= newest  and  newest is not long ago
//!   waits   =  let through a moment ago, and not received yet
//! ```
//!
//! A retransmission carries a newer timestamp than anything sent before it. So
//! it passes and TCP answers it, because its sender has missed an
//! acknowledgement. A second arrival carries the same timestamp as the first
//! one.
//!
//! Two arrivals at the same time, on two CPUs, would both count as the first.
//! So if one finds that the other was let through a moment ago but is not in
//! the socket yet, it goes to the end of its CPU's queue and is judged again,
//! up to [`ROUNDS`] times. A wait that ends without the other arrival was in
//! vain: the other was dropped behind the hook, or its CPU was held up, as
//! happens in virtual machines. The segment then passes, and no segment of this
//! subflow waits for some milliseconds. Each further wait in vain makes that
//! pause four times as long, up to a second. A wait that is not in vain ends it.
//!
//! Anyone can forge pairs that wait in vain, over any number of connections. So
//! a CPU spends at most [`ROUNDS_IN_PERIOD`] on waiting, and a segment waits
//! only if it lies in the receive window, so that the socket would take it. If
//! a segment does not wait, TCP may get it twice, and answers with a duplicate
//! acknowledgement.
//!
//! An acknowledgement without data is dropped if its timestamp is older than
//! the one that TCP remembers: TCP would refuse it (RFC 7323, 5.3) and answer.
//! Any other passes, since TCP takes it twice without harm.
//!
//! Limits: a retransmission within the timestamp's tick (1 ms on Linux) of a
//! newer segment counts as a second arrival. As long as newer segments arrive,
//! they are acknowledged.

use crate::{
    abi::redundant::{Arrival, MAX_PASSED, Patience},
    packet::Segment,
};

/// The most that a second arrival can come after the first. A later one goes to
/// TCP, since the socket may be waiting for just that.
pub const LATEST_NS: u64 = 1_000_000_000;

/// How often a segment may go to the end of its CPU's queue. Each time takes
/// about half a microsecond if the queue is empty.
pub const ROUNDS: u32 = 64;

/// Rounds that a CPU has for all segments in [`PERIOD_NS`]: some percent of its
/// time.
pub const ROUNDS_IN_PERIOD: u64 = 512;

/// The period of [`ROUNDS_IN_PERIOD`].
pub const PERIOD_NS: u64 = 10_000_000;

/// After this long, a segment that was let through is in the socket or has been
/// dropped.
pub const PENDING_NS: u64 = 5_000_000;

/// After one wait in vain, no segment of the subflow waits for this long.
const PAUSE_NS: u64 = 5_000_000;

/// A further wait in vain makes the pause four times as long, at most so often:
/// up to 1.3 s.
const MAX_GROWTHS: u64 = 4;

/// Waits in vain that are further apart than this have nothing to do with each
/// other.
const FORGET_NS: u64 = 3_000_000_000;

/// The data that a socket has received, as far as it matters to one segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// It has received everything before this (`tcp_sock.rcv_nxt`).
    pub next: u32,
    /// Where its receive window ends (`tcp_sock.rcv_wup` and `rcv_wnd`).
    pub edge: u32,
    /// Up to where its own data is acknowledged (`tcp_sock.snd_una`).
    pub acked: u32,
    /// The timestamp that it remembers (`tcp_sock.rx_opt.ts_recent`).
    pub ts_recent: u32,
    /// Whether one of its other ranges holds the part of the segment that lies
    /// beyond `next`.
    pub covered: bool,
    /// Whether packets wait in the backlog for the socket's owner.
    pub busy: bool,
}

/// The decision on an arriving segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to TCP, and brings so many bytes that were missing.
    First(u32),
    /// It goes to TCP, although it brings nothing.
    Harmless,
    /// It must be judged again in a moment.
    Wait,
    /// It has arrived before, and is dropped.
    Second,
}

/// Returns whether sequence number `a` lies before `b`.
#[inline(always)]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Returns the time since `then_ns`; 0 if that is later than `now_ns`, since
/// another CPU may have taken it a moment later.
#[inline(always)]
fn since(then_ns: u64, now_ns: u64) -> u64 {
    now_ns.saturating_sub(then_ns)
}

impl Received {
    /// Takes note of a range beyond `next`: a SACK block
    /// (`tcp_sock.selective_acks`), or a packet that waits for the socket's
    /// owner (`sock.sk_backlog`). `stop` is the sequence number after its last.
    #[inline(always)]
    pub fn also(&mut self, segment: &Segment, start: u32, stop: u32) {
        let from = self.from(segment);
        self.covered |= !before(from, start) && !before(stop, segment.end);
    }

    /// Returns how many of the segment's bytes are missing.
    #[inline(always)]
    pub fn missing(&self, segment: &Segment) -> u32 {
        let from = self.from(segment);
        if self.covered || !before(from, segment.end) {
            return 0;
        }
        segment.end.wrapping_sub(from)
    }

    /// Returns whether the socket would take the segment's missing bytes: they
    /// begin before the end of its receive window.
    #[inline(always)]
    fn takes(&self, segment: &Segment) -> bool {
        before(self.from(segment), self.edge)
    }

    #[inline(always)]
    fn from(&self, segment: &Segment) -> u32 {
        if before(segment.seq, self.next) {
            self.next
        } else {
            segment.seq
        }
    }
}

impl Patience {
    /// Takes one round. Returns `false` if none is left in this period.
    #[inline(always)]
    pub fn take(&self, now_ns: u64) -> bool {
        let period = now_ns / PERIOD_NS;
        if self.period.get() != period {
            self.period.set(period);
            self.used.set(0);
        }
        let used = self.used.get();
        self.used.set(used + 1);
        used < ROUNDS_IN_PERIOD
    }
}

impl Arrival {
    /// Judges a segment that has waited for `rounds`, and takes note of it.
    /// Calls `may_wait` only if the segment would wait.
    #[inline(always)]
    pub fn judge(
        &self,
        segment: &Segment,
        received: &Received,
        rounds: u32,
        may_wait: impl FnOnce() -> bool,
        now_ns: u64,
    ) -> Verdict {
        let missing = received.missing(segment);
        let Some(tsval) = segment.tsval else {
            return Verdict::First(missing);
        };
        if segment.end == segment.seq {
            return if before(tsval, received.ts_recent) {
                Verdict::Second
            } else if before(received.acked, segment.ack) {
                Verdict::First(0)
            } else {
                Verdict::Harmless
            };
        }
        let newest = self.newest.get() as u32;
        let late_ns = since(self.fresh_ns.get(), now_ns);
        if missing == 0 {
            let known = !before(newest, tsval);
            if rounds > 0 {
                self.in_vain.set(0);
            }
            return if known && late_ns < LATEST_NS {
                Verdict::Second
            } else {
                Verdict::Harmless
            };
        }
        if !received.takes(segment) {
            // It may be forged, so take no note of its timestamp.
            return Verdict::First(missing);
        }
        if !self.claim(segment, now_ns) && rounds < ROUNDS && !self.is_pausing(now_ns) && may_wait()
        {
            return Verdict::Wait;
        }
        if rounds > 0 && !received.busy {
            self.waited_in_vain(now_ns);
        }
        if late_ns >= LATEST_NS || before(newest, tsval) {
            self.newest.set(u64::from(tsval));
        }
        self.fresh_ns.set(now_ns);
        Verdict::First(missing)
    }

    /// Returns whether the pause after the last waits in vain goes on.
    #[inline(always)]
    fn is_pausing(&self, now_ns: u64) -> bool {
        let in_vain = self.in_vain.get();
        in_vain != 0
            && since(self.in_vain_ns.get(), now_ns)
                < PAUSE_NS << (2 * (in_vain - 1).min(MAX_GROWTHS))
    }

    /// Counts a segment that has waited in vain.
    #[inline(always)]
    fn waited_in_vain(&self, now_ns: u64) {
        let recent = since(self.in_vain_ns.get(), now_ns) < FORGET_NS;
        self.in_vain_ns.set(now_ns);
        self.in_vain
            .set(if recent { self.in_vain.get() + 1 } else { 1 });
    }

    /// Takes note that the segment is let through. Returns `false` if it
    /// already was a moment ago.
    #[inline(always)]
    fn claim(&self, segment: &Segment, now_ns: u64) -> bool {
        let count = self.count.get();
        let this = u64::from(segment.seq) << 32 | u64::from(segment.end);
        let mut known = 0;
        for passed in &self.passed {
            known |= u64::from(passed.get() == this);
        }
        if known != 0 && since(self.passed_ns.get(), now_ns) < PENDING_NS {
            return false;
        }
        // The order matters: a CPU that finds the new count must find the
        // segment too.
        self.passed_ns.set(now_ns);
        self.passed[count as usize & (MAX_PASSED - 1)].set(this);
        self.count.replace(count, count.wrapping_add(1))
    }
}

#[cfg(test)]
mod tests;
