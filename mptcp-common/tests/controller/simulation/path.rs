//! One path of a connection: its socket's queue and its congestion control.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mptcp_common::controller::{Limits, NO_CAP};

use super::MSS;
use super::link::{Fate, Link, Segment, SharedLink};

/// Bytes that the kernel accounts for a full-size segment.
const TRUESIZE: f64 = 2304.0;

/// `net.ipv4.tcp_wmem`: the most that one subflow adds to the send buffer.
const MAX_SEND_BUFFER: u64 = 4 << 20;

/// A piece of data on its way over a path.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) bytes: u64,
}

pub(super) struct Path {
    /// When its subflow is established.
    pub(super) opens_ms: u64,
    pub(super) limits: Limits,
    /// `Subflow::quiet_ns`, `quiet_bytes`.
    pub(super) quiet: (u64, u64),
    /// `Subflow::resting`, `seen_ns`.
    pub(super) resting: bool,
    pub(super) seen_ns: u64,
    /// Given by the scheduler, and not sent yet.
    unsent: VecDeque<Piece>,
    unsent_bytes: u64,
    /// Sent, and neither acked nor known to be lost.
    in_flight: u64,
    /// The number of the next segment.
    next_number: u64,
    /// Segments that are lost, each with the time when that is known.
    lost: VecDeque<(u64, Segment)>,
    /// Those of them that are known to be lost.
    repair: VecDeque<Segment>,
    repair_bytes: u64,
    /// The numbers of all segments that are lost and have not arrived since.
    holes: BTreeSet<u64>,
    /// Segments that have arrived after a hole.
    beyond: BTreeMap<u64, Segment>,
    pub(super) cwnd: f64,
    /// Smoothed round trip, with the time in the link's queue.
    srtt_ms: f64,
    /// As in tcp_sndbuf_expand: room for two windows, and it never shrinks.
    pub(super) send_buffer: u64,
    slow_start: bool,
    /// Whether the window, not the pace, held it back lately.
    window_limited: bool,
    pace_credit: f64,
    pub(super) average_pace: f64,
    heard_ms: u64,
    timer_ms: u64,
    pub(super) backoff: u32,
    recovered_ms: u64,
    cubic: Cubic,
    pub(super) acked: u64,
    /// Bytes acked in this tick.
    fresh: u64,
}

/// The memory of TCP CUBIC (RFC 9438) of the last loss.
#[derive(Default)]
struct Cubic {
    /// The window when it was cut, bytes.
    largest: f64,
    cut_ms: u64,
    /// The window that Reno would have now, bytes.
    reno: f64,
}

impl Cubic {
    fn cut(&mut self, cwnd: f64, now_ms: u64) {
        self.largest = cwnd;
        self.cut_ms = now_ms;
        self.reno = cwnd * 0.7;
    }

    /// Returns by how much `fresh` acked bytes open the window.
    fn growth(&mut self, cwnd: f64, fresh: f64, now_ms: u64) -> f64 {
        self.reno += 0.53 * MSS * fresh / cwnd;
        let seconds = (now_ms - self.cut_ms) as f64 / 1000.0;
        let until = (self.largest / MSS * 0.3 / 0.4).cbrt();
        let target = self.largest + 0.4 * (seconds - until).powi(3) * MSS;
        let growth = (target - cwnd).max(0.0) * fresh / cwnd;
        growth.max(self.reno - cwnd).min(fresh / 2.0)
    }
}

/// Returns the first of `pieces` that is still needed, and drops those before
/// it.
pub(super) fn first_unacked(
    pieces: &mut VecDeque<Piece>,
    outstanding: &BTreeMap<u64, u64>,
) -> Option<Piece> {
    while let Some(piece) = pieces.front() {
        if outstanding.contains_key(&piece.seq) {
            return Some(*piece);
        }
        pieces.pop_front();
    }
    None
}

