//! `status` reports what the agent knows about a path that carries nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Agent, Direction, Lab, wait};
use serde_json::Value;

use crate::support::{require_agent, two_paths, upload, weighted};
use crate::{SETTLE, SOON};

/// Returns the row of `path` in `status --json`.
fn row(agent: &Agent, path: &str) -> Result<Value> {
    let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"])?)?;
    let paths = status["paths"].as_array().context("no paths")?;
    let row = paths.iter().find(|row| row["path"] == path);
    row.cloned()
        .with_context(|| format!("no {path} in {status}"))
}

/// Returns the line of `path` in `status`.
fn line(agent: &Agent, path: &str) -> Result<String> {
    let text = agent.tell(&["status"])?;
    let line = text.lines().find(|line| line.starts_with(path));
    line.map(str::to_owned)
        .with_context(|| format!("no {path} in {text}"))
}

fn wait_for_line(agent: &Agent, path: &str, state: &str) -> Result<()> {
    wait::try_until(state, SETTLE, || match line(agent, path) {
        Ok(line) if line.contains(state) => Ok(()),
        other => Err(other.map_err(|error| format!("{error:#}"))),
    })
}

#[test]
fn a_standby_path_without_a_carrier_is_down_at_once() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p2=0"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_line(&agent, "p2", "standby")?;
    let before = row(&agent, "p2")?;
    assert_eq!(
        (&before["carrier"], &before["alive"]),
        (&true.into(), &1.into())
    );

    // Set the other end down: this host's device stays up, without a carrier.
    net.server.run("ip link set p2 down")?;
    wait::try_until("a path without a carrier", SOON, || {
        match row(&agent, "p2") {
            Ok(row) if row["carrier"] == false && row["alive"] == 0 => Ok(()),
            other => Err(other.map_err(|error| format!("{error:#}"))),
        }
    })?;
    wait_for_line(&agent, "p2", "no carrier")?;
    wait_for_line(&agent, "p1", "alive")?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_standby_path_that_is_cut_is_unknown_and_says_since_when() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p2=0"]))?;
    // These requests need no second path, and nothing is sent again on it.
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(200, Duration::from_millis(20), 10_000);
    let exchange = load.start(&net.client, server.at(net.server_addr()))?;
    exchange.wait_for_subflows(2, SOON)?;
    exchange.wait_for_responses(50, SOON)?;
    net.links[1].blackhole(Direction::Both, true)?;
    wait_for_line(&agent, "p2", "standby, unknown for 1")?;
    let heard = |path| row(&agent, path).map(|row| row["heard_seconds"].as_f64());
    let (first, second) = (heard("p1")?, heard("p2")?);
    assert!(
        first < Some(10.0) && second > Some(10.0),
        "{first:?} {second:?}"
    );
    wait_for_line(&agent, "p1", "alive")?;
    exchange.stop()?;
    agent.stop()
}
