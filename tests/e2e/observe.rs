//! Both agents see connections and subflows, with their ids and addresses.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Agent, Lab, kernel, wait};
use serde_json::{Value, json};

use crate::support::{Watched, require_agent, scrape_until, scrape_until_empty, two_paths, upload};
use crate::{SETTLE, SOON};

const NO_ARGS: [&str; 0] = [];

/// Formats a token as the agent and `ip mptcp monitor` print it.
fn hex(token: u32) -> Value {
    json!(format!("{token:08x}"))
}

#[test]
fn a_handshake_and_a_join_are_seen_at_both_ends() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &NO_ARGS)?;
    let server = Watched::start(&net.server, &binary, &NO_ARGS)?;
    let (sink, transfer) = upload(&net, 2)?;
    let subflows = transfer.subflows()?;
    let tokens = [
        kernel::mptcp_info(transfer.socket())?.token,
        sink.connection(0, SOON)?.mptcp_info()?.token,
    ];
    assert_ne!(tokens[0], tokens[1], "each end has its own token");

    for (agent, side, token) in [
        (&client, "client", tokens[0]),
        (&server, "server", tokens[1]),
    ] {
        let at_client = side == "client";
        for (name, index) in [("opened", 0), ("joined", 1)] {
            let (here, there) = match (at_client, subflows[index]) {
                (true, subflow) => (subflow.local, subflow.remote),
                (false, subflow) => (subflow.remote, subflow.local),
            };
            // The client's endpoint has the id 1; connections start at id 0.
            let ids = if at_client { (index, 0) } else { (0, index) };
            let event = agent.event(
                name,
                &[
                    ("side", json!(side)),
                    ("path", json!(net.links[index].name)),
                    ("local", json!(here.to_string())),
                    ("remote", json!(there.to_string())),
                    ("local_id", json!(ids.0)),
                    ("remote_id", json!(ids.1)),
                ],
            )?;
            // The token may be unknown yet when the first subflow opens.
            if name == "joined" || event["token"] != Value::Null {
                assert_eq!(event["token"], hex(token), "{side}: {event}");
            }
            assert_eq!(agent.events(name)?.len(), 1, "{side}: one {name}");
        }
    }

    transfer.stop()?;
    for (agent, token) in [(&client, tokens[0]), (&server, tokens[1])] {
        agent.event("closed", &[("token", hex(token))])?;
        let closed = agent.events("subflow_closed")?;
        assert_eq!(closed.len(), 2, "{closed:#?}");
        assert!(closed.iter().all(|event| event["token"] == hex(token)));
        assert!(closed.iter().all(|event| event["reason"].is_string()));
    }
    Ok(())
}

#[test]
fn connections_and_subflows_are_counted_by_side_and_kind() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &NO_ARGS)?;
    let server = Watched::start(&net.server, &binary, &NO_ARGS)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for (agent, side, other) in [(&client, "client", "server"), (&server, "server", "client")] {
        let metrics = scrape_until(agent, "two subflows", |metrics| {
            metrics.sum("mptcp_subflows", &[]) == 2.0
        })?;
        let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels);
        let opened = "mptcp_connections_opened_total";
        assert_eq!(value(opened, &[("side", side)]), Some(1.0));
        assert_eq!(value(opened, &[("side", other)]), Some(0.0));
        assert_eq!(value("mptcp_connections", &[]), Some(1.0));
        for (path, kind, count) in [
            ("p1", "initial", 1.0),
            ("p1", "join", 0.0),
            ("p2", "initial", 0.0),
            ("p2", "join", 1.0),
        ] {
            let labels = [("path", path), ("kind", kind)];
            assert_eq!(
                value("mptcp_subflows_opened_total", &labels),
                Some(count),
                "{labels:?}"
            );
        }
        for path in ["p1", "p2"] {
            assert_eq!(value("mptcp_subflows", &[("path", path)]), Some(1.0));
        }
    }
    transfer.stop()?;
    for agent in [&client, &server] {
        let metrics = scrape_until_empty(agent)?;
        assert_eq!(metrics.sum("mptcp_subflows", &[]), 0.0);
        assert_eq!(
            metrics.value("mptcp_connections_closed_total", &[]),
            Some(1.0)
        );
        assert_eq!(metrics.sum("mptcp_subflows_closed_total", &[]), 2.0);
        assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 1.0);
        assert_eq!(metrics.sum("mptcp_subflows_opened_total", &[]), 2.0);
    }
    Ok(())
}

#[test]
fn a_connection_to_oneself_has_two_ends() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let agent = Watched::start(&host, &binary, &NO_ARGS)?;
    let echo = Server::spawn(&host, ANY, Behaviour::Echo)?;
    let to = echo.at("127.0.0.1".parse()?);
    let ping = RequestResponse::new(1000, Duration::ZERO, 3);
    let exchange = ping.start(&host, to)?;
    exchange.wait_for_responses(3, SOON)?;
    let metrics = scrape_until(&agent, "both ends", |metrics| {
        metrics.value("mptcp_connections", &[]) == Some(2.0)
    })?;
    for side in ["client", "server"] {
        let labels = [("side", side)];
        assert_eq!(
            metrics.value("mptcp_connections_opened_total", &labels),
            Some(1.0)
        );
    }
    let lo = [("path", "lo")];
    assert_eq!(metrics.value("mptcp_subflows", &lo), Some(2.0));
    assert_eq!(
        metrics.value("mptcp_path_received_bytes_total", &lo),
        Some(6000.0)
    );
    let opened = agent.events("opened")?;
    let mut sides: Vec<&str> = opened
        .iter()
        .flat_map(|event| event["side"].as_str())
        .collect();
    sides.sort_unstable();
    assert_eq!(sides, ["client", "server"]);
    exchange.stop()?;
    scrape_until(&agent, "no end", |metrics| {
        metrics.value("mptcp_connections", &[]) == Some(0.0)
    })?;
    agent.stop().context("the agent")
}

#[test]
fn scrapes_in_quick_succession_share_one_answer_until_the_policy_changes() -> Result<()> {
    const SHARED: Duration = Duration::from_millis(250);
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &NO_ARGS)?;
    let scrape = || agent.get("/metrics");
    // The machine may be busy for longer than an answer is shared.
    let first = wait::try_until("two scrapes in quick succession", SETTLE, || {
        let start = Instant::now();
        let both = scrape().and_then(|first| Ok((first, scrape()?)));
        let both = both.map_err(|error| format!("{error:#}"))?;
        let took = start.elapsed();
        if took < SHARED {
            return Ok(both);
        }
        Err(format!("they took {took:?}"))
    })?;
    assert_eq!(first.0, first.1);
    // A scrape tells how long it took, so no two of them are the same.
    wait::try_until("an answer of its own", SETTLE, || match scrape() {
        Ok(text) if text != first.1 => Ok(()),
        other => Err(other.map_err(|error| format!("{error:#}"))),
    })?;

    agent.tell(&["policy", "set", "weighted", "--weight", "p1=3"])?;
    let text = scrape()?;
    assert!(
        text.contains("mptcp_policy_info{policy=\"weighted\""),
        "{text}"
    );
    agent.stop()
}
