//! Full-size segments still fit after wrapping. A segment that does not fit is
//! counted, and goes without a copy.

use anyhow::Result;
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Direction, Family, Path};

use crate::redundant_support::{Stage, arrived, dropped, redundant, sent, wait_for_proven};
use crate::support::{Watched, require_agent, scrape_until};
use crate::{SETTLE, SOON, VERY_LONG};

/// Starts a stream that leaves room for its copies, with segments as large as
/// possible.
fn stream(stage: &Stage) -> Result<(Server, Transfer)> {
    let sink = Server::spawn(&stage.hosts[1], ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(10.0);
    let transfer = bulk.start(&stage.hosts[0], sink.at(stage.links[0].server_addr))?;
    transfer.wait_for_subflows(stage.links.len(), SOON)?;
    Ok((sink, transfer))
}

fn agents(stage: &Stage) -> Result<[Watched; 2]> {
    let binary = mptcp_lab::agent::binary().unwrap_or_default();
    let budget = ["--redundant-budget", "40mbit"];
    Ok([
        redundant(&stage.hosts[0], &binary, &budget)?,
        redundant(&stage.hosts[1], &binary, &budget)?,
    ])
}

fn wait_for_copies(agents: &[Watched; 2]) -> Result<()> {
    for agent in agents {
        wait_for_proven(agent, 2)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 0.0)?;
    }
    Ok(())
}

/// Checks that a connection that starts under the policy never has a segment that
/// is too large.
fn fits(paths: [Path; 2]) -> Result<()> {
    const CUT: u64 = 3_000_000;
    let _ = require_agent!();
    let stage = Stage::new(paths)?;
    let agents = agents(&stage)?;
    let (sink, transfer) = stream(&stage)?;
    wait_for_copies(&agents)?;
    let hosts = [&stage.hosts[0], &stage.hosts[1]];
    let before = Recovery::of_hosts(&hosts)?;
    // A segment without a copy would now have to be sent again.
    for link in &stage.links {
        link.blackhole(Direction::Both, true)?;
        transfer.wait_for_progress(CUT, SETTLE)?;
        link.blackhole(Direction::Both, false)?;
        wait_for_copies(&agents)?;
    }
    let recovery = Recovery::of_hosts(&hosts)? - before;
    for agent in &agents {
        let metrics = agent.scrape()?;
        assert_eq!(dropped(&metrics, "mtu"), 0.0);
        assert_eq!(dropped(&metrics, "kernel"), 0.0);
        assert!(sent(&metrics) > 0.0);
    }
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    let report = transfer.stop()?;
    assert_eq!(report.bytes, sink.received());
    Ok(())
}

fn pair(first: u32, second: u32) -> [Path; 2] {
    let path = |name, mtu| Path::new(name).rate_mbit(50.0).mtu(mtu);
    [path("p1", first), path("p2", second)]
}

#[test]
fn of_1500_bytes() -> Result<()> {
    fits(pair(1500, 1500))
}

#[test]
fn of_1500_and_1400_bytes() -> Result<()> {
    fits(pair(1500, 1400))
}

#[test]
fn of_1500_and_1400_bytes_without_offloads() -> Result<()> {
    fits(pair(1500, 1400).map(Path::no_gso))
}

#[test]
fn of_1400_and_1500_bytes_over_tun_devices() -> Result<()> {
    fits(pair(1400, 1500).map(|path| path.delay_ms(2.0)))
}

#[test]
fn of_1500_and_1400_bytes_over_ipv6_without_offloads() -> Result<()> {
    fits(pair(1500, 1400).map(|path| path.family(Family::V6).no_gso()))
}

#[test]
fn of_both_families_without_offloads() -> Result<()> {
    let [four, six] = pair(1500, 1500).map(Path::no_gso);
    let stage = [four, six.family(Family::V6)];
    let _ = require_agent!();
    let stage = Stage::new(stage)?;
    let agents = agents(&stage)?;
    let sink = Server::spawn(&stage.hosts[1], ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(10.0).dual_stack();
    let transfer = bulk.start(&stage.hosts[0], sink.at(stage.links[0].server_addr))?;
    transfer.wait_for_subflows(2, SOON)?;
    wait_for_copies(&agents)?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    for agent in &agents {
        assert_eq!(dropped(&agent.scrape()?, "mtu"), 0.0);
    }
    let report = transfer.stop()?;
    assert_eq!(report.bytes, sink.received());
    Ok(())
}

/// Checks a connection that is older than the agents. Its full-size segments are
/// too large for copies: they are counted, and still arrive. Others are copied.
fn older(paths: [Path; 2]) -> Result<()> {
    let _ = require_agent!();
    let stage = Stage::new(paths)?;
    let (sink, transfer) = stream(&stage)?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let agents = agents(&stage)?;
    wait_for_proven(&agents[1], 2)?;
    wait_for_proven(&agents[0], 2)?;
    scrape_until(&agents[0], "segments that are too large", |metrics| {
        dropped(metrics, "mtu") > 100.0
    })?;
    // Acknowledgements are small enough. Whether the sender has any small segments
    // to copy is chance: all of them may be full.
    scrape_until(&agents[0], "copies", |metrics| arrived(metrics) > 0.0)?;
    let before = Recovery::of_hosts(&[&stage.hosts[0], &stage.hosts[1]])?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    let after = Recovery::of_hosts(&[&stage.hosts[0], &stage.hosts[1]])?;
    assert_eq!((after - before).timeouts, 0);
    let report = transfer.stop()?;
    assert_eq!(report.bytes, sink.received());
    Ok(())
}

#[test]
fn of_an_older_connection_without_offloads() -> Result<()> {
    older(pair(1500, 1500).map(Path::no_gso))
}

#[test]
fn of_an_older_connection_over_tun_devices() -> Result<()> {
    older(pair(1500, 1400).map(|path| path.delay_ms(2.0)))
}

#[test]
fn of_an_older_connection_with_offloads() -> Result<()> {
    older(pair(1500, 1400))
}
