//! A path of weight 0 rests while another one carries data, and takes over from
//! it.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, RequestResponse, Server, Transfer};
use mptcp_lab::{Agent, Direction, Lab, TwoHosts, wait};

use crate::support::{
    Watched, acked_by, require_agent, two_paths, upload, wait_for_window, weighted,
};
use crate::{SETTLE, SOON};

/// Waits until the first path carries (almost) everything, or nothing.
fn wait_for_first(transfer: &Transfer, net: &TwoHosts, all: bool) -> Result<()> {
    let acked = || {
        Ok(acked_by(&transfer.subflows()?, &net.links, |one| {
            one.local.ip()
        }))
    };
    let what = if all {
        "standby to rest"
    } else {
        "standby to carry it all"
    };
    wait_for_window(what, acked, |shares| {
        if all {
            shares[0] > 0.98
        } else {
            shares[1] > 0.98
        }
    })
}

#[test]
fn standby_rests_and_takes_over() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p2=0"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_first(&transfer, &net, true)?;
    let standby = [("path", "p2"), ("state", "standby")];
    let metrics = agent.scrape()?;
    assert!(metrics.sum("mptcp_scheduler_candidates_total", &standby) > 0.0);

    net.links[0].blackhole(Direction::Both, true)?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    wait_for_first(&transfer, &net, false)?;
    net.links[0].blackhole(Direction::Both, false)?;
    wait_for_first(&transfer, &net, true)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn standby_takes_over_when_the_weighted_subflow_closes() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    // The joined subflow carries data; the first one is standby.
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=0", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_first(&transfer, &net, false)?;
    net.client.delete_endpoint(1)?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    transfer.stop()?;
    agent.stop()
}

/// Opens a connection over both paths, and lets it become idle.
pub(crate) fn idle(net: &TwoHosts) -> Result<(Server, Exchange)> {
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let exchange = RequestResponse::new(200, Duration::from_millis(20), 1)
        .start(&net.client, server.at(net.server_addr()))?;
    exchange.wait_for_subflows(2, SOON)?;
    exchange.wait_for_responses(1, SOON)?;
    Ok((server, exchange))
}

/// Waits until the subflow on path `index` is held out of the scheduler's
/// choice, and the other one is not.
pub(crate) fn wait_until_held_out(exchange: &Exchange, net: &TwoHosts, index: usize) -> Result<()> {
    let resting = net.links[index].client_addr;
    wait::try_until("a standby path to rest", SOON, || {
        let subflows = exchange.subflows().map_err(|error| format!("{error:#}"))?;
        let as_asked = subflows.iter().all(|one| {
            let held_out = one.max_pacing_rate_bytes_per_sec == 0;
            // The scheduler looks at the rate, which outlives the limit on it.
            let passed_over = one.pacing_rate_bytes_per_sec == 0;
            let rests = one.local.ip() == resting;
            held_out == rests && passed_over == rests
        });
        if subflows.len() == 2 && as_asked {
            return Ok(());
        }
        Err(format!("{subflows:#?}"))
    })
}

#[test]
fn standby_rests_on_an_idle_connection_and_the_other_path_after_a_change() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p2=0"]))?;
    let (_server, exchange) = idle(&net)?;
    wait_until_held_out(&exchange, &net, 1)?;
    agent.tell(&["policy", "set", "weighted", "--weight", "p1=0"])?;
    wait_until_held_out(&exchange, &net, 0)?;
    exchange.finish()?;
    agent.stop()
}

#[test]
fn standby_rests_on_an_idle_connection_that_is_older_than_the_agent() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_server, exchange) = idle(&net)?;
    for (weight, index) in [("p1=0", 0), ("p2=0", 1)] {
        let agent = Agent::start(&net.client, &binary, &weighted(&[weight]))?;
        wait_until_held_out(&exchange, &net, index)?;
        agent.stop()?;
    }
    exchange.finish()?;
    Ok(())
}

/// If the route of a standby path locks its congestion control, nothing can bring
/// back a subflow that was held out. So it is not held out, and the agent says so.
#[test]
fn a_standby_path_with_a_locked_congestion_control_is_not_held_out() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let first = &net.links[0];
    net.client.run(&format!(
        "ip route replace default via {} dev {} table {} congctl lock reno",
        first.server_addr,
        first.name,
        first.table()
    ))?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=0", "p2=1"]))?;
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(200, Duration::from_millis(20), 10_000);
    let exchange = load.start(&net.client, server.at(net.server_addr()))?;
    exchange.wait_for_subflows(2, SOON)?;
    exchange.wait_for_responses(50, SOON)?;
    wait::try_until("a warning", SOON, || {
        let log = agent.log().map_err(|error| format!("{error:#}"))?;
        let said = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["level"] == "WARN" && message.contains("congctl lock")
        };
        let count = log.iter().filter(|line| said(line)).count();
        if count == 1 {
            Ok(())
        } else {
            Err(format!("{count} of them"))
        }
    })?;
    // End the other subflow, most likely while it has nothing that would be sent
    // again on this one.
    net.client.delete_endpoint(1)?;
    let before = exchange.responses();
    exchange.wait_for_responses(before + 100, SETTLE)?;
    agent.stop()
}
