//! Priorities, stale subflows, and the decisions of the kernel's scheduler.

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::{Direction, Lab};
use serde_json::json;

use crate::SETTLE;
use crate::support::{Watched, require_agent, scrape_until, scrape_until_empty, two_paths, upload};

const DEFAULT: [&str; 2] = ["--policy", "default"];

fn decisions(metrics: &Metrics, path: &str) -> f64 {
    metrics.sum("mptcp_scheduler_decisions_total", &[("path", path)])
}

fn are_chosen(metrics: &Metrics, paths: [&str; 2]) -> bool {
    paths.iter().all(|path| decisions(metrics, path) > 0.0)
}

fn candidates(metrics: &Metrics, path: &str, state: &str) -> f64 {
    let labels = [("path", path), ("state", state)];
    metrics.sum("mptcp_scheduler_candidates_total", &labels)
}

#[test]
fn decisions_are_counted_by_the_path_they_chose() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &DEFAULT)?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(20_000_000, SETTLE)?;
    transfer.stop()?;
    let metrics = scrape_until_empty(&agent)?;
    for path in ["p1", "p2"] {
        let (chosen, eligible) = (
            decisions(&metrics, path),
            candidates(&metrics, path, "eligible"),
        );
        let blocked = metrics.sum("mptcp_scheduler_blocked_total", &[("path", path)]);
        assert!(chosen > 0.0, "{path} was never chosen");
        assert!(
            chosen + blocked <= eligible,
            "{path}: {chosen} + {blocked} of {eligible}"
        );
        for state in ["backup", "standby"] {
            assert_eq!(candidates(&metrics, path, state), 0.0, "{path}: {state}");
        }
    }
    // A decision sends 64 KiB at most.
    let sent = metrics.sum("mptcp_path_sent_bytes_total", &[]);
    let all = decisions(&metrics, "p1") + decisions(&metrics, "p2");
    assert!(
        all * 65_536.0 >= 20_000_000.0,
        "{all} decisions for {sent} bytes"
    );
    Ok(())
}

#[test]
fn decisions_are_counted_by_the_name_that_a_path_has_now() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &DEFAULT)?;
    let (_sink, transfer) = upload(&net, 2)?;
    scrape_until(&agent, "both devices", |metrics| {
        are_chosen(metrics, ["p1", "p2"])
    })?;

    let ids = ["--weight", "id:0=1", "--weight", "id:1=1"];
    agent.tell(&[&["policy", "set", "weighted"], &ids[..]].concat())?;
    let before = scrape_until(&agent, "both ids", |metrics| {
        are_chosen(metrics, ["id:0", "id:1"])
    })?;
    let after = scrape_until(&agent, "100 more decisions", |metrics| {
        decisions(metrics, "id:0") >= decisions(&before, "id:0") + 100.0
    })?;
    for path in ["p1", "p2"] {
        assert_eq!(decisions(&before, path), decisions(&after, path), "{path}");
        let eligible = |metrics| candidates(metrics, path, "eligible");
        assert_eq!(eligible(&before), eligible(&after), "{path}");
    }
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_backup_is_reported_counted_and_not_chosen() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &DEFAULT)?;
    let server = Watched::start(&net.server, &binary, &DEFAULT)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let prio = [("event", "prio_tx")];
    assert_eq!(
        client.scrape()?.value("mptcp_kernel_events_total", &prio),
        Some(0.0)
    );

    net.client.change_endpoint(1, "backup")?;
    client.event(
        "priority",
        &[("backup", json!(true)), ("path", json!("p2"))],
    )?;
    let before = scrape_until(&client, "backup candidates", |metrics| {
        candidates(metrics, "p2", "backup") > 0.0
    })?;
    assert_eq!(before.value("mptcp_kernel_events_total", &prio), Some(1.0));
    let after = scrape_until(&client, "1000 more decisions", |metrics| {
        decisions(metrics, "p1") >= decisions(&before, "p1") + 1000.0
    })?;
    assert_eq!(decisions(&before, "p2"), decisions(&after, "p2"));
    assert_eq!(
        candidates(&before, "p2", "eligible"),
        candidates(&after, "p2", "eligible")
    );
    assert!(candidates(&after, "p2", "backup") > candidates(&before, "p2", "backup"));

    net.client.change_endpoint(1, "nobackup")?;
    client.event(
        "priority",
        &[("backup", json!(false)), ("path", json!("p2"))],
    )?;
    scrape_until(&client, "p2 to be chosen again", |metrics| {
        decisions(metrics, "p2") > decisions(&after, "p2")
    })?;
    // The server, which only receives, learns of the priority from MP_PRIO.
    let rx = [("event", "prio_rx")];
    scrape_until(&server, "MP_PRIO at the server", |metrics| {
        metrics.sum("mptcp_kernel_events_total", &rx) == 2.0
    })?;
    transfer.stop()?;
    for event in client.events("priority")? {
        assert_eq!(event["path"], "p2", "{event}");
    }
    assert_eq!(client.events("priority")?.len(), 2);
    Ok(())
}

#[test]
fn a_backup_carries_data_that_nothing_else_can() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &DEFAULT)?;
    let (_sink, transfer) = upload(&net, 2)?;
    net.client.change_endpoint(1, "backup")?;
    let before = scrape_until(&agent, "backup candidates", |metrics| {
        candidates(metrics, "p2", "backup") > 0.0
    })?;
    net.links[0].blackhole(Direction::Both, true)?;
    agent.event("stale", &[("stale", json!(true)), ("path", json!("p1"))])?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    let after = agent.scrape()?;
    assert!(decisions(&after, "p2") > decisions(&before, "p2"));
    assert!(candidates(&after, "p1", "stale") > 0.0);
    let stale = [("event", "subflow_stale")];
    assert!(after.sum("mptcp_kernel_events_total", &stale) >= 1.0);

    net.links[0].blackhole(Direction::Both, false)?;
    agent.event("stale", &[("stale", json!(false)), ("path", json!("p1"))])?;
    transfer.stop()?;
    Ok(())
}
