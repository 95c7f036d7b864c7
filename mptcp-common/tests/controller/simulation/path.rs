//! One path of a simulation: its link, its queues and its congestion control.

use std::collections::{BTreeMap, VecDeque};

use mptcp_common::controller::{Limits, NO_CAP};

use super::Link;

/// A piece of data on its way over a path.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) bytes: u64,
}

pub(super) struct Path {
    pub(super) link: Link,
    pub(super) limits: Limits,
    /// `Subflow::quiet_ns`, `quiet_bytes`.
    pub(super) quiet: (u64, u64),
    /// `Subflow::resting`, `seen_ns`.
    pub(super) resting: bool,
    pub(super) seen_ns: u64,
    /// Given by the scheduler, and not sent yet.
    pub(super) unsent: VecDeque<Piece>,
    /// First in the link's queue, then on the wire until the time when the ACK
    /// is back.
    pub(super) queued: VecDeque<Piece>,
    pub(super) flying: VecDeque<(u64, Piece)>,
    pub(super) cwnd: f64,
    /// As in tcp_sndbuf_expand: room for two windows, and it never shrinks.
    pub(super) send_buffer: u64,
    pub(super) slow_start: bool,
    /// Whether the window, not the pace, held it back lately.
    pub(super) window_limited: bool,
    pub(super) pace_credit: f64,
    pub(super) link_credit: f64,
    pub(super) average_pace: f64,
    pub(super) heard_ms: u64,
    pub(super) rto_ms: u64,
    pub(super) backoff: u32,
    pub(super) recovered_ms: u64,
    pub(super) acked: u64,
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

pub(super) fn bytes(pieces: &VecDeque<Piece>) -> u64 {
    pieces.iter().map(|piece| piece.bytes).sum()
}

impl Path {
    pub(super) fn in_flight(&self) -> u64 {
        bytes(&self.queued)
            + self
                .flying
                .iter()
                .map(|(_, piece)| piece.bytes)
                .sum::<u64>()
    }

    pub(super) fn pace(&self) -> f64 {
        // TCP paces at two windows per round trip, but not above the cap.
        let own = 2.0 * self.cwnd * 1000.0 / self.link.rtt_ms.max(1) as f64;
        if self.limits.cap == NO_CAP {
            own
        } else {
            own.min(f64::from(self.limits.cap))
        }
    }
}
