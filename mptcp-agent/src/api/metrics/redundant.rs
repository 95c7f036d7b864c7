//! Copies, and the peers that receive them. Only under the redundant policy.

use mptcp_common::abi::redundant::{CopyStats, not_sent, outcome, refused};

use super::Families;
use crate::state::snapshot::{Hello, NoRoom, PeerState, Snapshot};

/// A counter: name, help, and the function that reads its value.
type Total = (&'static str, &'static str, fn(&CopyStats) -> u64);

const TOTALS: [Total; 7] = [
    (
        "mptcp_redundant_copies_sent_total",
        "Copies sent over the path.",
        |stats| stats.sent,
    ),
    (
        "mptcp_redundant_copies_sent_bytes_total",
        "Bytes of the copies sent over the path, outer headers included.",
        |stats| stats.sent_bytes,
    ),
    (
        "mptcp_redundant_copies_shared_device_total",
        "Copies for the path that shared a device with their original, at either end.",
        |stats| stats.shared_device,
    ),
    (
        "mptcp_redundant_rescued_bytes_total",
        "Payload bytes that a copy over the path delivered before their original.",
        |stats| stats.rescued_bytes,
    ),
    (
        "mptcp_redundant_late_originals_total",
        "Originals that arrived over the path after their copy, and were dropped.",
        |stats| stats.late_originals,
    ),
    (
        "mptcp_redundant_wait_rounds_total",
        "Rounds that segments from the path have waited for their other arrival.",
        |stats| stats.wait_rounds,
    ),
    (
        "mptcp_redundant_waits_in_vain_total",
        "Waits of segments from the path that ended without their other arrival.",
        |stats| stats.waits_in_vain,
    ),
];

/// A counter with one more label: name, help, label, the label's values, and
/// the function that reads the counts.
type Split = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    fn(&CopyStats) -> &[u64],
);

const SPLITS: [Split; 3] = [
    (
        "mptcp_redundant_copies_received_total",
        "Copies that arrived over the path, by what became of them.",
        "outcome",
        &outcome::NAMES,
        |stats| &stats.received,
    ),
    (
        "mptcp_redundant_copies_dropped_total",
        "Segments that got no copy over the path, and why.",
        "reason",
        &not_sent::NAMES,
        |stats| &stats.not_sent,
    ),
    (
        "mptcp_redundant_refused_total",
        "Datagrams to the redundant port that were refused, and why.",
        "reason",
        &refused::NAMES,
        |stats| &stats.refused,
    ),
];

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let Some(peers) = &snapshot.peers else {
        return;
    };
    let mut states = families.gauge(
        "mptcp_redundant_peers",
        "Channels (two agents, an address of each), by whether the peer is proven.",
    );
    for (&state, &count) in &peers.states {
        states.add_count(&[("state", state_name(state))], count);
    }
    let copies = || {
        let paths = snapshot.paths.iter();
        paths.filter_map(|path| Some((path.label.as_str(), path.copies.as_ref()?)))
    };
    for (name, help, total) in TOTALS {
        let mut family = families.counter(name, help);
        for (path, stats) in copies() {
            family.add_count(&[("path", path)], total(stats));
        }
    }
    for (name, help, label, values, counts) in SPLITS {
        let mut family = families.counter(name, help);
        for (path, stats) in copies() {
            for (value, &count) in values.iter().zip(counts(stats)) {
                family.add_count(&[("path", path), (label, value)], count);
            }
        }
    }
    let mut crowded = families.counter(
        "mptcp_redundant_links_refused_total",
        "Messages of proven peers for whose channel there was no room, and why.",
    );
    for (&reason, &count) in &peers.no_room {
        crowded.add_count(&[("reason", reason_name(reason))], count);
    }
    let mut hellos = families.counter(
        "mptcp_redundant_hellos_total",
        "Messages of peer discovery, by what became of them.",
    );
    for (&result, &count) in &peers.hellos {
        hellos.add_count(&[("result", result_name(result))], count);
    }
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Proven => "proven",
        PeerState::Silent => "silent",
        PeerState::Asking => "asking",
        PeerState::Refused => "refused",
    }
}

fn reason_name(reason: NoRoom) -> &'static str {
    match reason {
        NoRoom::Quota => "quota",
        NoRoom::Full => "full",
    }
}

