//! The client commands query and change a running agent.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Lab, kernel, wait};
use serde_json::Value;

use crate::support::{
    capped, require_agent, scrape_until, two_paths, upload, wait_for_cap, wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

fn json(agent: &Agent, args: &[&str]) -> Result<Value> {
    let text = agent.tell(&[args, &["--json"]].concat())?;
    serde_json::from_str(&text).with_context(|| text)
}

/// Runs `policy set`; `policy` is the rest of the command line.
fn set(agent: &Agent, policy: &str) -> Result<String> {
    let words: Vec<&str> = ["policy", "set"]
        .into_iter()
        .chain(policy.split(' '))
        .collect();
    agent.tell(&words)
}

#[test]
fn status_and_connections_say_what_is_so() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    transfer.wait_for_progress(2_000_000, SOON)?;

    let status = json(&agent, &["status"])?;
    assert_eq!(status["version"], 1);
    assert_eq!(status["connections"], 1);
    assert_eq!(status["policy"]["policy"]["name"], "weighted");
    assert_eq!(status["agent"]["pid"], agent.process().pid());
    assert_eq!(status["agent"]["outlived"], true);
    for (link, weight) in net.links.iter().zip([1, 3]) {
        let paths = status["paths"].as_array().context("no paths")?;
        let path = paths.iter().find(|path| path["path"] == link.name.as_str());
        let path = path.with_context(|| format!("no {}: {paths:?}", link.name))?;
        assert_eq!(path["weight"], weight);
        assert_eq!((&path["subflows"], &path["alive"]), (&1.into(), &1.into()));
        let addresses = path["addresses"].as_array().context("no addresses")?;
        assert!(
            addresses.contains(&link.client_addr.to_string().into()),
            "{path}"
        );
    }

    let connections = json(&agent, &["connections"])?;
    let connection = &connections["connections"][0];
    let info = kernel::mptcp_info(transfer.socket())?;
    assert_eq!(connection["token"], format!("{:08x}", info.token));
    assert_eq!(
        (&connection["side"], &connection["steered"]),
        (&"client".into(), &true.into())
    );
    let subflows = connection["subflows"].as_array().context("no subflows")?;
    assert_eq!(subflows.len(), 2);
    for seen in transfer.subflows()? {
        let shown = subflows
            .iter()
            .find(|one| one["local"] == seen.local.to_string());
        let shown = shown.context("a subflow is missing")?;
        assert_eq!(shown["remote"], seen.remote.to_string());
        // The kernel's count was read later, so it may be larger.
        let acked = shown["acked_bytes"].as_u64().context("no bytes")?;
        assert!(acked > 0 && acked <= seen.bytes_acked, "{shown} {seen:?}");
        assert!(shown["cwnd_segments"].as_u64() > Some(0), "{shown}");
        assert!(shown["srtt_seconds"].as_f64() > Some(0.0), "{shown}");
    }
    // The tables contain the same.
    let table = agent.tell(&["connections"])?;
    assert!(table.contains(&format!("{:08x}", info.token)), "{table}");
    let table = agent.tell(&["status"])?;
    assert!(
        table.contains("--weight p2=3") && table.contains("p1"),
        "{table}"
    );

    transfer.stop()?;
    scrape_until(&agent, "no connection", |metrics| {
        metrics.value("mptcp_connections", &[]) == Some(0.0)
    })?;
    assert_eq!(
        json(&agent, &["connections"])?["connections"],
        Value::Array(Vec::new())
    );
    agent.stop()
}

#[test]
fn the_policy_is_switched_on_a_live_connection() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let before = transfer.subflows()?;

    for weights in [[1, 3], [4, 1]] {
        set(
            &agent,
            &format!(
                "weighted --weight p1={} --weight p2={}",
                weights[0], weights[1]
            ),
        )?;
        wait_for_shares(&transfer, &net.links, &weights)?;
    }
    set(
        &agent,
        "weighted --weighted-scope connection --weight p1=1 --weight p2=3",
    )?;
    wait_for_cap(&transfer)?;
    // When the command returns, the change is complete, on open sockets too.
    set(&agent, "default")?;
    assert!(!capped(&transfer.subflows()?));
    let metrics = agent.scrape()?;
    let labels = [("policy", "default"), ("backend", "none")];
    assert_eq!(metrics.value("mptcp_policy_info", &labels), Some(1.0));

    // After a temporary policy, the last permanent one comes back.
    set(&agent, "weighted --weight p1=1 --weight p2=3 --for 1s")?;
    let shown = json(&agent, &["policy", "show"])?;
    assert_eq!(shown["then"]["policy"]["name"], "default");
    set(&agent, "weighted --weight p1=3 --weight p2=1 --for 2s")?;
    let shown = json(&agent, &["policy", "show"])?;
    assert_eq!(shown["then"]["policy"]["name"], "default");
    wait_for_cap(&transfer)?;
    wait::until_true("the policy is back", SETTLE, || {
        json(&agent, &["policy", "show"]).is_ok_and(|shown| shown["policy"]["name"] == "default")
    });
    assert!(!capped(&transfer.subflows()?));

    // The connection is the same, and so are its subflows.
    let ends = |subflows: &[kernel::SubflowInfo]| -> Vec<_> {
        subflows.iter().map(|one| (one.local, one.remote)).collect()
    };
    assert_eq!(ends(&transfer.subflows()?), ends(&before));
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_policy_that_is_refused_changes_nothing() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    let before = json(&agent, &["policy", "show"])?;
    let taken = net
        .client
        .in_ns(|| Ok(std::net::UdpSocket::bind("[::]:9000")?))?;
    for (policy, code, reason) in [
        (
            "redundant --redundant-port 9000",
            1,
            "cannot use UDP port 9000",
        ),
        (
            "redundant --redundant-key /nonexistent",
            1,
            "--redundant-key",
        ),
        (
            "weighted --weight p1=0 --weight default=0",
            2,
            "all weights are 0",
        ),
        ("weighted --redundant-copies 3", 2, "policy redundant"),
        ("weighted --for 0s", 2, "for"),
    ] {
        let mut command = net.client.command(&binary);
        command.args(["policy", "set"]).args(policy.split(' '));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{policy}: {said}");
        assert!(said.contains(reason), "{policy}: {said}");
        assert_eq!(json(&agent, &["policy", "show"])?, before, "{policy}");
    }
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    drop(taken);
    transfer.stop()?;
    agent.stop()
}

