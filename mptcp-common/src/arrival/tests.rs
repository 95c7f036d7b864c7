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
    for (rounds, later, may_wait) in [(1, PENDING_NS, true), (1, 10, false), (ROUNDS, 10, true)] {
        let arrival = Arrival::default();
        let judge =
            |rounds, may_wait, now_ns| arrival.judge(&one, &next(100), rounds, || may_wait, now_ns);
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
