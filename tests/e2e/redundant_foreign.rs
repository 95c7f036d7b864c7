//! Packets that this host must not judge: those that it forwards, and those that
//! one of its devices carries for another.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, RequestResponse, Server};
use mptcp_lab::{Host, Lab, Path, Routed, wait};

use crate::redundant_support::{
    INTERVAL, MANY, PORT, arrived, redundant, refused, sent, wait_for_proven,
};
use crate::support::{Watched, require_agent, scrape_until};
use crate::{SETTLE, SOON};

fn routed(lab: &Lab) -> Result<Routed> {
    lab.routed(["p1", "p2"].map(Path::new), Path::new("down"))
}

fn ask(client: &Host, server: IpAddr, echo: &Server) -> Result<Exchange> {
    let load = RequestResponse::new(200, INTERVAL, MANY);
    let exchange = load.start(client, echo.at(server))?;
    exchange.wait_for_subflows(2, SOON)?;
    Ok(exchange)
}

#[test]
fn a_router_with_the_policy_lets_copies_of_others_pass() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = routed(&lab)?;
    let router = redundant(&net.router, &binary, &[])?;
    let agents = [
        redundant(&net.client, &binary, &[])?,
        redundant(&net.server, &binary, &[])?,
    ];
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let exchange = ask(&net.client, net.server_addr(), &echo)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 100.0)?;
    }
    let metrics = router.scrape()?;
    assert_eq!(
        refused(&metrics, "unproven"),
        0.0,
        "the router dropped some"
    );
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    router.stop()
}

/// The datagrams look like copies to a program that does not compare addresses:
/// their first four bits are an IP version.
#[test]
fn a_router_with_the_policy_forwards_datagrams_to_its_own_port() -> Result<()> {
    const EACH: usize = 20;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = routed(&lab)?;
    let router = redundant(&net.router, &binary, &[])?;
    // Its programs are attached once it has a peer to look for.
    scrape_until(&router, "the programs", |metrics| {
        metrics.sum(
            "mptcp_agent_program_attached",
            &[("program", "redundant_ingress")],
        ) == 1.0
    })?;
    let to = SocketAddr::new(net.server_addr(), PORT);
    let receiver = net
        .server
        .in_ns(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(10)))?;
    net.client.in_ns(|| {
        let sender = UdpSocket::bind("0.0.0.0:0")?;
        for first in [0x45, 0x60] {
            for _ in 0..EACH {
                sender.send_to(&[first; 60], to)?;
            }
        }
        // Each of these has two fragments.
        for _ in 0..EACH {
            sender.send_to(&[0x45; 2500], to)?;
        }
        Ok(())
    })?;
    let mut bytes = [0; 4000];
    let mut received = 0;
    wait::try_until("every datagram", SOON, || {
        while receiver.recv(&mut bytes).is_ok() {
            received += 1;
        }
        if received == 3 * EACH {
            Ok(())
        } else {
            Err(received)
        }
    })?;
    router.stop()
}

/// A client with a macvlan over the first path's device. Packets of the macvlan
/// pass the hooks of both devices. The connection starts on the macvlan.
struct OverParent {
    agents: [Watched; 2],
    exchange: Exchange,
    _echo: Server,
    _hosts: [Host; 2],
    _lab: Lab,
}

/// The subflow that carries the requests.
#[derive(PartialEq)]
enum Carries {
    Macvlan,
    /// The macvlan's endpoint becomes a `backup`.
    Parent,
}

