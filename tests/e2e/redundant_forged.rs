//! Packets that are not meant for this host, broken or forged: the agent counts
//! them by reason, and drops them.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Path, wait};

use crate::redundant_packets::{MORE, TCP, UDP, ipv4, ipv6, send_raw, tcp, udp};
use crate::redundant_support::{
    PORT, Scene, ask, hellos, peers, redundant, refused, wait_for_proven,
};
use crate::support::{require_agent, scrape_until};
use crate::{LONG, SETTLE, SOON};

const SYN: u8 = 0x02;
/// The flags RST and ACK.
const RESET: u8 = 0x14;
/// The flags PSH and ACK.
const PUSH: u8 = 0x18;

fn four(addr: IpAddr) -> Result<Ipv4Addr> {
    match addr {
        IpAddr::V4(addr) => Ok(addr),
        IpAddr::V6(addr) => bail!("{addr} is not IPv4"),
    }
}

/// Returns the ends of a subflow, as the server sends: from, to.
fn ends(subflow: &SubflowInfo) -> Result<(SocketAddrV4, SocketAddrV4)> {
    Ok((
        SocketAddrV4::new(four(subflow.remote.ip())?, subflow.remote.port()),
        SocketAddrV4::new(four(subflow.local.ip())?, subflow.local.port()),
    ))
}

/// A resting connection of two proven hosts, and forgeries for its client.
struct Range {
    scene: Scene,
    /// The addresses of a proven link: the server's, the client's.
    link: (Ipv4Addr, Ipv4Addr),
    first: SubflowInfo,
}

impl Range {
    fn new() -> Result<Self> {
        let binary = mptcp_lab::agent::binary().context("no binary")?;
        let scene = Scene::of_two(&binary, &[])?;
        scene.exchange.rest();
        let subflows = scene.exchange.subflows()?;
        // The addresses of the second subflow are a separate link.
        let second = subflows.get(1).context("no second subflow")?;
        let link = (four(second.remote.ip())?, four(second.local.ip())?);
        let state = || scene.exchange.subflows().unwrap_or_default();
        wait::until_steady("rest", SOON, Duration::from_millis(300), || {
            state()
                .iter()
                .map(|one| one.bytes_received)
                .collect::<Vec<_>>()
        });
        Ok(Self {
            first: subflows[0],
            scene,
            link,
        })
    }

    /// Wraps `payload` as the proven peer does.
    fn wrapped(&self, payload: &[u8]) -> Vec<u8> {
        let (from, to) = self.link;
        ipv4(from, to, UDP, 0, &udp(PORT, PORT, payload))
    }

    /// Returns a segment of the first subflow, as the server could send it.
    fn segment(&self, flags: u8, payload: &[u8]) -> Result<Vec<u8>> {
        let (from, to) = ends(&self.first)?;
        let segment = tcp(from, to, 0x1234_5678, flags, payload);
        Ok(ipv4(*from.ip(), *to.ip(), TCP, 0, &segment))
    }

    /// Sends packets from the server's host. Checks that the client's agent counts
    /// them all with this reason, and that its TCP sees none.
    fn counts(&self, reason: &str, packets: &[Vec<u8>]) -> Result<()> {
        let client = &self.scene.hosts[0];
        let before = refused(&self.scene.client.scrape()?, reason);
        let seen = || client.netstat().map(|all| all.get("Tcp", "InSegs"));
        // A scrape uses TCP too, so wait until it has ended.
        let segments = wait::until_steady("no TCP", SOON, Duration::from_millis(200), || {
            seen().unwrap_or(0)
        });
        let arrived = |count| -> Result<u64> {
            Ok(client.device("p1")?.rx_packets + client.device("p2")?.rx_packets + count)
        };
        let goal = arrived(packets.len() as u64)?;
        send_raw(&self.scene.hosts[1], packets)?;
        wait::until_true("the packets", SOON, || {
            arrived(0).is_ok_and(|count| count >= goal)
        });
        assert_eq!(seen()?, segments, "{reason}: TCP got something");
        let goal = before + packets.len() as f64;
        scrape_until(&self.scene.client, &format!("{goal} {reason}"), |metrics| {
            refused(metrics, reason) == goal
        })?;
        Ok(())
    }

