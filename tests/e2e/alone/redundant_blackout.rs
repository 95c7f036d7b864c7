//! A path dies, and the connection is not affected.

use anyhow::Result;
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Direction, Path};

use crate::redundant_support::{
    STRAY_DSACKS, STRAY_PROBES, Scene, Stage, redundant, rescued, wait_for_proven,
};
use crate::support::require_agent;
use crate::{SETTLE, SOON, VERY_LONG};

/// The length of a cut in requests: 4 s, longer than an agent waits for a silent
/// peer.
const REQUESTS: u64 = 400;

/// Cuts each path in turn while requests go on.
fn cut_each(paths: [Path; 2], direction: Direction) -> Result<()> {
    let binary = require_agent!();
    let scene = Stage::new(paths)?.play(&binary, &[])?;
    let before = scene.recovery()?;
    for link in &scene.links {
        link.blackhole(direction, true)?;
        scene.more_responses(REQUESTS)?;
        link.blackhole(direction, false)?;
        scene.wait_for_copies()?;
    }
    let recovery = scene.recovery()? - before;
    eprintln!("{direction:?}: {recovery:?}");
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    assert!(recovery.dsacks_sent <= STRAY_DSACKS, "{recovery:?}");
    // One of the two cut paths was in use.
    let [client, server] = [scene.client.scrape()?, scene.server.scrape()?];
    if direction != Direction::Down {
        assert!(rescued(&server) > 0.0, "no request was rescued");
    }
    if direction != Direction::Up {
        assert!(rescued(&client) > 0.0, "no response was rescued");
    }
    scene.end()
}

fn near() -> [Path; 2] {
    ["p1", "p2"].map(Path::new)
}

/// Returns paths over devices without a link layer, in user space.
fn far() -> [Path; 2] {
    near().map(|path| path.delay_ms(5.0))
}

#[test]
fn of_requests() -> Result<()> {
    cut_each(near(), Direction::Up)
}

#[test]
fn of_responses() -> Result<()> {
    cut_each(near(), Direction::Down)
}

#[test]
fn both_ways() -> Result<()> {
    cut_each(near(), Direction::Both)
}

#[test]
fn over_tun_devices() -> Result<()> {
    cut_each(far(), Direction::Both)
}

#[test]
fn the_clients_device_goes_down_and_comes_back() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    for link in &scene.links {
        link.down()?;
        scene.more_responses(REQUESTS)?;
        link.up()?;
        scene.more_responses(100)?;
    }
    scene.end()
}

/// The kernel gives up the next hop of a dead path (after some 8 s; here sooner).
/// Then it holds packets for it back before they reach any device. It does so
/// first on the end that sends only acknowledgements.
#[test]
fn of_a_stream_whose_next_hop_is_given_up() -> Result<()> {
    let _ = require_agent!();
    let stage = Stage::new(near().map(|path| path.rate_mbit(50.0)))?;
    for host in &stage.hosts {
        for (name, value) in [
            ("base_reachable_time_ms", "1000"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "200"),
        ] {
            for device in ["p1", "p2"] {
                host.sysctl(&format!("net.ipv4.neigh.{device}.{name}"), value)?;
            }
        }
    }
    stream_on(stage)
}

/// Runs a stream over two paths, each of which is cut once, with a budget for all
/// of its copies.
fn stream(paths: [Path; 2]) -> Result<()> {
    let _ = require_agent!();
    stream_on(Stage::new(paths)?)
}

fn stream_on(stage: Stage) -> Result<()> {
    // This is three seconds of the stream.
    const CUT: u64 = 7_500_000;
    let binary = mptcp_lab::agent::binary().unwrap_or_default();
    let [client, server] = &stage.hosts;
    let budget = ["--redundant-budget", "40mbit"];
    let agents = [
        redundant(client, &binary, &budget)?,
        redundant(server, &binary, &budget)?,
    ];
    let sink = Server::spawn(server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG)
        .rate_mbit(20.0)
        .congestion("cubic");
    let transfer = bulk.start(client, sink.at(stage.links[0].server_addr))?;
    transfer.wait_for_subflows(2, SOON)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
    }
    transfer.wait_for_progress(CUT / 3, SOON)?;
    let before = Recovery::of_hosts(&[client, server])?;
    for link in &stage.links {
        link.blackhole(Direction::Both, true)?;
        transfer.wait_for_progress(CUT, SETTLE)?;
        link.blackhole(Direction::Both, false)?;
        for agent in &agents {
            wait_for_proven(agent, 2)?;
        }
        transfer.wait_for_progress(CUT / 3, SOON)?;
    }
    let recovery = Recovery::of_hosts(&[client, server])? - before;
    assert!(rescued(&agents[1].scrape()?) > 0.0);
    let report = transfer.stop()?;
    assert_eq!(report.bytes, sink.received());
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    // A tail loss probe is sent if no acknowledgement comes for two round trips,
    // which happens if the machine is held up. No loss was ever noticed.
    assert!(recovery.retransmitted <= recovery.probes, "{recovery:?}");
    assert!(recovery.probes <= STRAY_PROBES, "{recovery:?}");
    eprintln!("{recovery:?}");
    assert!(recovery.dsacks_sent <= STRAY_DSACKS, "{recovery:?}");
    Ok(())
}

#[test]
fn of_a_stream() -> Result<()> {
    stream(near().map(|path| path.rate_mbit(50.0)))
}

#[test]
fn of_a_stream_without_offloads() -> Result<()> {
    stream(near().map(|path| path.rate_mbit(50.0).no_gso()))
}

#[test]
fn of_a_stream_over_tun_devices() -> Result<()> {
    stream(far().map(|path| path.rate_mbit(50.0)))
}