impl Path {
    /// Returns a path whose subflow is established at `opens_ms` over this link.
    pub(super) fn new(opens_ms: u64, link: &Link) -> Self {
        Self {
            opens_ms,
            limits: Limits::NONE,
            quiet: (0, 0),
            resting: false,
            seen_ns: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            in_flight: 0,
            next_number: 0,
            lost: VecDeque::new(),
            repair: VecDeque::new(),
            repair_bytes: 0,
            holes: BTreeSet::new(),
            beyond: BTreeMap::new(),
            cwnd: 10.0 * MSS,
            srtt_ms: link.rtt_ms.max(1) as f64,
            send_buffer: (20.0 * TRUESIZE) as u64,
            slow_start: true,
            window_limited: false,
            pace_credit: 0.0,
            average_pace: 0.0,
            heard_ms: 0,
            timer_ms: opens_ms + 1000,
            backoff: 0,
            recovered_ms: 0,
            cubic: Cubic::default(),
            acked: 0,
            fresh: 0,
        }
    }

    /// Returns the bytes that the scheduler has given to the subflow and that
    /// are not sent.
    pub(super) fn unsent_bytes(&self) -> u64 {
        self.unsent_bytes
    }

    /// Returns the bytes that the socket holds, `sk_wmem_queued`.
    pub(super) fn memory(&self) -> u64 {
        self.unsent_bytes + self.in_flight + self.repair_bytes
    }

    /// Returns whether the subflow takes more data: its queue is not full, and
    /// its own send buffer (three windows and 64 KiB) is not either.
    pub(super) fn has_room(&self) -> bool {
        let lowat = match self.limits.lowat {
            0 => u64::MAX,
            lowat => u64::from(lowat),
        };
        self.unsent_bytes < lowat && self.memory() as f64 <= 3.0 * self.cwnd + 65_536.0
    }

    /// Takes a piece of data to send.
    pub(super) fn give(&mut self, piece: Piece) {
        self.unsent_bytes += piece.bytes;
        self.unsent.push_back(piece);
    }

    pub(super) fn srtt_us(&self) -> u64 {
        (self.srtt_ms * 1000.0) as u64
    }

    /// Returns whether the next callback is due: RTT_CB comes once per round
    /// trip, and no more than once per millisecond.
    pub(super) fn is_heard(&mut self, link: &Link, now_ms: u64) -> bool {
        let due = now_ms >= self.heard_ms + link.rtt_ms.max(1);
        if due {
            self.heard_ms = now_ms;
        }
        due
    }

    /// Returns the pacing rate: TCP paces at two windows per round trip while it
    /// starts and at 1.2 windows later, but not above the cap.
    pub(super) fn pace(&self) -> f64 {
        let windows = if self.slow_start { 2.0 } else { 1.2 };
        let own = windows * self.cwnd * 1000.0 / self.srtt_ms;
        if self.limits.cap == NO_CAP {
            own
        } else {
            own.min(f64::from(self.limits.cap))
        }
    }

    /// Returns how long the retransmission timer runs.
    fn rto_ms(&self) -> u64 {
        200 + 2 * self.srtt_ms as u64
    }

    /// Sends at the socket's pace, as far as its window allows, into the link's
    /// queue. `from` is a segment of no bytes that tells whose it is.
    pub(super) fn transmit(&mut self, from: Segment, link: &mut SharedLink, now_ms: u64) {
        // A pacing rate of 0 does not pace.
        let pace = if self.limits.cap == 0 {
            f64::INFINITY
        } else {
            self.pace()
        };
        self.pace_credit = (self.pace_credit + pace / 1000.0).min((pace / 100.0).max(MSS));
        while self
            .lost
            .front()
            .is_some_and(|(known_ms, _)| *known_ms <= now_ms)
        {
            if let Some((_, segment)) = self.lost.pop_front() {
                self.in_flight -= segment.bytes;
                self.repair_bytes += segment.bytes;
                self.repair.push_back(segment);
            }
        }
        while let Some(bytes) = self.next_bytes() {
            let room = self.cwnd - self.in_flight as f64;
            if room < 1.0 {
                self.window_limited = true;
                break;
            }
            if self.pace_credit < bytes.min(room as u64) as f64 {
                break;
            }
            let segment = Segment {
                sent_ms: now_ms,
                ..self.next_segment(from, room as u64)
            };
            self.pace_credit -= segment.bytes as f64;
            self.in_flight += segment.bytes;
            match link.enter(segment) {
                Fate::Queued => {}
                Fate::Repaired => self.cut(now_ms),
                Fate::Lost => self.lose(segment, now_ms),
            }
        }
    }

    /// Returns the size of the segment that is sent next, if there is one.
    fn next_bytes(&self) -> Option<u64> {
        let lost = self.repair.front().map(|segment| segment.bytes);
        let fresh = || self.unsent.front().map(|piece| piece.bytes.min(MSS as u64));
        lost.or_else(fresh)
    }