    /// Checks that the connection is as before, and carries data.
    fn lives(self) -> Result<()> {
        let Scene {
            client,
            server,
            exchange,
            hosts,
            echo,
            links,
            lab: _lab,
        } = self.scene;
        for agent in [&client, &server] {
            wait_for_proven(agent, 2)?;
        }
        assert_eq!(exchange.subflows()?.len(), 2);
        drop(exchange);
        let exchange = ask(&hosts[0], &echo, &links)?;
        exchange.wait_for_responses(20, SETTLE)?;
        exchange.stop()?;
        client.stop()?;
        server.stop()
    }
}

#[test]
fn packets_from_unproven_hosts() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    let whole = range.segment(PUSH, b"x")?;
    let (from, to) = range.link;
    // Try other ports of a proven peer, and an address that nobody has.
    let ports = [1, 1024, PORT - 1, PORT + 1];
    let mut packets: Vec<Vec<u8>> = ports
        .iter()
        .map(|&port| ipv4(from, to, UDP, 0, &udp(port, PORT, &whole)))
        .collect();
    let stranger = Ipv4Addr::new(10, 77, 2, 77);
    packets.push(ipv4(stranger, to, UDP, 0, &udp(PORT, PORT, &whole)));
    range.counts("unproven", &packets)?;
    range.lives()
}

#[test]
fn truncated_and_malformed() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    let whole = range.segment(PUSH, b"twelve bytes")?;
    // Try lengths that cut off headers, and one that cuts off payload.
    let mut packets: Vec<Vec<u8>> = [1, 2, 19, 20, 21, 39, 40, 51, whole.len() - 1]
        .iter()
        .map(|&length| range.wrapped(&whole[..length]))
        .collect();
    let mut with = |at: usize, value: u8| {
        let mut packet = whole.clone();
        packet[at] = value;
        packets.push(range.wrapped(&packet));
    };
    // IPv4: a header of less than 20 bytes; a header longer than the packet.
    with(0, 0x44);
    with(0, 0x4f);
    // IPv4: a total length beyond the datagram; one shorter than the headers.
    with(2, 0x40);
    with(3, 30);
    // TCP: a header of less than 20 bytes; a header longer than the packet.
    with(32, 0x40);
    with(32, 0xf0);
    // Trailing bytes that belong to nothing.
    let mut longer = whole.clone();
    longer.extend([0; 8]);
    packets.push(range.wrapped(&longer));
    // An IPv6 header that ends early.
    packets.push(range.wrapped(&ipv6(TCP, b"")[..39]));
    range.counts("malformed", &packets)?;
    range.lives()
}

#[test]
fn fragments() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    let whole = range.segment(PUSH, b"twelve bytes")?;
    let (from, to) = ends(&range.first)?;
    let inner = |fragment| ipv4(*from.ip(), *to.ip(), TCP, fragment, &whole[20..]);
    let (near, far) = range.link;
    let outer = ipv4(near, far, UDP, MORE, &udp(PORT, PORT, &whole));
    let packets = [
        range.wrapped(&inner(MORE)),
        range.wrapped(&inner(1)),
        range.wrapped(&inner(MORE | 8)),
        range.wrapped(&ipv6(44, &[TCP, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])),
        outer,
    ];
    range.counts("fragment", &packets)?;
    range.lives()
}

#[test]
fn nested_and_other_protocols() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    let whole = range.segment(PUSH, b"x")?;
    let nested = range.wrapped(&whole);
    let (from, to) = range.link;
    let packets = [
        range.wrapped(&nested),
        range.wrapped(&range.wrapped(&nested)),
        range.wrapped(&ipv4(from, to, UDP, 0, &udp(53, 53, b"hello"))),
        range.wrapped(&ipv4(from, to, 1, 0, &[8, 0, 0, 0, 0, 0, 0, 0])),
        range.wrapped(&ipv4(from, to, 4, 0, &whole)),
        range.wrapped(&ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0])),
    ];
    range.counts("not-tcp", &packets)?;
    range.lives()
}

