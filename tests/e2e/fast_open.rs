//! Data in the SYN (TCP Fast Open) counts like all other data.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::{ANY_V4, Behaviour, Server};
use mptcp_lab::{Agent, Lab, kernel, wait};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::SOON;
use crate::support::{require_agent, scrape_until, two_paths};

/// Connects an MPTCP socket to `server` with `data` in the SYN.
fn open_with(server: SocketAddr, data: &[u8]) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
    let address = SockAddr::from(server);
    let sent = socket.send_to_with_flags(data, &address, libc::MSG_FASTOPEN)?;
    ensure!(sent == data.len(), "sent {sent} bytes only");
    Ok(socket)
}

#[test]
fn data_in_the_syn_is_counted() -> Result<()> {
    const BYTES: usize = 1000;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    // Enable client and server, without cookies, on every listening socket.
    for host in [&net.client, &net.server] {
        host.sysctl("net.ipv4.tcp_fastopen", "1543")?;
    }
    let agents = [
        Agent::start(&net.client, &binary, &[] as &[&str])?,
        Agent::start(&net.server, &binary, &[] as &[&str])?,
    ];
    let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
    let to = sink.at(net.server_addr());
    let socket = net.client.in_ns(|| open_with(to, &[7; BYTES]))?;
    wait::until_true("the data to arrive", SOON, || {
        sink.received() == BYTES as u64
    });
    let first = kernel::subflows(&socket)?;
    let first = first.first().context("no subflow")?;
    ensure!(first.bytes_sent == BYTES as u64, "{first:?}");
    let total = |name: &str, agent: &Agent| {
        let what = format!("{BYTES} bytes in {name}");
        scrape_until(agent, &what, |metrics| {
            metrics.sum(name, &[]) == BYTES as f64
        })
    };
    total("mptcp_path_sent_bytes_total", &agents[0])?;
    total("mptcp_path_acked_bytes_total", &agents[0])?;
    total("mptcp_path_received_bytes_total", &agents[1])?;
    Ok(())
}
