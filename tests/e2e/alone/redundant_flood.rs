//! Segments that no socket accepts cost no more than others. A segment may wait
//! for its second arrival, which never comes, but neither long nor often.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{Exchange, Latencies, RequestResponse};
use mptcp_lab::{Host, wait};
use socket2::{Domain, Protocol, Socket, Type};

use crate::redundant_packets::{TCP, ipv4, send_raw, tcp};
use crate::redundant_support::{INTERVAL, MANY, Scene};
use crate::support::require_agent;
use crate::{SETTLE, SOON};

/// The flags PSH and ACK.
const PUSH: u8 = 0x18;

/// Reads every IPv4 packet that arrives at a host.
struct Tap(Socket);

impl Tap {
    fn new(host: &Host) -> Result<Self> {
        const ETH_P_IP: u16 = 0x0800;
        let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
        let socket =
            host.in_ns(|| Ok(Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?))?;
        socket.set_recv_buffer_size(8 << 20)?;
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        Ok(Self(socket))
    }

    /// Returns the next sequence number on each TCP connection to `port`, by its
    /// ends, after the payload that has arrived.
    fn next(&mut self, port: u16) -> BTreeMap<(SocketAddrV4, SocketAddrV4), u32> {
        let mut all = BTreeMap::new();
        let mut bytes = [0; 2048];
        while let Ok(length) = self.0.read(&mut bytes) {
            let packet = &bytes[..length];
            let two = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            if length < 40 || packet[9] != TCP || two(22) != port {
                continue;
            }
            let header = usize::from(packet[32] >> 4) * 4;
            let payload = usize::from(two(2)).saturating_sub(20 + header);
            let address = |at| Ipv4Addr::from([0, 1, 2, 3].map(|index: usize| packet[at + index]));
            let ends = (
                SocketAddrV4::new(address(12), two(20)),
                SocketAddrV4::new(address(16), port),
            );
            let seq = u32::from_be_bytes([packet[24], packet[25], packet[26], packet[27]]);
            if payload > 0 {
                all.insert(ends, seq.wrapping_add(payload as u32));
            }
        }
        all
    }
}

fn runs(metrics: &Metrics) -> f64 {
    let labels = [("program", "redundant_ingress")];
    metrics.sum("mptcp_agent_program_runs_total", &labels)
}

#[test]
fn pairs_with_wrong_checksums_do_not_keep_a_cpu_busy() -> Result<()> {
    const CONNECTIONS: usize = 20;
    const PAIRS: usize = 200;
    const EVERY: Duration = Duration::from_micros(2500);
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    let [client, server] = &scene.hosts;
    scene.exchange.rest();
    let mut tap = Tap::new(server)?;
    let load = RequestResponse::new(200, INTERVAL, MANY);
    let to = scene.echo.at(scene.links[0].server_addr);
    let exchanges: Vec<Exchange> = (0..CONNECTIONS)
        .map(|_| load.start(client, to))
        .collect::<Result<_>>()?;
    for exchange in &exchanges {
        // By then its copies are accepted.
        exchange.wait_for_responses(100, SETTLE)?;
        exchange.rest();
    }
    let state = || exchanges.iter().map(Exchange::responses).sum::<u64>();
    wait::until_steady("rest", SOON, Duration::from_millis(300), state);
    let flows: Vec<_> = tap.next(to.port()).into_iter().collect();
    assert!(flows.len() >= CONNECTIONS, "{flows:?}");

    // Another connection, which should not be affected.
    let other = load.start(client, to)?;
    other.wait_for_responses(100, SETTLE)?;
    let asked = other.responses();
    let before = scene.server.scrape()?;
    let start = Instant::now();
    let mut late = Duration::ZERO;
    for pair in 0..PAIRS {
        let ((from, to), seq) = flows[pair % flows.len()];
        let mut segment = tcp(from, to, seq, PUSH, b"forged");
        segment[16] ^= 0x55;
        let packet = ipv4(*from.ip(), *to.ip(), TCP, 0, &segment);
        send_raw(client, &[packet.clone(), packet])?;
        let due = EVERY * (pair as u32 + 1);
        late = late.max(start.elapsed().saturating_sub(due));
        while start.elapsed() < due {
            std::thread::yield_now();
        }
    }
    let latencies = Latencies::new(other.latencies_from(asked));
    other.stop()?;
    let after = scene.server.scrape()?;
    let runs = runs(&after) - runs(&before);
    let rounds = after.sum("mptcp_redundant_wait_rounds_total", &[])
        - before.sum("mptcp_redundant_wait_rounds_total", &[]);
    let (p50, p99) = (latencies.p50(), latencies.p99());
    println!("{PAIRS} pairs: {runs} runs, {rounds} rounds of waiting, {late:?} late");
    println!("another connection: p50 {p50:?}, p99 {p99:?}");
    assert!(runs >= 2.0 * PAIRS as f64, "{runs} runs for {PAIRS} pairs");
    // Each connection waits in vain only four times: the pauses after that are
    // longer each time.
    assert!(runs < 30.0 * PAIRS as f64, "{runs} runs for {PAIRS} pairs");
    assert!(rounds > 0.0, "nothing waited: the pairs were not judged");
    for exchange in exchanges {
        exchange.stop()?;
    }
    scene.end()
}
