//! Copies, and the peers that receive them. Only under the redundant policy.

use std::collections::BTreeSet;

use mptcp_common::abi::redundant::{CopyStats, not_sent, outcome, refused};

use super::{Families, Snapshot};
use crate::state::paths::PathTable;

/// The figures of the redundant policy for one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedundantRows {
    /// Links, by state.
    pub peers: [(&'static str, u64); 4],
    /// Messages of proven peers whose link found no room, by reason.
    pub crowded: [(&'static str, u64); 2],
    /// Hellos and answers, by result.
    pub hellos: [(&'static str, u64); 7],
    /// The paths that copies can use, or have used.
    pub paths: Vec<CopyRow>,
}

/// One path's copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyRow {
    /// The path's label, as in [`super::PathRow::label`].
    pub label: String,
    /// Totals.
    pub stats: CopyStats,
}

impl CopyRow {
    /// Returns rows for the paths in `attached`, and for those that have totals
    /// and still exist. `stats` is by index. Paths with the same label share a
    /// row.
    pub fn collect(table: &PathTable, stats: &[CopyStats], attached: &BTreeSet<u32>) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for (index, stats) in (0..).zip(stats) {
            let used = *stats != CopyStats::default() && table.is_present(index);
            if !(used || attached.contains(&index)) {
                continue;
            }
            let label = table.label(index);
            match rows.iter_mut().find(|row| row.label == label) {
                Some(row) => row.stats = row.stats.plus(stats),
                None => rows.push(Self {
                    label: label.to_owned(),
                    stats: *stats,
                }),
            }
        }
        rows
    }
}

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
    let Some(rows) = &snapshot.redundant else {
        return;
    };
    let mut peers = families.gauge(
        "mptcp_redundant_peers",
        "Links (two agents, an address of each), by whether the peer is proven.",
    );
    for (state, count) in rows.peers {
        peers.add_count(&[("state", state)], count);
    }
    for (name, help, total) in TOTALS {
        let mut family = families.counter(name, help);
        for row in &rows.paths {
            family.add_count(&[("path", &row.label)], total(&row.stats));
        }
    }
    for (name, help, label, values, counts) in SPLITS {
        let mut family = families.counter(name, help);
        for row in &rows.paths {
            for (value, &count) in values.iter().zip(counts(&row.stats)) {
                family.add_count(&[("path", &row.label), (label, value)], count);
            }
        }
    }
    let mut crowded = families.counter(
        "mptcp_redundant_links_refused_total",
        "Messages of proven peers for whose link there was no room, and why.",
    );
    for (reason, count) in rows.crowded {
        crowded.add_count(&[("reason", reason)], count);
    }
    let mut hellos = families.counter(
        "mptcp_redundant_hellos_total",
        "Messages of peer discovery, by what became of them.",
    );
    for (result, count) in rows.hellos {
        hellos.add_count(&[("result", result)], count);
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::api::metrics::render;
    use crate::policy::Weights;

    fn table(devices: &[(u32, &str)]) -> PathTable {
        let mut table = PathTable::new(&Weights::EQUAL);
        let named = devices.iter();
        table.set_devices(
            named
                .map(|&(index, name)| (index, name.to_owned()))
                .collect(),
        );
        table
    }

    /// Returns rows in which every series has a value of its own.
    pub fn rows() -> RedundantRows {
        let eth0 = CopyStats {
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
        };
        let attached = BTreeSet::from([1]);
        RedundantRows {
            peers: [("proven", 1), ("silent", 2), ("asking", 3), ("refused", 4)],
            crowded: [("quota", 28), ("full", 29)],
            hellos: [
                ("sent", 21),
                ("answered", 22),
                ("verified", 23),
                ("refused", 24),
                ("malformed", 25),
                ("unknown", 26),
                ("dropped", 27),
            ],
            paths: CopyRow::collect(
                &table(&[(2, "eth0")]),
                &[CopyStats::default(), eth0],
                &attached,
            ),
        }
    }

    #[test]
    fn names_and_values() {
        let snapshot = Snapshot {
            redundant: Some(rows()),
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
        let text = render(&Snapshot::default()).unwrap();
        assert!(!text.contains("mptcp_redundant"), "{text}");
    }

    #[test]
    fn paths_with_programs_or_with_copies_that_are_there() {
        let mut stats = vec![CopyStats::default(); 5];
        stats[2].sent = 5;
        stats[3].sent = 7;
        let mut table = table(&[(1, "eth0"), (2, "eth1"), (3, "eth2"), (4, "eth3")]);
        let attached = BTreeSet::from([1]);
        let labels = |table: &PathTable| -> Vec<String> {
            let rows = CopyRow::collect(table, &stats, &attached);
            rows.into_iter().map(|row| row.label).collect()
        };
        assert_eq!(labels(&table), ["eth0", "eth1", "eth2"]);
        table.set_devices([(1, "eth0".to_owned()), (2, "eth1".to_owned())].into());
        assert_eq!(labels(&table), ["eth0", "eth1"]);
    }
}