#[test]
fn copies_start_and_end_with_the_policy() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    let server = Agent::start(&net.server, &binary, &["--policy", "default"])?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(crate::VERY_LONG)
        .rate_mbit(2.0)
        .start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    let sent = |metrics: &mptcp_lab::metrics::Metrics| {
        metrics.sum("mptcp_redundant_copies_sent_total", &[])
    };
    for _ in 0..2 {
        set(&server, "redundant --redundant-budget 20mbit")?;
        set(&client, "redundant --redundant-budget 20mbit")?;
        let before = sent(&client.scrape()?);
        scrape_until(&client, "copies", |metrics| sent(metrics) > before + 100.0)?;
        // New settings of the same policy also take effect.
        set(
            &client,
            "redundant --redundant-copies 3 --redundant-budget 10mbit",
        )?;
        let before = sent(&client.scrape()?);
        scrape_until(&client, "more copies", |metrics| {
            sent(metrics) > before + 100.0
        })?;
        let connections = json(&client, &["connections"])?;
        assert_eq!(
            connections["connections"][0]["peer_proven"], true,
            "{connections}"
        );
        let status = json(&client, &["status"])?;
        assert!(status["peers"]["proven"].as_u64() > Some(0), "{status}");
        set(&client, "default")?;
        set(&server, "default")?;
        let filters = net.client.run("tc filter show dev p1 egress")?;
        assert!(filters.trim().is_empty(), "{filters}");
        let hooks = json(&client, &["status"])?;
        assert_eq!(hooks["hooks"].as_array().map(Vec::len), Some(3), "{hooks}");
    }
    transfer.stop()?;
    client.stop()?;
    server.stop()
}

#[test]
fn events_come_as_they_happen() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    let mut command = net.client.command(&binary);
    command
        .args(["events", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let process = net.client.spawn(command.stderr(Stdio::piped()))?;
    let stdout = process
        .with_child(|child| child.stdout.take())
        .context("no pipe")?;
    let mut lines = BufReader::new(stdout).lines();
    // No event is missed after the first line.
    let first: Value = serde_json::from_str(&lines.next().context("no line")??)?;
    assert_eq!(
        (&first["reply"], &first["in_ring"]),
        (&"lost".into(), &0.into())
    );
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.stop()?;
    let mut seen = Vec::new();
    while !seen.contains(&"closed".to_owned()) {
        let line = lines.next().context("no more events")??;
        let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        assert_eq!(
            (&event["version"], &event["reply"]),
            (&1.into(), &"event".into())
        );
        let name = event["event"].as_str().unwrap_or_default().to_owned();
        if name == "subflow_closed" {
            assert!(
                event["reason"].is_string() && event["acked_bytes"].is_u64(),
                "{event}"
            );
        }
        seen.push(name);
    }
    for name in ["opened", "joined", "subflow_closed"] {
        assert!(seen.iter().any(|one| one == name), "{seen:?}");
    }
    // The stream ends with the agent.
    agent.stop()?;
    process.wait(SOON)?;
    Ok(())
}

#[test]
fn a_successor_takes_over_without_a_gap() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    let before = agent.scrape()?;
    let mut agent = agent;
    for _ in 0..3 {
        let successor = agent.take_over(&weighted(&["p1=1", "p2=3"]))?;
        // The cap exists as soon as the successor runs: it was never lifted.
        assert!(capped(&transfer.subflows()?));
        agent = successor;
    }
    let after = agent.scrape()?;
    for name in [
        "mptcp_path_acked_bytes_total",
        "mptcp_connections_opened_total",
        "mptcp_agent_events_total",
    ] {
        assert!(after.sum(name, &[]) >= before.sum(name, &[]), "{name}");
    }
    assert_eq!(after.sum("mptcp_connections_opened_total", &[]), 1.0);
    assert_eq!(after.value("mptcp_connections", &[]), Some(1.0));
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    agent.stop()
}