impl OverParent {
    fn new(binary: &std::path::Path, carries: Carries) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts([Path::new("p1")])?;
        let (client, server) = (net.client, net.server);
        // Both devices are on one wire. Each must answer ARP only for its own
        // address: otherwise the server may reach it by the other's MAC address.
        client.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        client.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
        for line in [
            "ip link add m1 link p1 type macvlan mode bridge",
            "ip link set m1 addrgenmode none",
            "ip addr add 10.77.200.1/24 dev m1",
            "ip link set m1 up",
            "ip rule add from 10.77.200.1 lookup 2000 priority 2000",
            "ip route add default via 10.77.200.2 dev m1 table 2000",
        ] {
            client.run(line)?;
        }
        server.run("ip addr add 10.77.200.2/24 dev p1")?;
        if carries == Carries::Parent {
            client.endpoint("10.77.200.1".parse()?, "m1", "subflow id 9")?;
        }
        client.endpoint(net.links[0].client_addr, "p1", "subflow")?;
        let agents = [
            redundant(&client, binary, &[])?,
            redundant(&server, binary, &[])?,
        ];
        let echo = Server::spawn(&server, ANY, Behaviour::Echo)?;
        let exchange = ask(&client, "10.77.200.2".parse()?, &echo)?;
        for agent in &agents {
            wait_for_proven(agent, 2)?;
        }
        if carries == Carries::Parent {
            client.change_endpoint(9, "backup")?;
        }
        Ok(Self {
            agents,
            exchange,
            _echo: echo,
            _hosts: [client, server],
            _lab: lab,
        })
    }
}

#[test]
fn a_macvlan_and_its_parent_copy_a_segment_once() -> Result<()> {
    let binary = require_agent!();
    let scene = OverParent::new(&binary, Carries::Macvlan)?;
    let [client, server] = &scene.agents;
    scrape_until(client, "copies", |metrics| arrived(metrics) > 20.0)?;
    // The server has one device, so it copies each segment once.
    let counts = || -> Result<[f64; 4]> {
        let (ours, theirs) = (client.scrape()?, server.scrape()?);
        Ok([sent(&ours), arrived(&theirs), sent(&theirs), arrived(&ours)])
    };
    let before = counts()?;
    let goal = scene.exchange.responses() + 200;
    scene.exchange.wait_for_responses(goal, SETTLE)?;
    let after = counts()?;
    let [ours, _, theirs, _] = [0, 1, 2, 3].map(|at| after[at] - before[at]);
    assert!(theirs >= 190.0, "{theirs} copies for 200 responses");
    assert!(
        ours < 1.3 * theirs,
        "{ours} copies from the host with the macvlan, {theirs} from the other"
    );
    let [client, server] = scene.agents;
    let latencies = scene.exchange.stop().context("the requests")?;
    let (p50, p99) = (latencies.p50(), latencies.p99());
    println!("p50 {p50:?}, p99 {p99:?}, {ours} and {theirs} copies");
    client.stop()?;
    server.stop()
}

/// The socket of the parent's subflow is bound to the parent, so a copy that the
/// macvlan received must go to the parent.
#[test]
fn a_copy_over_a_macvlan_finds_the_socket_of_the_parent() -> Result<()> {
    let binary = require_agent!();
    let scene = OverParent::new(&binary, Carries::Parent)?;
    let [client, server] = &scene.agents;
    let on_parent =
        |metrics: &Metrics| metrics.value("mptcp_path_received_bytes_total", &[("path", "p1")]);
    let started = on_parent(&client.scrape()?);
    scrape_until(client, "requests over the parent", |metrics| {
        on_parent(metrics) > started
    })?;
    let before = sent(&server.scrape()?);
    let goal = scene.exchange.responses() + 200;
    scene.exchange.wait_for_responses(goal, SETTLE)?;
    let copies = sent(&server.scrape()?) - before;
    assert!(copies >= 190.0, "{copies} copies for 200 responses");
    assert_eq!(scene.exchange.subflows()?.len(), 2, "a copy ended one");
    let metrics = server.scrape()?;
    let closed = metrics.sum("mptcp_subflows_closed_total", &[]);
    assert_eq!(closed, 0.0, "a copy ended a subflow");
    let [client, server] = scene.agents;
    scene.exchange.stop()?;
    client.stop()?;
    server.stop()
}
