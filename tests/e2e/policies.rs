//! Connections of one host have different policies at the same time.
//!
//! The agent's flags set one policy for all connections, and rules another for
//! some.

use std::path::Path as FilePath;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Direction, Host, Lab, Link, Path, TwoHosts};
use serde_json::{Value, json};

use crate::redundant_support::{ask, late, redundant, rescued, wait_for_proven};
use crate::rules::set_rules;
use crate::support::{acked_by, capped, require_agent, settle, wait_for_shares, weighted};
use crate::{SETTLE, SOON, VERY_LONG};

/// Gives the connections with servers at `port` a policy of their own, at
/// whichever end they are.
fn add_policy(agent: &Agent, port: u16, policy: &Value) -> Result<()> {
    let rules = json!({
        "policies": {"added": policy},
        "rules": [
            {"policy": "added", "side": "client", "dport": port},
            {"policy": "added", "side": "server", "lport": port},
        ],
    });
    set_rules(agent, &rules).map(drop)
}

fn upload(host: &Host, server: &Server, links: &[Link]) -> Result<Transfer> {
    let bulk = Bulk::upload_for(VERY_LONG);
    let transfer = bulk.start(host, server.at(links[0].server_addr))?;
    transfer.wait_for_subflows(links.len(), SOON)?;
    Ok(transfer)
}

/// Returns a weighted policy with the weights 1:3.
fn opposite() -> Value {
    json!({"name": "weighted", "weights": ["p1=1", "p2=3"]})
}

/// Two uploads at the same time, the first of which has the weights 3:1 that the
/// flags set, and the second a policy of its own.
struct Pair {
    agent: Agent,
    first: Transfer,
    second: Transfer,
    _sinks: [Server; 2],
    net: TwoHosts,
    _lab: Lab,
}

impl Pair {
    fn start(binary: &FilePath, policy: &Value) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(["p1", "p2"].map(|name| Path::new(name).rate_mbit(40.0)))?;
        let agent = Agent::start(&net.client, binary, &weighted(&["p1=3", "p2=1"]))?;
        let sinks = [
            Server::spawn(&net.server, ANY, Behaviour::Sink)?,
            Server::spawn(&net.server, ANY, Behaviour::Sink)?,
        ];
        add_policy(&agent, sinks[1].port(), policy)?;
        Ok(Self {
            agent,
            first: upload(&net.client, &sinks[0], &net.links)?,
            second: upload(&net.client, &sinks[1], &net.links)?,
            _sinks: sinks,
            net,
            _lab: lab,
        })
    }

    fn end(self) -> Result<()> {
        self.first.stop()?;
        self.second.stop()?;
        self.agent.stop()
    }
}

#[test]
fn two_connections_have_opposite_weights() -> Result<()> {
    let binary = require_agent!();
    let pair = Pair::start(&binary, &opposite())?;
    let links = &pair.net.links;
    wait_for_shares(&pair.first, links, &[3, 1])?;
    wait_for_shares(&pair.second, links, &[1, 3])?;
    // The second policy does not reach the first connection later on either.
    wait_for_shares(&pair.first, links, &[3, 1])?;
    pair.end()
}

#[test]
fn a_connection_is_only_observed_beside_a_weighted_one() -> Result<()> {
    let binary = require_agent!();
    let pair = Pair::start(&binary, &json!({"name": "default"}))?;
    wait_for_shares(&pair.first, &pair.net.links, &[3, 1])?;
    assert!(capped(&pair.first.subflows()?));
    assert!(!capped(&pair.second.subflows()?));
    pair.end()
}

#[test]
fn requests_are_copied_beside_a_weighted_transfer() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts(["p1", "p2"].map(|name| Path::new(name).rate_mbit(40.0)))?;
    let agents = [
        redundant(&net.client, &binary, &[])?,
        redundant(&net.server, &binary, &[])?,
    ];
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    for agent in &agents {
        add_policy(agent, sink.port(), &opposite())?;
    }
    // The paths have room to spare, so copies need not yield to the transfer.
    let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(10.0);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let exchange = ask(&net.client, &echo, &net.links)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
    }
    settle(&[1, 3], || {
        let subflows = transfer.subflows()?;
        Ok(acked_by(&subflows, &net.links, |one| one.local.ip()))
    })?;
    // The transfer is not copied: its bytes leave each device once.
    let copied = agents[0].scrape()?;
    let (bytes, sent) = (transfer.bytes(), "mptcp_redundant_copies_sent_bytes_total");
    assert!(copied.sum(sent, &[]) < 0.2 * bytes as f64, "{bytes}");

    // The requests are copied: a cut is not felt.
    let from = exchange.responses();
    net.links[0].set_loss(Direction::Both, 20.0)?;
    exchange.wait_for_responses(from + 400, SETTLE)?;
    assert!(rescued(&agents[0].scrape()?) + rescued(&agents[1].scrape()?) > 0.0);
    let late = late(&exchange.latencies_from(from));
    assert!(late <= 4, "{late} of 400 are late");
    exchange.stop()?;
    transfer.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}
