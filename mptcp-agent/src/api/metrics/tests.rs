#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use mptcp_common::abi::rule::RuleStats;
use mptcp_common::abi::{PathStats, Totals};

use super::*;
use crate::host::skip::skip;
use crate::policy::{
    AnyKind, Bounds, Policy, Span, Thin, Weighted, WeightedMode, WeightedScope, Weights,
};
use crate::state::accounts::Standing;
use crate::state::fitness::{self, Fitness};
use crate::state::snapshot::{
    InForce, Path, Peering, Program, Quotas, Restored, Rules, Saving, Streams,
};

fn carried(acked_bytes: u64, live: u64) -> PathStats {
    PathStats {
        acked_bytes,
        live,
        opened: [1, 2],
        ..PathStats::default()
    }
}

/// Returns a path that counts.
fn path(label: &str, weight: u16, stats: PathStats) -> Path {
    Path {
        label: label.to_owned(),
        counts: true,
        weight,
        present_weight: weight.into(),
        stats,
        ..Path::default()
    }
}

fn weighted() -> InForce {
    InForce {
        policy: AnyKind::Weighted(Weighted {
            mode: WeightedMode::Strict,
            scope: WeightedScope::Host,
            thin: Thin::Free,
            weights: Weights::EQUAL,
            bounds: Bounds::NONE,
        })
        .into(),
        then: None,
    }
}

fn overflow() -> InForce {
    let given = serde_json::json!({"name": "overflow", "prefer": ["eth0", "10.0.0.0/24"]});
    InForce {
        policy: Policy::new(serde_json::from_value(given).unwrap()).unwrap(),
        then: None,
    }
}

/// Returns a snapshot in which every family has a series.
fn full() -> Snapshot {
    let mut eth0 = carried(1 << 40, 3);
    eth0.closed[1] = 4;
    eth0.reset_early[1] = 2;
    eth0.reset_early[7] = 1;
    eth0.decisions = 9;
    eth0.candidates = [5, 6, 7, 8, 9];
    eth0.rtt[0] = 2;
    eth0.rtt[3] = 1;
    eth0.rtt[15] = 1;
    eth0.rtt_sum_us = 7_500_000;
    let eth0 = Path {
        share: Some(1.0),
        limit: Some(2_500_000),
        listed: true,
        copies: Some(redundant::tests::copies()),
        fitness: Some(Fitness {
            standing: fitness::Standing::LeftOut,
            count: [2, 1],
            ..Fitness::default()
        }),
        ..path("eth0", 3, eth0)
    };
    let prefix = Path {
        share: Some(0.0),
        listed: true,
        ..path("10.0.0.0/24", 1, carried(7, 0))
    };
    Snapshot {
        policy: weighted(),
        streams: Streams {
            open: 2,
            dropped: 1,
        },
        sees_all_cgroups: true,
        restored: Restored {
            pins: 1,
            programs: 0,
        },
        rules: Rules {
            counted: vec![RuleStats {
                live: 4,
                ..RuleStats::default()
            }],
            ..Rules::default()
        },
        unmatched_selectors: 2,
        totals: Totals {
            opened: [5, 6],
            connections: 7,
            events: [5, 6, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
            events_lost: 8,
            ..Totals::default()
        },
        paths: vec![eth0, prefix],
        quotas: Quotas {
            standings: vec![Standing {
                quota: "eth0=50GB/month,count:connections".parse().unwrap(),
                used: 50_000_000_001,
                span: Span::default(),
            }],
            saving: Saving {
                saved: true,
                set_aside: 2,
                ..Saving::default()
            },
        },
        peers: Some(redundant::tests::peers()),
        peering: Some(Peering::default()),
        kernel_events: vec![("blackhole", 3)],
        programs: vec![
            Program {
                name: "sockops",
                runs: 12,
                run_time: Some(Duration::from_millis(1500)),
                ..Program::default()
            },
            Program {
                name: "iter_tcp",
                error: Some("no iterators".to_owned()),
                ..Program::default()
            },
        ],
        rearmed: 6,
        reclaimed: 4,
        took: Duration::from_millis(2),
        ..Snapshot::default()
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
        "mptcp_subflows_reset_early_total{path=\"eth0\",reason=\"mptcp-specific-error\"} 2",
        "mptcp_subflows_reset_early_total{path=\"eth0\",reason=\"none\"} 1",
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
        "mptcp_path_sent_segments_total{path=\"eth0\"} 0",
        "mptcp_path_left_out{path=\"eth0\"} 1",
        "mptcp_path_left_out_total{path=\"eth0\",reason=\"loss\"} 2",
        "mptcp_path_left_out_total{path=\"eth0\",reason=\"rtt\"} 1",
        "mptcp_path_limit_bytes_per_second{path=\"eth0\"} 2500000",
        "mptcp_path_quota_bytes{path=\"eth0\"} 50000000000",
        "mptcp_path_quota_used_bytes{path=\"eth0\"} 50000000001",
        "mptcp_path_quota_spent{path=\"eth0\"} 1",
        "mptcp_agent_quota_saved 1",
        "mptcp_agent_quota_files_set_aside 2",
        "mptcp_path_share_ratio{path=\"eth0\"} 1",
        "mptcp_path_share_ratio{path=\"10.0.0.0/24\"} 0",
        "mptcp_scheduler_decisions_total{path=\"eth0\"} 9",
        "mptcp_scheduler_blocked_total{path=\"eth0\"} 0",
        "mptcp_scheduler_candidates_total{path=\"eth0\",state=\"standby\"} 9",
        "mptcp_policy_info{policy=\"weighted\",backend=\"pacing\"} 1",
        "mptcp_policy_unmatched_selectors 2",
        "mptcp_policy_connections{policy=\"default\"} 4",
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
        "mptcp_agent_event_streams 2",
        "mptcp_agent_event_streams_dropped_total 1",
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
}

#[test]
fn ranks_stand_in_for_weights_under_the_overflow_policy() {
    let mut snapshot = full();
    snapshot.policy = overflow();
    for (path, weight) in snapshot.paths.iter_mut().zip([3, 2]) {
        path.weight = weight;
    }
    let text = render(&snapshot).unwrap();
    for line in [
        "mptcp_path_rank{path=\"eth0\"} 1",
        "mptcp_path_rank{path=\"10.0.0.0/24\"} 2",
        "mptcp_policy_info{policy=\"overflow\",backend=\"pacing\"} 1",
        "mptcp_policy_unmatched_selectors 2",
    ] {
        assert!(text.lines().any(|got| got == line), "{line}\n{text}");
    }
    assert!(!text.contains("mptcp_path_weight_ratio"), "{text}");
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
    let ranked = Snapshot {
        policy: overflow(),
        ..full()
    };
    let text = render(&full()).unwrap() + &render(&ranked).unwrap();
    let served: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE mptcp_")?.split_once(' '))
        // This family has a section of its own, whose table `net::snmp` checks.
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
    let text = render(&Snapshot::default()).unwrap();
    assert!(
        !text.contains("_ratio") && !text.contains("mptcp_path_"),
        "{text}"
    );
    assert!(text.contains("mptcp_policy_info{policy=\"default\",backend=\"none\"} 1"));
}

#[test]
fn an_unlisted_path_has_a_ratio_while_it_is_in_use() {
    let eth0 = Path {
        listed: true,
        ..path("eth0", 3, PathStats::default())
    };
    let text = render(&Snapshot {
        policy: weighted(),
        paths: vec![
            eth0,
            path("eth1", 1, carried(1, 1)),
            path("eth2", 1, carried(1, 0)),
        ],
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