    /// Returns the next segment, one that was lost before a new one. A new one
    /// has no more than `room` bytes.
    fn next_segment(&mut self, from: Segment, room: u64) -> Segment {
        if let Some(segment) = self.repair.pop_front() {
            self.repair_bytes -= segment.bytes;
            return segment;
        }
        let mut segment = Segment {
            number: self.next_number,
            ..from
        };
        self.next_number += 1;
        if let Some(piece) = self.unsent.front_mut() {
            segment.bytes = piece.bytes.min(MSS as u64).min(room);
            piece.bytes -= segment.bytes;
            self.unsent_bytes -= segment.bytes;
            // Only the last part carries the piece's number: the piece is acked
            // as a whole.
            if piece.bytes == 0 {
                segment.completes = Some(piece.seq);
                self.unsent.pop_front();
            }
        }
        segment
    }

    /// Notes that a segment was lost. That is known a round trip later, but the
    /// window is cut now: delays (HyStart) tell of a full queue sooner than
    /// losses do.
    fn lose(&mut self, segment: Segment, now_ms: u64) {
        self.holes.insert(segment.number);
        let known_ms = now_ms + (self.srtt_ms as u64).max(1);
        self.lost.push_back((known_ms, segment));
        self.cut(now_ms);
    }

    /// Cuts the window, once per round trip at most.
    fn cut(&mut self, now_ms: u64) {
        if now_ms > self.recovered_ms {
            self.cubic.cut(self.cwnd, now_ms);
            self.cwnd = (self.cwnd * 0.7).max(2.0 * MSS);
            self.slow_start = false;
            self.recovered_ms = now_ms + self.srtt_ms as u64;
        }
    }

    /// Takes the ACK of a segment, and removes from `outstanding` what has
    /// arrived as a whole. A segment counts as acked once all segments before it
    /// have arrived. Returns whether the first bytes of this tick were acked.
    pub(super) fn hear(
        &mut self,
        segment: Segment,
        outstanding: &mut BTreeMap<u64, u64>,
        now_ms: u64,
    ) -> bool {
        if self.fresh == 0 {
            let sample = (now_ms - segment.sent_ms) as f64;
            self.srtt_ms += (sample - self.srtt_ms) / 8.0;
        }
        self.in_flight -= segment.bytes;
        self.holes.remove(&segment.number);
        self.beyond.insert(segment.number, segment);
        let before = self.fresh;
        while let Some(entry) = self.beyond.first_entry()
            && self.holes.first().is_none_or(|hole| entry.key() < hole)
        {
            let segment = entry.remove();
            self.fresh += segment.bytes;
            if let Some(seq) = segment.completes {
                outstanding.remove(&seq);
            }
        }
        before == 0 && self.fresh != 0
    }

    /// Opens the window by what was acked in this tick. Returns these bytes.
    pub(super) fn grow(&mut self, now_ms: u64) -> u64 {
        let fresh = std::mem::take(&mut self.fresh);
        self.acked += fresh;
        self.backoff = 0;
        let wanted = (2.0 * TRUESIZE * self.cwnd / MSS) as u64;
        self.send_buffer = self.send_buffer.max(wanted.min(MAX_SEND_BUFFER));
        self.timer_ms = now_ms + self.rto_ms();
        if self.window_limited {
            self.window_limited = self.slow_start;
            let growth = if self.slow_start {
                fresh as f64
            } else {
                self.cubic.growth(self.cwnd, fresh as f64, now_ms)
            };
            self.cwnd += growth;
        }
        fresh
    }

    /// Returns how long the retransmission timer still runs, if it does.
    pub(super) fn timer_in_ms(&self, now_ms: u64) -> Option<u64> {
        (self.in_flight != 0).then(|| self.timer_ms.saturating_sub(now_ms).max(1))
    }

    /// Returns whether the retransmission timer fires.
    pub(super) fn times_out(&mut self, now_ms: u64) -> bool {
        if self.in_flight == 0 {
            self.timer_ms = now_ms + self.rto_ms();
            return false;
        }
        if now_ms < self.timer_ms {
            return false;
        }
        self.backoff += 1;
        self.timer_ms = now_ms + (self.rto_ms() << self.backoff.min(6));
        self.cwnd = 2.0 * MSS;
        true
    }
}