fn result_name(result: Hello) -> &'static str {
    match result {
        Hello::Sent => "sent",
        Hello::Answered => "answered",
        Hello::Verified => "verified",
        Hello::Refused => "refused",
        Hello::Malformed => "malformed",
        Hello::Unknown => "unknown",
        Hello::Dropped => "dropped",
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::api::metrics::render;
    use crate::state::snapshot::{Path, Peers};

    /// Returns copies in which every series has a value of its own.
    pub fn copies() -> CopyStats {
        CopyStats {
            sent: 1,
            sent_bytes: 2,
            received: [3, 4, 5],
            rescued_bytes: 6,
            late_originals: 7,
            wait_rounds: 31,
            waits_in_vain: 32,
            not_sent: [8, 9, 10, 11, 12, 13],
            refused: [14, 15, 16, 17, 18, 19],
            shared_device: 20,
        }
    }

    /// Returns peers in which every series has a value of its own.
    pub fn peers() -> Peers {
        Peers {
            states: [
                (PeerState::Proven, 1),
                (PeerState::Silent, 2),
                (PeerState::Asking, 3),
                (PeerState::Refused, 4),
            ]
            .into(),
            no_room: [(NoRoom::Quota, 28), (NoRoom::Full, 29)].into(),
            hellos: [
                (Hello::Sent, 21),
                (Hello::Answered, 22),
                (Hello::Verified, 23),
                (Hello::Refused, 24),
                (Hello::Malformed, 25),
                (Hello::Unknown, 26),
                (Hello::Dropped, 27),
            ]
            .into(),
        }
    }

    #[test]
    fn names_and_values() {
        let eth0 = Path {
            label: "eth0".to_owned(),
            copies: Some(copies()),
            ..Path::default()
        };
        let snapshot = Snapshot {
            peers: Some(peers()),
            paths: vec![eth0],
            ..Snapshot::default()
        };
        let text = render(&snapshot).unwrap();
        for line in [
            "mptcp_redundant_peers{state=\"proven\"} 1",
            "mptcp_redundant_peers{state=\"silent\"} 2",
            "mptcp_redundant_peers{state=\"asking\"} 3",
            "mptcp_redundant_peers{state=\"refused\"} 4",
            "mptcp_redundant_copies_sent_total{path=\"eth0\"} 1",
            "mptcp_redundant_copies_sent_bytes_total{path=\"eth0\"} 2",
            "mptcp_redundant_copies_received_total{path=\"eth0\",outcome=\"first\"} 3",
            "mptcp_redundant_copies_received_total{path=\"eth0\",outcome=\"duplicate\"} 4",
            "mptcp_redundant_copies_received_total{path=\"eth0\",outcome=\"refused\"} 5",
            "mptcp_redundant_rescued_bytes_total{path=\"eth0\"} 6",
            "mptcp_redundant_late_originals_total{path=\"eth0\"} 7",
            "mptcp_redundant_wait_rounds_total{path=\"eth0\"} 31",
            "mptcp_redundant_waits_in_vain_total{path=\"eth0\"} 32",
            "mptcp_redundant_copies_dropped_total{path=\"eth0\",reason=\"busy\"} 8",
            "mptcp_redundant_copies_dropped_total{path=\"eth0\",reason=\"budget\"} 9",
            "mptcp_redundant_copies_dropped_total{path=\"eth0\",reason=\"mtu\"} 10",
            "mptcp_redundant_copies_dropped_total{path=\"eth0\",reason=\"no-peer\"} 11",
            "mptcp_redundant_copies_dropped_total{path=\"eth0\",reason=\"no-timestamps\"} 12",
            "mptcp_redundant_copies_dropped_total{path=\"eth0\",reason=\"kernel\"} 13",
            "mptcp_redundant_refused_total{path=\"eth0\",reason=\"unproven\"} 14",
            "mptcp_redundant_refused_total{path=\"eth0\",reason=\"malformed\"} 15",
            "mptcp_redundant_refused_total{path=\"eth0\",reason=\"fragment\"} 16",
            "mptcp_redundant_refused_total{path=\"eth0\",reason=\"not-tcp\"} 17",
            "mptcp_redundant_refused_total{path=\"eth0\",reason=\"foreign\"} 18",
            "mptcp_redundant_refused_total{path=\"eth0\",reason=\"kernel\"} 19",
            "mptcp_redundant_copies_shared_device_total{path=\"eth0\"} 20",
            "mptcp_redundant_hellos_total{result=\"sent\"} 21",
            "mptcp_redundant_hellos_total{result=\"answered\"} 22",
            "mptcp_redundant_hellos_total{result=\"verified\"} 23",
            "mptcp_redundant_hellos_total{result=\"refused\"} 24",
            "mptcp_redundant_hellos_total{result=\"malformed\"} 25",
            "mptcp_redundant_hellos_total{result=\"unknown\"} 26",
            "mptcp_redundant_hellos_total{result=\"dropped\"} 27",
            "mptcp_redundant_links_refused_total{reason=\"quota\"} 28",
            "mptcp_redundant_links_refused_total{reason=\"full\"} 29",
        ] {
            assert!(
                text.lines().any(|got| got == line),
                "{line} is not in\n{text}"
            );
        }
        // A path that only copies use has no other series.
        assert!(!text.contains("mptcp_path_"), "{text}");
        let text = render(&Snapshot::default()).unwrap();
        assert!(!text.contains("mptcp_redundant"), "{text}");
    }
}
