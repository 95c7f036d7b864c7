//! Routes between agents that are not the obvious ones.

use std::net::SocketAddrV6;

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Direction, Family, Path};

use crate::SOON;
use crate::redundant_support::{INTERVAL, MANY, Stage, arrived, redundant, wait_for_proven};
use crate::support::{require_agent, scrape_until};

#[test]
fn a_server_whose_answers_leave_by_another_device_proves_every_subflow() -> Result<()> {
    let binary = require_agent!();
    // IPv6: with a device given and no route over it, IPv4 guesses a neighbour.
    let paths = ["p1", "p2"].map(|name| Path::new(name).family(Family::V6));
    let stage = Stage::new(paths)?;
    // What the server sends to the client's second address takes the first
    // device: no route leads there over the second one, where it comes from.
    let (to, via) = (stage.links[1].client_addr, stage.links[0].client_addr);
    let [client, server] = &stage.hosts;
    // A subflow that is not bound to its device takes what comes by the other.
    client.run("ip mptcp endpoint flush")?;
    client.run(&format!("ip mptcp endpoint add {to} subflow"))?;
    server.run("ip -6 route flush dev p2 proto kernel")?;
    server.run(&format!("ip -6 route add {to} via {via} dev p1"))?;
    stage.play(&binary, &[])?.end()
}

#[test]
fn link_local_addresses_carry_copies() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let [client, server] = &stage.hosts;
    client.run("ip mptcp endpoint flush")?;
    for (host, device, address) in [
        (client, "p1", "fe80::11"),
        (client, "p2", "fe80::12"),
        // The same on both: it is the device that tells them apart.
        (server, "p1", "fe80::2"),
        (server, "p2", "fe80::2"),
    ] {
        host.run(&format!("ip addr flush dev {device}"))?;
        host.run(&format!("ip addr add {address}/64 dev {device} nodad"))?;
    }
    client.endpoint("fe80::12".parse()?, "p2", "subflow")?;
    let agents = [
        redundant(client, &binary, &[])?,
        redundant(server, &binary, &[])?,
    ];
    let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
    let device = client.run("ip -o link show dev p1")?;
    let (index, _) = device.split_once(':').context("no device")?;
    let index = index.parse()?;
    let to = SocketAddrV6::new("fe80::2".parse()?, echo.port(), 0, index);
    let load = RequestResponse::new(200, INTERVAL, MANY);
    let exchange = load.start(client, to.into())?;
    exchange.wait_for_subflows(2, SOON)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 20.0)?;
    }
    stage.links[0].blackhole(Direction::Both, true)?;
    exchange.wait_for_responses(exchange.responses() + 100, SOON)?;
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}
