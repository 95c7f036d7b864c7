//! Two subflows use one device of the client, and a third uses another. Copies go
//! to the other device, because a fault of a device affects all its subflows. The
//! server does the same, whichever devices it has itself.

use std::net::IpAddr;
use std::path::Path as FilePath;

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Direction, Host, Lab, Link, Path};

use crate::redundant_support::{INTERVAL, MANY, Stage, arrived, late, redundant, wait_for_proven};
use crate::support::{require_agent, scrape_until};
use crate::{SETTLE, SOON};

const CUTS: usize = 4;

/// Counts the copies that shared a device with their original.
fn shared(metrics: &Metrics) -> f64 {
    metrics.sum("mptcp_redundant_copies_shared_device_total", &[])
}

/// Gives the client a second address on the first of these paths, for another
/// subflow. Checks that the connection survives repeated cuts of that path.
fn survives_cuts(
    binary: &FilePath,
    hosts: [&Host; 2],
    links: &[Link],
    server_addr: IpAddr,
) -> Result<()> {
    let [client, server] = hosts;
    client.run("ip addr add 10.77.1.3/24 dev p1")?;
    client.endpoint([10, 77, 1, 3].into(), "p1", "subflow")?;
    let agents = [
        redundant(client, binary, &[])?,
        redundant(server, binary, &[])?,
    ];
    let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(200, INTERVAL, MANY);
    let exchange = load.start(client, echo.at(server_addr))?;
    exchange.wait_for_subflows(3, SOON)?;
    for agent in &agents {
        wait_for_proven(agent, 3)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 0.0)?;
    }
    // Until all three were proven, some copies may have had no other carrier.
    let count =
        || -> Result<f64> { Ok(shared(&agents[0].scrape()?) + shared(&agents[1].scrape()?)) };
    let before = count()?;
    let mut lates = Vec::new();
    for _ in 0..CUTS {
        exchange.wait_for_responses(exchange.responses() + 100, SETTLE)?;
        let from = exchange.responses();
        links[0].blackhole(Direction::Both, true)?;
        exchange.wait_for_responses(from + 60, SETTLE)?;
        lates.push(late(&exchange.latencies_from(from.saturating_sub(60))));
        links[0].blackhole(Direction::Both, false)?;
        // In a long cut the links of the shared device become silent.
        for agent in &agents {
            wait_for_proven(agent, 3)?;
        }
    }
    let counted = count()? - before;
    eprintln!("late in each cut of the shared device: {lates:?}; {counted} copies shared it");
    assert_eq!(lates.iter().sum::<usize>(), 0, "{lates:?}");
    if links[0].server_addr == server_addr {
        assert_eq!(counted, 0.0);
    }

    // Without another device, the same one is better than none.
    let goal = shared(&agents[0].scrape()?) + 50.0;
    links[1].down()?;
    scrape_until(&agents[0], "copies by the same device", |metrics| {
        shared(metrics) > goal
    })?;
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn copies_leave_by_another_device() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let [client, server] = &stage.hosts;
    let address = stage.links[0].server_addr;
    survives_cuts(&binary, [client, server], &stage.links, address)
}

#[test]
fn a_server_with_one_device_knows_the_clients() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.routed(["p1", "p2"].map(Path::new), Path::new("down"))?;
    let address = net.server_addr();
    survives_cuts(&binary, [&net.client, &net.server], &net.uplinks, address)
}
