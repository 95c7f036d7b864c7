//! Subflows of each path, and the traffic they carried. The totals stay when
//! subflows close.

use mptcp_common::abi::{PathStats, RTT_BOUNDS_US, close_reason, reset, subflow_kind};

use super::Families;
use crate::state::snapshot::Snapshot;

/// A counter: name, help, and the function that reads its value.
type Total = (&'static str, &'static str, fn(&PathStats) -> u64);

const TOTALS: [Total; 6] = [
    (
        "mptcp_path_sent_bytes_total",
        "Payload bytes sent, retransmissions included.",
        |stats| stats.sent_bytes,
    ),
    (
        "mptcp_path_acked_bytes_total",
        "Payload bytes sent and acknowledged.",
        |stats| stats.acked_bytes,
    ),
    (
        "mptcp_path_received_bytes_total",
        "Payload bytes received.",
        |stats| stats.received_bytes,
    ),
    (
        "mptcp_path_sent_segments_total",
        "Segments with payload sent, retransmissions included.",
        |stats| stats.sent_segments,
    ),
    (
        "mptcp_path_retransmitted_segments_total",
        "Segments retransmitted.",
        |stats| stats.retransmitted_segments,
    ),
    (
        "mptcp_path_timeouts_total",
        "Retransmission timeouts.",
        |stats| stats.timeouts,
    ),
];

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let mut up = families.gauge(
        "mptcp_path_up",
        "0 if the path is known to reach nobody, else 1: its device is absent or has no carrier, \
         what is sent over it is not answered, or a peer agent is silent there alone.",
    );
    for row in snapshot.traffic() {
        up.add(
            &[("path", &row.label)],
            f64::from(u8::from(row.down.is_none())),
        );
    }
    subflows(snapshot, families);
    for (name, help, total) in TOTALS {
        let mut family = families.counter(name, help);
        for row in snapshot.traffic() {
            family.add_count(&[("path", &row.label)], total(&row.stats));
        }
    }
    let mut rtt = families.histogram(
        "mptcp_path_rtt_seconds",
        "Round-trip times that TCP measured, one per flight.",
    );
    for row in snapshot.traffic() {
        let bounds = RTT_BOUNDS_US.iter().map(|&bound| f64::from(bound) / 1e6);
        let sum = row.stats.rtt_sum_us as f64 / 1e6;
        rtt.add_histogram(&[("path", &row.label)], bounds, &row.stats.rtt, sum);
    }
}

fn subflows(snapshot: &Snapshot, families: &mut Families) {
    let mut live = families.gauge("mptcp_subflows", "Subflows that are open.");
    for row in snapshot.traffic() {
        live.add_count(&[("path", &row.label)], row.stats.live);
    }
    let mut opened = families.counter(
        "mptcp_subflows_opened_total",
        "Subflows opened: a connection's initial one, or one that joined.",
    );
    for row in snapshot.traffic() {
        for (kind, name) in [
            (subflow_kind::INITIAL, "initial"),
            (subflow_kind::JOIN, "join"),
        ] {
            let count = row.stats.opened[usize::from(kind)];
            opened.add_count(&[("path", &row.label), ("kind", name)], count);
        }
    }
    let mut closed = families.counter("mptcp_subflows_closed_total", "Subflows closed, and why.");
    for row in snapshot.traffic() {
        for (reason, &count) in close_reason::NAMES.iter().zip(&row.stats.closed) {
            closed.add_count(&[("path", &row.label), ("reason", reason)], count);
        }
    }
    let mut resets = families.counter(
        "mptcp_subflows_reset_early_total",
        "Subflows that either end reset within five seconds of their join, and the reason that \
         the reset gave.",
    );
    for row in snapshot.traffic() {
        for (reason, &count) in reset::NAMES.iter().zip(&row.stats.reset_early) {
            resets.add_count(&[("path", &row.label), ("reason", reason)], count);
        }
    }
}
