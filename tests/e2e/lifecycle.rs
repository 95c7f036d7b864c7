//! The agent starts, stops and dies while connections live on.

use anyhow::{Context, Result};
use mptcp_lab::traffic::Transfer;
use mptcp_lab::{Agent, Lab, require, wait};
use nix::sys::signal::Signal;

use crate::support::{
    Watched, capped, require_agent, scrape_until_empty, two_paths, upload, wait_for_cap,
    wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

/// Returns whether open sockets can be given callbacks (Linux 6.12).
pub(crate) fn can_adopt() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 12)
}

/// Checks that no limit is left, and that the transfer goes on.
fn is_free(transfer: &Transfer) -> Result<()> {
    let subflows = transfer.subflows()?;
    assert!(!capped(&subflows), "{subflows:#?}");
    transfer.wait_for_progress(2_000_000, SOON)?;
    let subflows = transfer.subflows()?;
    assert!(!capped(&subflows), "{subflows:#?}");
    Ok(())
}

#[test]
fn connections_older_than_the_agent_are_adopted_and_steered() -> Result<()> {
    let binary = require_agent!();
    require!(can_adopt(), "adoption needs Linux 6.12");
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let log = agent.log()?;
    let adopted = log
        .iter()
        .find(|line| line["adopted"] != serde_json::Value::Null);
    assert_eq!(adopted.context("no log line about adoption")?["adopted"], 2);
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
    for (path, kind) in [("p1", "initial"), ("p2", "join")] {
        let labels = [("path", path), ("kind", kind)];
        assert_eq!(metrics.value("mptcp_subflows", &labels[..1]), Some(1.0));
        assert_eq!(
            metrics.value("mptcp_subflows_opened_total", &labels),
            Some(1.0)
        );
    }
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    scrape_until_empty(&agent)?;
    agent.stop()
}

#[test]
fn stopping_lifts_every_limit() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
        wait_for_cap(&transfer)?;
        let status = agent.stop_with(signal)?;
        assert!(status.success(), "{signal}: {status}");
        is_free(&transfer)?;
    }
    transfer.stop()?;
    Ok(())
}

#[test]
fn stopping_lets_queues_grow_again() -> Result<()> {
    // The queue of a steered path is short; an unsteered one holds all data
    // that the connection may have in flight.
    const LONG_QUEUE: u32 = 300_000;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([
        mptcp_lab::Path::new("p1").rate_mbit(8.0),
        mptcp_lab::Path::new("p2").rate_mbit(8.0),
    ])?;
    let (_sink, transfer) = upload(&net, 2)?;
    let longest = || -> u32 {
        let subflows = transfer.subflows().unwrap_or_default();
        subflows
            .iter()
            .map(|one| one.notsent_bytes)
            .max()
            .unwrap_or(0)
    };
    wait::until_true("a long queue on a stock socket", SETTLE, || {
        longest() > LONG_QUEUE
    });
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=1"]))?;
    wait::until_true("short queues", SETTLE, || longest() < LONG_QUEUE / 2);
    agent.stop()?;
    wait::until_true("a long queue again", SETTLE, || longest() > LONG_QUEUE);
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    // Wait until the data queued so far has gone.
    transfer.wait_for_progress(2_000_000, SOON)?;
    wait::until_true("a long queue still", SETTLE, || longest() > LONG_QUEUE);
    agent.stop()?;
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_restart_with_the_default_policy_lifts_the_limits_of_a_killed_agent() -> Result<()> {
    const ATTEMPTS: usize = 10;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    // At any moment possibly no path has a limit, so try several times.
    let mut left = false;
    for _ in 0..ATTEMPTS {
        let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
        wait_for_cap(&transfer)?;
        let status = agent.stop_with(Signal::SIGKILL)?;
        assert!(!status.success());
        left = capped(&transfer.subflows()?);
        if left {
            break;
        }
    }
    assert!(left, "{ATTEMPTS} killed agents left no limit");
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    is_free(&transfer)?;
    agent.stop()?;
    is_free(&transfer)?;
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_weighted_agent_takes_over_from_a_killed_one() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let killed = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    wait_for_cap(&transfer)?;
    killed.stop_with(Signal::SIGKILL)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=4", "p2=1"]))?;
    wait_for_shares(&transfer, &net.links, &[4, 1])?;
    agent.stop()?;
    is_free(&transfer)?;
    transfer.stop()?;
    Ok(())
}
