//! Acknowledged bytes follow the weights, however a path is named and whichever
//! end sends.

use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::traffic::{ANY, ANY_V4, Behaviour, Bulk, RequestResponse, Server, Transfer};
use mptcp_lab::{Agent, Family, Lab, Path, TwoHosts};

use crate::support::{
    acked_by, capped, require_agent, settle, two_paths, upload, wait_for_shares, wait_for_window,
    weighted,
};
use crate::{SETTLE, SOON, VERY_LONG};

/// Checks that an upload by the client of `net` with these weights gets these
/// shares.
fn holds(net: &TwoHosts, weights: &[&str], expected: &[u16]) -> Result<()> {
    let binary = require_agent!();
    let agent = Agent::start(&net.client, &binary, &weighted(weights))?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG).dual_stack();
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(net.links.len(), SOON)?;
    wait_for_shares(&transfer, &net.links, expected)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn by_device() -> Result<()> {
    let _ = require_agent!();
    for (weights, expected) in [(["p1=4", "p2=1"], [4, 1]), (["p1=1", "p2=3"], [1, 3])] {
        let lab = Lab::new()?;
        holds(&two_paths(&lab)?, &weights, &expected)?;
    }
    Ok(())
}

#[test]
fn by_default_for_devices_that_are_not_listed() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    holds(&two_paths(&lab)?, &["p2=1", "default=4"], &[4, 1])
}

#[test]
fn by_address_and_by_prefix() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let address = format!("{}=1", net.links[0].client_addr);
    // The longer prefix counts, and 10.77.2.0/24 is p2's.
    let weights = [&*address, "10.77.0.0/16=7", "10.77.2.0/24=3"];
    holds(&net, &weights, &[1, 3])
}

#[test]
fn by_local_id() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    // An id takes precedence over the device, which is named too.
    let weights = ["id:0=1", "id:1=2", "p1=50", "p2=1"];
    holds(&two_paths(&lab)?, &weights, &[1, 2])
}

#[test]
fn over_ipv6() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    let path = |name, rate| Path::new(name).rate_mbit(rate).family(Family::V6);
    let net = lab.two_hosts([path("p1", 40.0), path("p2", 20.0)])?;
    holds(&net, &["fd77:0:0:1::/64=4", "fd77:0:0:2::1=1"], &[4, 1])
}

#[test]
fn over_three_paths_of_both_families() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([
        Path::new("p1").rate_mbit(30.0),
        Path::new("p2").rate_mbit(30.0),
        Path::new("p6").rate_mbit(30.0).family(Family::V6),
    ])?;
    net.server
        .endpoint(net.links[2].server_addr, "p6", "signal")?;
    holds(&net, &["p1=3", "p2=2", "p6=1"], &[3, 2, 1])
}

#[test]
fn by_remote_id_on_a_server_with_one_address() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let uplinks = [
        Path::new("up1").rate_mbit(30.0),
        Path::new("up2").rate_mbit(30.0),
    ];
    let net = lab.routed(uplinks, Path::new("down"))?;
    let args = weighted(&["remote-id:0=1", "remote-id:1=3"]);
    let agent = Agent::start(&net.server, &binary, &args)?;
    let source = Server::spawn(&net.server, ANY_V4, Behaviour::Source { rate_mbit: None })?;
    let bulk = Bulk::download_for(VERY_LONG);
    let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    let connection = source.connection(0, SOON)?;
    settle(&[1, 3], || {
        let subflows = connection.subflows()?;
        Ok(acked_by(&subflows, &net.uplinks, |one| one.remote.ip()))
    })?;
    let metrics = agent.scrape()?;
    for (path, ratio) in [("remote-id:0", 0.25), ("remote-id:1", 0.75)] {
        let labels = [("path", path)];
        assert_eq!(
            metrics.value("mptcp_path_weight_ratio", &labels),
            Some(ratio)
        );
        assert_eq!(metrics.value("mptcp_subflows", &labels), Some(1.0));
    }
    transfer.stop()?;
    agent.stop()
}

#[test]
fn subflows_that_share_a_path_share_its_weight() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    // The second device connects to both of the server's addresses.
    net.client.change_endpoint(1, "fullmesh")?;
    net.server
        .endpoint(net.links[1].server_addr, "p2", "signal")?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=2", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 3)?;
    wait_for_shares(&transfer, &net.links, &[2, 1])?;
    let on_p2 = [("path", "p2")];
    assert_eq!(agent.scrape()?.value("mptcp_subflows", &on_p2), Some(2.0));
    transfer.stop()?;
    agent.stop()
}

