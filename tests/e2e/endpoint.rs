//! The agent's HTTP responses and log are well-formed and true.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use mptcp_lab::{Agent, Lab, require};

use crate::SETTLE;
use crate::support::{Watched, require_agent, scrape_until, two_paths, upload, weighted};

/// Every metric that the agent promises.
const NAMES: [&str; 33] = [
    "mptcp_connections",
    "mptcp_connections_opened_total",
    "mptcp_connections_closed_total",
    "mptcp_subflows",
    "mptcp_subflows_opened_total",
    "mptcp_subflows_closed_total",
    "mptcp_subflows_reset_early_total",
    "mptcp_path_sent_bytes_total",
    "mptcp_path_acked_bytes_total",
    "mptcp_path_received_bytes_total",
    "mptcp_path_retransmitted_segments_total",
    "mptcp_path_timeouts_total",
    "mptcp_path_up",
    "mptcp_path_rtt_seconds_bucket",
    "mptcp_path_rtt_seconds_sum",
    "mptcp_path_rtt_seconds_count",
    "mptcp_path_weight_ratio",
    "mptcp_path_share_ratio",
    "mptcp_scheduler_decisions_total",
    "mptcp_scheduler_candidates_total",
    "mptcp_policy_info",
    "mptcp_policy_unmatched_selectors",
    "mptcp_kernel_events_total",
    "mptcp_agent_build_info",
    "mptcp_agent_program_attached",
    "mptcp_agent_program_runs_total",
    "mptcp_agent_sees_all_cgroups",
    "mptcp_agent_events_total",
    "mptcp_agent_events_lost_total",
    "mptcp_agent_map_full_total",
    "mptcp_agent_unsteered_subflows_total",
    "mptcp_agent_setsockopt_failures_total",
    "mptcp_agent_scrape_duration_seconds",
];

#[test]
fn promtool_finds_nothing_wrong() -> Result<()> {
    let binary = require_agent!();
    require!(
        require::tool("promtool"),
        "needs promtool (Debian's package prometheus)"
    );
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=4", "10.0.0.0/8=1"]))?;
    check(&agent)?;
    let (_sink, transfer) = upload(&net, 2)?;
    scrape_until(&agent, "a share", |metrics| {
        metrics.sum("mptcp_path_share_ratio", &[]) > 0.0
    })?;
    check(&agent)?;
    transfer.stop()?;
    check(&agent)
}

/// Runs `promtool check metrics` over a scrape.
fn check(agent: &Agent) -> Result<()> {
    use std::io::Write;
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let scrape = agent.get("/metrics")?;
    let mut stdin = promtool.stdin.take().context("no pipe")?;
    stdin.write_all(scrape.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    ensure!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "promtool: {output:?}"
    );
    Ok(())
}

#[test]
fn every_promised_metric_is_there_and_true() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=3", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    let metrics = scrape_until(&agent, "shares", |metrics| {
        let share = |path| metrics.sum("mptcp_path_share_ratio", &[("path", path)]);
        share("p1") > 0.0 && (share("p1") + share("p2") - 1.0).abs() < 1e-6
    })?;
    for name in NAMES {
        let count = metrics.select(name, &[]).count();
        assert!(count > 0, "no {name}");
    }
    let unknown = [("path", "unknown")];
    assert_eq!(metrics.sum("mptcp_subflows_opened_total", &unknown), 0.0);
    for (path, weight) in [("p1", 0.75), ("p2", 0.25)] {
        let labels = [("path", path)];
        let value = |name| metrics.value(name, &labels);
        assert_eq!(value("mptcp_path_weight_ratio"), Some(weight));
        let share = value("mptcp_path_share_ratio").context("no share")?;
        assert!((0.0..=1.0).contains(&share), "{path}: {share}");
        assert!(value("mptcp_path_rtt_seconds_count") > Some(0.0));
        assert!(value("mptcp_path_acked_bytes_total") <= value("mptcp_path_sent_bytes_total"));
    }
    let policy = [("policy", "weighted"), ("backend", "pacing")];
    assert_eq!(metrics.value("mptcp_policy_info", &policy), Some(1.0));
    for program in ["sockops", "mptcp_subflow_get_send", "iter_tcp"] {
        let labels = [("program", program)];
        assert_eq!(
            metrics.value("mptcp_agent_program_attached", &labels),
            Some(1.0)
        );
        assert!(metrics.value("mptcp_agent_program_runs_total", &labels) > Some(0.0));
    }
    for name in [
        "mptcp_agent_events_lost_total",
        "mptcp_agent_setsockopt_failures_total",
    ] {
        assert_eq!(metrics.value(name, &[]), Some(0.0));
    }
    transfer.stop()?;
    agent.stop()
}

#[test]
fn health_index_and_missing_pages() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let agent = Agent::start(&host, &binary, &[] as &[&str])?;
    assert_eq!(agent.get("/healthz")?.trim(), "ok");
    let index = agent.get("/")?;
    for link in ["/metrics", "/healthz"] {
        assert!(index.contains(&format!("href=\"{link}\"")), "{index}");
    }
    let error = format!("{:#}", agent.get("/nothing").expect_err("no such page"));
    assert!(error.contains("404"), "{error}");
    // The agent serves HTTP in its own namespace only.
    let elsewhere = lab.host("elsewhere")?;
    let reached = elsewhere.in_ns(|| Ok(std::net::TcpStream::connect(agent.listen()).is_ok()))?;
    assert!(!reached);
    agent.stop()
}

#[test]
fn the_start_prints_a_table_and_a_line() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let agent = Agent::start(&host, &binary, &[] as &[&str])?;
    let said = agent.stdout();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("hook"), "{said}");
    for program in ["sockops", "mptcp_subflow_get_send", "iter_tcp"] {
        let row = lines.iter().find(|line| line.starts_with(program));
        assert!(row.is_some_and(|row| row.contains("attached")), "{said}");
    }
    assert!(
        lines
            .last()
            .is_some_and(|line| line.starts_with("mptcp-agent ready")),
        "{said}"
    );
    agent.stop()
}

#[test]
fn the_json_log_is_json_and_nothing_else_is_said() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=3", "none0=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(2_000_000, SETTLE)?;
    transfer.stop()?;
    agent.event("closed", &[])?;
    assert_eq!(agent.stdout(), "", "stdout is for people");
    let log = agent.log()?;
    for line in &log {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    let ready: Vec<_> = log
        .iter()
        .filter(|line| line["message"] == "ready")
        .collect();
    assert_eq!(ready.len(), 1);
    assert_eq!(ready[0]["policy"], "weighted (strict)");
    let hooks = log.iter().filter(|line| line["program"].is_string());
    assert_eq!(hooks.count(), 3);
    agent.stop()
}
