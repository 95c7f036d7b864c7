#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use mptcp_common::abi::{MAX_PATHS, PathStats, Totals};

use super::*;
use crate::host::skip::skip;
use crate::policy::Weights;
use crate::state::paths::{Devices, PathTable};

fn table(weights: &[&str], devices: &[(u32, &str)]) -> PathTable {
    let given: Vec<_> = weights.iter().map(|text| text.parse().unwrap()).collect();
    let mut table = PathTable::new(&Weights::new(&given).unwrap());
    table.set_devices(names(devices));
    table
}

fn names(devices: &[(u32, &str)]) -> Devices {
    devices
        .iter()
        .map(|&(ifindex, name)| (ifindex, name.to_owned()))
        .collect()
}

fn carried(acked_bytes: u64, live: u64) -> PathStats {
    PathStats {
        acked_bytes,
        live,
        opened: [1, 2],
        ..PathStats::default()
    }
}

/// Returns a snapshot in which every family has a series.
fn full() -> Snapshot {
    let mut eth0 = carried(1 << 40, 3);
    eth0.closed[1] = 4;
    eth0.decisions = 9;
    eth0.candidates = [5, 6, 7, 8, 9];
    eth0.rtt[0] = 2;
    eth0.rtt[3] = 1;
    eth0.rtt[15] = 1;
    eth0.rtt_sum_us = 7_500_000;
    let mut stats = vec![PathStats::default(); MAX_PATHS];
    stats[1] = eth0;
    stats[2] = carried(7, 0);
    let table = table(&["eth0=3", "10.0.0.0/24=1"], &[(1, "lo"), (2, "eth0")]);
    let mut shares = vec![0.0; MAX_PATHS];
    shares[1] = 1.0;
    Snapshot {
        policy: "weighted",
        backend: "pacing",
        weighted: true,
        outlived: true,
        sees_all_cgroups: true,
        restored: vec![("pins", 1), ("programs", 0)],
        unmatched_selectors: 2,
        totals: Totals {
            opened: [5, 6],
            connections: 7,
            events: [5, 6, 0, 0, 0, 0, 0, 0, 2],
            events_lost: 8,
            ..Totals::default()
        },
        paths: PathRow::collect(&table, &stats, Some(&shares)),
        redundant: Some(redundant::tests::rows()),
        kernel_events: vec![("blackhole", 3)],
        programs: vec![
            ProgramRow {
                program: "sockops",
                attached: true,
                runs: 12,
                run_time: Some(Duration::from_millis(1500)),
            },
            ProgramRow {
                program: "iter_tcp",
                attached: false,
                runs: 0,
                run_time: None,
            },
        ],
        rearmed: 6,
        reclaimed: 4,
        scrape_duration: Duration::from_millis(2),
    }
}

#[test]
fn names_and_values() {
    let text = render(&full()).unwrap();
    for line in [
        "mptcp_connections 7",
        "mptcp_connections_opened_total{side=\"client\"} 5",
        "mptcp_connections_opened_total{side=\"server\"} 6",
        "mptcp_connections_closed_total 0",
        "mptcp_subflows{path=\"eth0\"} 3",
        "mptcp_subflows_opened_total{path=\"eth0\",kind=\"initial\"} 1",
        "mptcp_subflows_opened_total{path=\"eth0\",kind=\"join\"} 2",
        "mptcp_subflows_closed_total{path=\"eth0\",reason=\"reset\"} 4",
        "mptcp_path_sent_bytes_total{path=\"eth0\"} 0",
        "mptcp_path_acked_bytes_total{path=\"eth0\"} 1099511627776",
        "mptcp_path_acked_bytes_total{path=\"10.0.0.0/24\"} 7",
        "mptcp_path_received_bytes_total{path=\"eth0\"} 0",
        "mptcp_path_retransmitted_segments_total{path=\"eth0\"} 0",
        "mptcp_path_timeouts_total{path=\"eth0\"} 0",
        "mptcp_path_rtt_seconds_bucket{path=\"eth0\",le=\"0.0001\"} 2",
        "mptcp_path_rtt_seconds_bucket{path=\"eth0\",le=\"0.001\"} 3",
        "mptcp_path_rtt_seconds_bucket{path=\"eth0\",le=\"5\"} 3",
        "mptcp_path_rtt_seconds_bucket{path=\"eth0\",le=\"+Inf\"} 4",
        "mptcp_path_rtt_seconds_sum{path=\"eth0\"} 7.5",
        "mptcp_path_rtt_seconds_count{path=\"eth0\"} 4",
        "mptcp_path_weight_ratio{path=\"eth0\"} 0.75",
        "mptcp_path_weight_ratio{path=\"10.0.0.0/24\"} 0.25",
        "mptcp_path_share_ratio{path=\"eth0\"} 1",
        "mptcp_path_share_ratio{path=\"10.0.0.0/24\"} 0",
        "mptcp_scheduler_decisions_total{path=\"eth0\"} 9",
        "mptcp_scheduler_blocked_total{path=\"eth0\"} 0",
        "mptcp_scheduler_candidates_total{path=\"eth0\",state=\"standby\"} 9",
        "mptcp_policy_info{policy=\"weighted\",backend=\"pacing\"} 1",
        "mptcp_policy_unmatched_selectors 2",
        "mptcp_kernel_events_total{event=\"blackhole\"} 3",
        "mptcp_agent_program_attached{program=\"sockops\"} 1",
        "mptcp_agent_program_attached{program=\"iter_tcp\"} 0",
        "mptcp_agent_program_runs_total{program=\"sockops\"} 12",
        "mptcp_agent_sees_all_cgroups 1",
        "mptcp_agent_rearmed_subflows_total 6",
        "mptcp_agent_reclaimed_subflows_total 4",
        "mptcp_agent_program_run_seconds_total{program=\"sockops\"} 1.5",
        "mptcp_agent_events_total{event=\"joined\"} 6",
        "mptcp_agent_events_total{event=\"path_up\"} 2",
        "mptcp_agent_outlived 1",
        "mptcp_agent_restored_total{what=\"pins\"} 1",
        "mptcp_agent_restored_total{what=\"programs\"} 0",
        "mptcp_agent_events_lost_total 8",
        "mptcp_agent_map_full_total{map=\"connections\"} 0",
        "mptcp_agent_map_full_total{map=\"subflows\"} 0",
        "mptcp_agent_unsteered_subflows_total 0",
        "mptcp_agent_left_alone_total 0",
        "mptcp_agent_setsockopt_failures_total 0",
        "mptcp_agent_scrape_duration_seconds 0.002",
    ] {
        assert!(
            text.lines().any(|got| got == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.contains("mptcp_agent_build_info{version="));
    assert!(
        !text.contains("path=\"lo\""),
        "lo never had a subflow\n{text}"
    );
}

#[test]
fn the_documentation_lists_each_metric_with_its_type() {
    let documented: BTreeSet<(&str, &str)> = include_str!("../../../../docs/metrics.md")
        .lines()
        .filter_map(|line| {
            // A row of a table: | `name` | type | ...
            let mut cells = line.strip_prefix("| `mptcp_")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?;
            let kind = cells.next()?;
            // Another table says what survives a restart.
            ["counter", "gauge", "histogram"]
                .contains(&kind)
                .then_some((name, kind))
        })
        .collect();
    let text = render(&full()).unwrap();
    let served: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE mptcp_")?.split_once(' '))
        // Has a section of its own, whose table `mib` checks.
        .filter(|(name, _)| *name != "kernel_events_total")
        .collect();
    assert_eq!(documented, served);
}

#[test]
fn promtool_finds_nothing_to_say() {
    let mut promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(promtool) => promtool,
        Err(error) => {
            skip(&format!(
                "there is no promtool (Debian package prometheus): {error}"
            ));
            return;
        }
    };
    let text = render(&full()).unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.status.success() && said.is_empty(),
        "promtool says:\n{said}\nabout\n{text}"
    );
}

