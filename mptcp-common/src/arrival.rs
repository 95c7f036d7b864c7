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
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn segment(seq: u32, length: u32, tsval: u32) -> Segment {
        Segment {
            source_port: 1,
            destination_port: 2,
            seq,
            end: seq.wrapping_add(length),
            ack: 0,
            flags: 0x10,
            header: 32,
            tsval: Some(tsval),
        }
    }

    /// Judges a segment that must not wait.
    fn judge(arrival: &Arrival, segment: &Segment, received: &Received, now_ns: u64) -> Verdict {
        arrival.judge(segment, received, 0, || false, now_ns)
    }

    fn next(next: u32) -> Received {
        Received {
            next,
            edge: next.wrapping_add(1 << 16),
            ..Received::default()
        }
    }

    #[test]
    fn the_second_arrival_is_dropped_and_a_retransmission_is_not() {
        let arrival = Arrival::default();
        let now = 5_000 * MS;
        let first = segment(u32::MAX - 10, 100, 7);
        assert_eq!(
            judge(&arrival, &first, &next(u32::MAX - 10), now),
            Verdict::First(100)
        );
        assert_eq!(judge(&arrival, &first, &next(89), now), Verdict::Second);
        // A retransmission: its sender has missed the acknowledgement.
        let again = segment(u32::MAX - 10, 100, 208);
        assert_eq!(
            judge(&arrival, &again, &next(89), now + 201 * MS),
            Verdict::Harmless
        );
        // Both arrivals of the retransmission pass.
        assert_eq!(
            judge(&arrival, &again, &next(89), now + 202 * MS),
            Verdict::Harmless
        );
    }

    #[test]
    fn what_was_dropped_behind_the_hook_is_not_taken_for_received() {
        let arrival = Arrival::default();
        let lost = segment(100, 100, 7);
        assert_eq!(judge(&arrival, &lost, &next(100), MS), Verdict::First(100));
        assert_eq!(judge(&arrival, &lost, &next(100), MS), Verdict::First(100));
        assert_eq!(judge(&arrival, &lost, &next(200), MS), Verdict::Second);
    }

    #[test]
    fn out_of_order_and_backlogged_data_counts_as_received() {
        let missing = |seq, length| {
            let segment = segment(seq, length, 1);
            let mut received = next(100);
            received.also(&segment, 300, 500);
            received.also(&segment, 500, 600);
            received.also(&segment, 0, 0);
            received.missing(&segment)
        };
        assert_eq!(missing(300, 200), 0);
        assert_eq!(missing(500, 100), 0);
        assert_eq!(missing(200, 100), 100);
        assert_eq!(missing(50, 100), 50);
        assert_eq!(missing(250, 100), 100);
    }

    #[test]
    fn acknowledgements_pass_unless_tcp_would_refuse_them() {
        let arrival = Arrival::default();
        let socket = Received {
            next: 1000,
            acked: 50,
            ts_recent: 7,
            ..Received::default()
        };
        let ack = |ack, tsval| Segment {
            ack,
            ..segment(1000, 0, tsval)
        };
        assert_eq!(judge(&arrival, &ack(60, 7), &socket, 0), Verdict::First(0));
        assert_eq!(judge(&arrival, &ack(50, 7), &socket, 0), Verdict::Harmless);
        assert_eq!(judge(&arrival, &ack(60, 6), &socket, 0), Verdict::Second);
    }

    #[test]
    fn a_forged_timestamp_does_not_silence_a_connection_for_long() {
        let arrival = Arrival::default();
        let now = 5_000 * MS;
        // A segment far from the expected one is not believed at all.
        let far = segment(1 << 30, 100, 900_000);
        assert_eq!(judge(&arrival, &far, &next(100), now), Verdict::First(100));
        let again = segment(0, 100, 300);
        assert_eq!(judge(&arrival, &again, &next(100), now), Verdict::Harmless);
        // A near one is believed until nothing new has come for a second.
        let near = segment(200, 100, 900_000);
        assert_eq!(judge(&arrival, &near, &next(100), now), Verdict::First(100));
        assert_eq!(judge(&arrival, &again, &next(100), now), Verdict::Second);
        let later = now + LATEST_NS;
        assert_eq!(
            judge(&arrival, &again, &next(100), later),
            Verdict::Harmless
        );
        let fresh = segment(100, 100, 400);
        assert_eq!(
            judge(&arrival, &fresh, &next(100), later),
            Verdict::First(100)
        );
        assert_eq!(judge(&arrival, &fresh, &next(200), later), Verdict::Second);
    }

    #[test]
    fn of_two_at_once_one_waits_but_not_for_ever() {
        let arrival = Arrival::default();
        let socket = next(100);
        let one = segment(100, 100, 7);
        let judge = |segment: &Segment, received: &Received, rounds, now_ns| {
            arrival.judge(segment, received, rounds, || true, now_ns)
        };
        let now = 5_000 * MS;
        assert_eq!(judge(&one, &socket, 0, now), Verdict::First(100));
        assert_eq!(judge(&one, &socket, 0, now + 10), Verdict::Wait);
        // The segment that follows does not wait.
        let following = judge(&segment(200, 100, 7), &socket, 0, now + 20);
        assert_eq!(following, Verdict::First(100));
        assert_eq!(judge(&one, &next(200), 3, now + 30), Verdict::Second);
        // The same holds by the clock of a CPU that looked earlier.
        assert_eq!(judge(&one, &next(200), 0, now - MS), Verdict::Second);
        assert_eq!(judge(&one, &socket, 0, now - MS), Verdict::Wait);
        // The first was dropped behind the hook.
        let lost = judge(&one, &socket, ROUNDS, now + 30);
        assert_eq!(lost, Verdict::First(100));
        // It may happen again, so nothing waits for a while.
        let soon = judge(&one, &socket, 0, now + 40);
        assert_eq!(soon, Verdict::First(100));
        let later = now + 30 + PAUSE_NS;
        assert_eq!(judge(&one, &socket, 0, later), Verdict::First(100));
        assert_eq!(judge(&one, &socket, 0, later), Verdict::Wait);
    }

    #[test]
    fn a_wait_that_ends_without_the_other_arrival_causes_a_pause() {
        let one = segment(100, 100, 7);
        let now = 5_000 * MS;
        // A wait ends without the other arrival after `PENDING_NS`, if the
        // queue was long, or when the CPU or the segment has no rounds left.
        for (rounds, later, may_wait) in [(1, PENDING_NS, true), (1, 10, false), (ROUNDS, 10, true)]
        {
            let arrival = Arrival::default();
            let judge = |rounds, may_wait, now_ns| {
                arrival.judge(&one, &next(100), rounds, || may_wait, now_ns)
            };
            assert_eq!(judge(0, true, now), Verdict::First(100));
            assert_eq!(judge(0, true, now + 1), Verdict::Wait);
            let end = now + later;
            assert_eq!(judge(rounds, may_wait, end), Verdict::First(100));
            for (at, verdict) in [
                (end + PAUSE_NS - 1, Verdict::First(100)),
                (end + PAUSE_NS, Verdict::Wait),
            ] {
                // Let through again just now.
                arrival.passed_ns.set(at);
                let judged = judge(0, true, at);
                assert_eq!(judged, verdict, "{rounds} rounds, {later} ns");
            }
        }
    }

    /// Lets one segment wait in vain and returns how long none waits after that.
    fn pause(arrival: &Arrival, now_ns: u64) -> u64 {
        let one = segment(100, 100, 7);
        let waits_at = |now_ns| {
            arrival.passed_ns.set(now_ns);
            arrival.judge(&one, &next(100), 0, || true, now_ns) == Verdict::Wait
        };
        arrival.judge(&one, &next(100), 0, || false, now_ns);
        assert!(waits_at(now_ns));
        arrival.judge(&one, &next(100), ROUNDS, || true, now_ns);
        (0..)
            .step_by(MS as usize)
            .find(|&ns| waits_at(now_ns + ns))
            .unwrap_or_default()
    }

    #[test]
    fn pauses_grow_until_a_wait_succeeds() {
        let arrival = Arrival::default();
        let mut now = 5_000 * MS;
        let mut pauses = [0; 6];
        for length in &mut pauses {
            *length = pause(&arrival, now) / MS;
            now += *length * MS;
        }
        assert_eq!(pauses, [5, 20, 80, 320, 1280, 1280]);
        let one = segment(100, 100, 7);
        let second = arrival.judge(&one, &next(200), 1, || true, now);
        assert_eq!(second, Verdict::Second);
        assert_eq!(pause(&arrival, now), PAUSE_NS);
        assert_eq!(pause(&arrival, now + PAUSE_NS), 4 * PAUSE_NS);
        assert_eq!(pause(&arrival, now + PAUSE_NS + FORGET_NS), PAUSE_NS);
    }

    #[test]
    fn a_segment_that_the_socket_would_not_take_does_not_wait() {
        let arrival = Arrival::default();
        let socket = next(100);
        let judge = |segment: &Segment| arrival.judge(segment, &socket, 0, || true, 5_000 * MS);
        let beyond = segment(100 + (1 << 16), 100, 7);
        assert_eq!(judge(&beyond), Verdict::First(100));
        assert_eq!(judge(&beyond), Verdict::First(100));
        let last = segment(99 + (1 << 16), 100, 7);
        assert_eq!(judge(&last), Verdict::First(100));
        assert_eq!(judge(&last), Verdict::Wait);
    }

    #[test]
    fn a_cpu_has_so_many_rounds_in_a_period() {
        let patience = Patience::default();
        let taken = |now_ns| (0..10_000).filter(|_| patience.take(now_ns)).count() as u64;
        assert_eq!(taken(5_000 * MS), ROUNDS_IN_PERIOD);
        assert_eq!(taken(5_000 * MS + PERIOD_NS - 1), 0);
        assert_eq!(taken(5_000 * MS + PERIOD_NS), ROUNDS_IN_PERIOD);
    }
}