/// Makes a slow path, which gets a large weight, and a fast one.
fn lopsided(lab: &Lab) -> Result<TwoHosts> {
    lab.two_hosts([
        Path::new("p1").rate_mbit(10.0),
        Path::new("p2").rate_mbit(30.0),
    ])
}

fn spill_args(weights: &[&str]) -> Vec<String> {
    let mut args = weighted(weights);
    args.extend(["--weighted-mode".to_owned(), "spill".to_owned()]);
    args
}

/// Waits until bulk spills to p2, which would carry three quarters without any
/// weights.
fn wait_for_spill(transfer: &Transfer, net: &TwoHosts) -> Result<()> {
    let acked = || {
        Ok(acked_by(&transfer.subflows()?, &net.links, |one| {
            one.local.ip()
        }))
    };
    wait_for_window("p2 to carry half", acked, |shares| shares[1] > 0.5)
}

#[test]
fn spill_uses_the_capacity_that_strict_leaves() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lopsided(&lab)?;
    let agent = Agent::start(&net.client, &binary, &spill_args(&["p1=4", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_spill(&transfer, &net)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn spill_takes_over_from_strict_and_back() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lopsided(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let weights = ["p1=4", "p2=1"];
    for _ in 0..2 {
        let strict = Agent::start(&net.client, &binary, &weighted(&weights))?;
        wait_for_shares(&transfer, &net.links, &[4, 1])?;
        strict.stop()?;
        let spill = Agent::start(&net.client, &binary, &spill_args(&weights))?;
        wait_for_spill(&transfer, &net)?;
        spill.stop()?;
    }
    transfer.stop()?;
    Ok(())
}

/// The requests are too large to be thin, and each waits for the answer to the
/// one before.
#[test]
fn requests_go_on_at_their_pace() -> Result<()> {
    const COUNT: u64 = 300;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
    let answered = |within: Duration| -> Result<(u64, Duration)> {
        let load = RequestResponse::new(32_000, Duration::ZERO, COUNT as usize);
        let exchange = load.start(&net.client, echo.at(net.server_addr()))?;
        let start = Instant::now();
        // Ignore a timeout: the count of responses is the result.
        let _ = exchange.wait_for_responses(COUNT, within);
        Ok((exchange.responses(), start.elapsed()))
    };
    let (count, stock) = answered(SETTLE)?;
    assert_eq!(count, COUNT, "within {stock:?} on stock sockets");
    for scope in ["connection", "host"] {
        let mut args = weighted(&["default=1"]);
        args.extend(["--weighted-scope", scope].map(str::to_owned));
        let client = Agent::start(&net.client, &binary, &args)?;
        let server = Agent::start(&net.server, &binary, &args)?;
        let within = (stock * 4).max(SOON);
        let (count, took) = answered(within)?;
        assert_eq!(
            count, COUNT,
            "{scope}: within {took:?}; stock sockets took {stock:?}"
        );
        client.stop()?;
        server.stop()?;
    }
    Ok(())
}

#[test]
fn spill_holds_the_weights_while_no_path_is_full() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &spill_args(&["p1=4", "p2=1"]))?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(15.0);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    wait_for_shares(&transfer, &net.links, &[4, 1])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_default_policy_touches_no_socket() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agents = [
        Agent::start(&net.client, &binary, &["--policy", "default"])?,
        Agent::start(&net.server, &binary, &[] as &[&str])?,
    ];
    let (sink, transfer) = upload(&net, 2)?;
    let connection = sink.connection(0, SOON)?;
    let goal = transfer.bytes() + 20_000_000;
    while transfer.bytes() < goal {
        assert!(!capped(&transfer.subflows()?));
        assert!(!capped(&connection.subflows()?));
        transfer.wait_for_progress(100_000, SOON)?;
    }
    for agent in &agents {
        let metrics = agent.scrape()?;
        let policy = [("policy", "default")];
        assert_eq!(metrics.value("mptcp_policy_info", &policy), Some(1.0));
        assert_eq!(metrics.sum("mptcp_path_weight_ratio", &[]), 0.0);
        assert_eq!(metrics.sum("mptcp_subflows", &[]), 2.0);
    }
    Ok(())
}