#[test]
fn without_traffic_and_policy_there_are_no_ratios() {
    let table = table(&[], &[(1, "lo")]);
    let stats = vec![PathStats::default(); MAX_PATHS];
    let paths = PathRow::collect(&table, &stats, None);
    assert_eq!(paths, []);
    let snapshot = Snapshot {
        policy: "default",
        backend: "none",
        paths,
        ..Snapshot::default()
    };
    let text = render(&snapshot).unwrap();
    assert!(
        !text.contains("_ratio") && !text.contains("mptcp_path_"),
        "{text}"
    );
    assert!(text.contains("mptcp_policy_info{policy=\"default\",backend=\"none\"} 1"));
}

#[test]
fn an_unlisted_path_counts_while_it_is_in_use() {
    let mut stats = vec![PathStats::default(); MAX_PATHS];
    stats[2] = carried(1, 1);
    stats[3] = carried(1, 0);
    let table = table(&["eth0=3"], &[(1, "eth1"), (2, "eth2")]);
    let paths = PathRow::collect(&table, &stats, None);
    let labels: Vec<&str> = paths.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["eth0", "eth1", "eth2"]);
    let text = render(&Snapshot {
        weighted: true,
        paths,
        ..Snapshot::default()
    })
    .unwrap();
    assert!(
        text.contains("mptcp_path_weight_ratio{path=\"eth0\"} 0.75"),
        "{text}"
    );
    assert!(
        text.contains("mptcp_path_weight_ratio{path=\"eth1\"} 0.25"),
        "{text}"
    );
    assert!(
        !text.contains("mptcp_path_weight_ratio{path=\"eth2\"}"),
        "{text}"
    );
}

#[test]
fn a_vanished_device_has_no_series_until_it_is_back() {
    let mut stats = vec![PathStats::default(); MAX_PATHS];
    stats[1] = carried(5, 0);
    let mut table = table(&[], &[(3, "wwan0")]);
    let rows = |table: &PathTable, stats: &[PathStats]| PathRow::collect(table, stats, None).len();
    assert_eq!(rows(&table, &stats), 1);
    table.set_devices(names(&[]));
    assert_eq!(rows(&table, &stats), 0);
    // The path still counts while its last subflow is open.
    stats[1].live = 1;
    assert_eq!(rows(&table, &stats), 1);
    stats[1].live = 0;
    table.set_devices(names(&[(4, "wwan0")]));
    assert_eq!(rows(&table, &stats), 1);
}

#[test]
fn what_shares_a_label_is_summed() {
    let mut stats = vec![PathStats::default(); MAX_PATHS];
    stats[0] = carried(5, 1);
    stats[1] = carried(7, 2);
    // This device has the same name as the label of index 0.
    let table = table(&[], &[(3, "unknown")]);
    let mut shares = vec![0.0; MAX_PATHS];
    (shares[0], shares[1]) = (0.25, 0.75);
    let rows = PathRow::collect(&table, &stats, Some(&shares));
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].stats.acked_bytes, rows[0].stats.live), (12, 3));
    assert_eq!((rows[0].stats.opened, rows[0].share), ([2, 4], Some(1.0)));
}