#[test]
fn segments_of_no_subflow() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    // Start a connection of plain TCP between the same two hosts.
    let [client, server] = &range.scene.hosts;
    let sink = Server::spawn(server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG).tcp().rate_mbit(1.0);
    let plain = bulk.start(client, sink.at(range.scene.links[0].server_addr))?;
    plain.wait_for_progress(1000, SOON)?;
    let info = plain.subflows()?[0];
    let (from, to) = ends(&info)?;
    let of = |from: SocketAddrV4, to: SocketAddrV4, flags| {
        let segment = tcp(from, to, 1, flags, b"");
        range.wrapped(&ipv4(*from.ip(), *to.ip(), TCP, 0, &segment))
    };
    let nowhere = SocketAddrV4::new(*to.ip(), 1);
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), to.port());
    let before = refused(&range.scene.client.scrape()?, "foreign");
    let packets = [
        of(from, to, RESET),
        of(from, to, PUSH),
        of(from, nowhere, RESET),
        of(from, elsewhere, RESET),
        of(elsewhere, to, RESET),
    ];
    send_raw(server, &packets)?;
    // No agent wraps a SYN.
    let malformed = refused(&range.scene.client.scrape()?, "malformed");
    send_raw(server, &[of(from, to, SYN)])?;
    let goal = before + packets.len() as f64;
    scrape_until(&range.scene.client, "foreign segments", |metrics| {
        refused(metrics, "foreign") == goal && refused(metrics, "malformed") == malformed + 1.0
    })?;
    plain.wait_for_progress(100_000, SOON)?;
    plain.stop()?;
    range.lives()
}

#[test]
fn segments_of_another_peers_subflow() -> Result<()> {
    let binary = require_agent!();
    let range = Range::new()?;
    // Make a third host, which is proven for its own connection.
    let scene = &range.scene;
    let other = scene.lab.host("other")?;
    other.limits(8, 8)?;
    let link = scene.lab.path(&scene.hosts[0], &other, Path::new("p9"))?;
    let agent = redundant(&other, &binary, &[])?;
    let echo = Server::spawn(&other, ANY, Behaviour::Echo)?;
    let links = [link];
    let exchange = ask(&scene.hosts[0], &echo, &links)?;
    scrape_until(&scene.client, "the third host to be proven", |metrics| {
        peers(metrics, "proven") >= 3.0
    })?;
    let before = refused(&scene.client.scrape()?, "foreign");
    let segment = range.segment(RESET, b"")?;
    let (from, to) = (four(links[0].server_addr)?, four(links[0].client_addr)?);
    let packet = ipv4(from, to, UDP, 0, &udp(PORT, PORT, &segment));
    send_raw(&other, &[packet])?;
    scrape_until(&scene.client, "a foreign segment", |metrics| {
        refused(metrics, "foreign") == before + 1.0
    })?;
    exchange.stop()?;
    agent.stop()?;
    let first = range.scene.exchange.subflows()?;
    assert_eq!(first.len(), 2, "a forged reset was taken");
    Ok(())
}

#[test]
fn a_reset_of_the_peers_own_subflow() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    let reset = range.wrapped(&range.segment(RESET, b"")?);
    range.counts("malformed", &[reset])?;
    range.lives()
}

#[test]
fn hellos_of_random_bytes() -> Result<()> {
    let _ = require_agent!();
    let range = Range::new()?;
    let before = range.scene.client.scrape()?;
    let wrong = |metrics: &_| hellos(metrics, "malformed") + hellos(metrics, "refused");
    let mut random = fastrand::Rng::with_seed(7);
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for length in [1, 2, 8, 40, 100, 150, 199, 500, 1400] {
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        bytes[0] = 0xA1;
        packets.push(range.wrapped(&bytes));
        // Use another version of hellos, and of IP.
        for first in [0xAF, 0x55] {
            bytes[0] = first;
            packets.push(range.wrapped(&bytes));
        }
    }
    send_raw(&range.scene.hosts[1], &packets)?;
    // Also send from a socket that any user can open.
    let to = range.link.1;
    range.scene.hosts[1].in_ns(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(&[0xA1; 120], (to, PORT))?;
        Ok(())
    })?;
    let goal = wrong(&before) + packets.len() as f64 + 1.0;
    let after = scrape_until(&range.scene.client, "hellos that say nothing", |metrics| {
        wrong(metrics) == goal
    })?;
    assert_eq!(peers(&after, "proven"), peers(&before, "proven"));
    range.lives()
}
