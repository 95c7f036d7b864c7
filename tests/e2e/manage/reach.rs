//! A path that reaches nobody is known, and what the kernel has is shown.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Agent, Direction, Lab, wait};
use serde_json::Value;

use super::{bare, manage, wait_for_endpoints};
use crate::support::{require_agent, scrape_until, two_paths, upload, weighted};
use crate::{SETTLE, SOON};

/// Waits until the agent says that a path is down for this reason, or is up.
fn wait_for_state(agent: &Agent, path: &str, down: Option<&str>) -> Result<Duration> {
    let since = Instant::now();
    let expected = down.map_or(Value::Null, Value::from);
    wait::try_until(&format!("{path} to be {expected}"), SETTLE, || {
        let seen = (|| -> Result<Value> {
            let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"])?)?;
            let rows = status["paths"].as_array().context("no paths")?;
            let row = rows.iter().find(|row| row["path"] == path);
            Ok(row.context("no such path")?["down"].clone())
        })();
        match seen {
            Ok(seen) if seen == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let took = since.elapsed();
    let up = f64::from(u8::from(down.is_none()));
    let what = format!("mptcp_path_up of {path} to be {up}");
    scrape_until(agent, &what, |metrics| {
        metrics.value("mptcp_path_up", &[("path", path)]) == Some(up)
    })?;
    Ok(took)
}

#[test]
fn a_carrier_that_is_lost_and_a_path_that_is_cut() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=1", "p9=1"]))?;
    wait_for_state(&agent, "p9", Some("absent"))?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    wait_for_state(&agent, "p2", None)?;

    net.server.run("ip link set dev p2 down")?;
    let took = wait_for_state(&agent, "p2", Some("no-carrier"))?;
    eprintln!("no carrier: known after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    net.server.run("ip link set dev p2 up")?;
    wait_for_state(&agent, "p2", None)?;

    net.links[1].blackhole(Direction::Both, true)?;
    let took = wait_for_state(&agent, "p2", Some("unanswered"))?;
    eprintln!("cut: known after {took:?}");
    wait_for_state(&agent, "p1", None)?;
    net.links[1].blackhole(Direction::Both, false)?;
    wait_for_state(&agent, "p2", None)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_path_over_which_the_peer_agent_falls_silent() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let server = Agent::redundant(&net.server, &binary, &[])?;
    let agent = Agent::redundant(&net.client, &binary, &[])?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(200, Duration::from_millis(50), 10_000);
    let exchange = load.start(&net.client, echo.at(net.server_addr()))?;
    exchange.wait_for_subflows(2, SOON)?;
    let proven = |metrics: &mptcp_lab::metrics::Metrics| {
        metrics.sum("mptcp_redundant_peers", &[("state", "proven")]) >= 2.0
    };
    scrape_until(&agent, "two proven pairs", proven)?;
    wait_for_state(&agent, "p2", None)?;
    net.links[1].blackhole(Direction::Both, true)?;
    let since = Instant::now();
    scrape_until(&agent, "the path to be down", |metrics| {
        metrics.value("mptcp_path_up", &[("path", "p2")]) == Some(0.0)
    })?;
    eprintln!("peer silent: known after {:?}", since.elapsed());
    wait_for_state(&agent, "p1", None)?;
    net.links[1].blackhole(Direction::Both, false)?;
    wait_for_state(&agent, "p2", None)?;
    // A peer that has ended is silent everywhere: that is no path's fault.
    server.stop()?;
    scrape_until(&agent, "silent peers", |metrics| {
        metrics.sum("mptcp_redundant_peers", &[("state", "silent")]) >= 2.0
    })?;
    for path in ["p1", "p2"] {
        wait_for_state(&agent, path, None)?;
    }
    exchange.stop()?;
    agent.stop()
}

#[test]
fn endpoints_are_shown_beside_the_paths_of_the_agent() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    bare(&net)?;
    let (p1, p2) = (net.links[0].client_addr, net.links[1].client_addr);
    let show = |more: &[&str]| -> Result<String> {
        let words = [&["endpoints"], more].concat();
        mptcp_lab::agent::tell(&net.client, &binary, &words)
    };
    let text = show(&[])?;
    assert!(text.contains("there are no endpoints"), "{text}");
    assert!(text.contains("no agent runs here"), "{text}");

    let agent = manage(&net, &binary, &["--policy", "weighted", "--weight", "p2=3"])?;
    wait_for_endpoints(&net.client, &[(p2, "p2", "subflow")])?;
    net.client.endpoint(p1, "p1", "signal id 9")?;
    let view: Value = serde_json::from_str(&show(&["--json"])?)?;
    assert_eq!(view["agent"], true, "{view}");
    let rows = view["endpoints"].as_array().context("no rows")?;
    let row = |address: std::net::IpAddr| -> Result<&Value> {
        let mut rows = rows.iter();
        let found = rows.find(|row| row["address"] == address.to_string());
        found.context("no such row")
    };
    let own = row(p2)?;
    assert_eq!(
        (&own["managed"], &own["path"]),
        (&true.into(), &"p2".into())
    );
    assert_eq!(
        (&own["weight"], &own["state"]),
        (&3.into(), &"present".into())
    );
    let theirs = row(p1)?;
    assert_eq!(
        (&theirs["managed"], &theirs["id"]),
        (&false.into(), &9.into())
    );
    let text = show(&[])?;
    assert!(
        text.lines()
            .next()
            .is_some_and(|line| line.contains("MADE BY")),
        "{text}"
    );
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}
