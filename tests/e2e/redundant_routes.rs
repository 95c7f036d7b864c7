//! Unusual routes between agents.

use std::net::SocketAddrV6;

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Direction, Family, Path};

use crate::SOON;
use crate::redundant_support::{INTERVAL, MANY, Stage, arrived, redundant, wait_for_proven};
use crate::support::{require_agent, scrape_until};

/// Makes the server's route to the client's second address lead over the first
/// device, the only one with a next hop that accepts such packets.
fn asymmetric(family: Family) -> Result<Stage> {
    let paths = ["p1", "p2"].map(|name| Path::new(name).family(family));
    let stage = Stage::new(paths)?;
    let (to, via) = (stage.links[1].client_addr, stage.links[0].client_addr);
    let [client, server] = &stage.hosts;
    // Without a device, the subflow accepts packets from either device.
    client.run("ip mptcp endpoint flush")?;
    client.run(&format!("ip mptcp endpoint add {to} subflow"))?;
    if family == Family::V6 {
        server.run("ip -6 route flush dev p2 proto kernel")?;
        server.run(&format!("ip -6 route add {to} via {via} dev p1"))?;
    } else {
        server.run(&format!("ip route add {to} via {via} dev p1"))?;
        // If IPv4 is given a device without a route, it asks there for the
        // destination itself. A client behind a router would not hear that. Nor
        // would it ask for the server, which thereby learns its neighbour.
        client.sysctl("net.ipv4.conf.p2.arp_ignore", "8")?;
        let shown = server.run("ip -br link show dev p2")?;
        let lladdr = shown.split_whitespace().nth(2).context("no address")?;
        let next = stage.links[1].server_addr;
        client.run(&format!("ip neigh replace {next} lladdr {lladdr} dev p2"))?;
    }
    Ok(stage)
}

#[test]
fn a_server_whose_answers_leave_by_another_device_proves_every_subflow() -> Result<()> {
    let binary = require_agent!();
    asymmetric(Family::V4)?.play(&binary, &[])?.end()
}

#[test]
fn a_server_whose_answers_leave_by_another_device_proves_every_subflow_over_ipv6() -> Result<()> {
    let binary = require_agent!();
    asymmetric(Family::V6)?.play(&binary, &[])?.end()
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
        // Both addresses are the same; only the device tells them apart.
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
