//! Connections that are open.

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Direction, Lab, Path};

use super::Patient;
use crate::support::{require_agent, two_paths, upload};
use crate::{LONG, SOON, VERY_LONG};

#[test]
fn an_application_without_mptcp_sockets() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG);
    let plain = bulk.clone().tcp();
    let plain = plain.start(&net.client, sink.at(net.server_addr()))?;
    plain.wait_for_progress(100_000, SOON)?;
    let name = std::fs::read_to_string("/proc/self/comm")?;
    patient.is_told(
        "plain-tcp",
        "warning",
        &["1 plain TCP connections beside 0 of MPTCP", name.trim()],
        &format!("mptcp-agent exec -- {}", name.trim()),
    )?;
    // With MPTCP sockets, as mptcpize would make them.
    let mptcp = bulk.start(&net.client, sink.at(net.server_addr()))?;
    mptcp.wait_for_progress(100_000, SOON)?;
    patient.is_well("plain-tcp")?;
    plain.stop()?;
    let seen = patient.until("plain-tcp", "ok")?.seen;
    assert!(seen.contains("0 plain TCP connections beside 1"), "{seen}");
    mptcp.stop().map(drop)
}

#[test]
fn a_peer_without_mptcp() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let peer = net.server_addr();
    let mut patient = Patient::new(&net.client, &binary)?;
    let plain = Server::spawn_tcp(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(LONG).start(&net.client, plain.at(peer))?;
    transfer.wait_for_progress(100_000, SOON)?;
    let seen = format!("1 connections with {peer} go without MPTCP");
    let mend = format!("# on {peer}: sysctl -w net.mptcp.enabled=1");
    patient.is_told("peers", "warning", &[&seen], &mend)?;
    transfer.stop()?;
    // The other way round: a client without MPTCP, at a server that has it.
    let (client, mut patient) = (&net.client, Patient::new(&net.server, &binary)?);
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(LONG).tcp().start(client, sink.at(peer))?;
    transfer.wait_for_progress(100_000, SOON)?;
    let other = net.links[0].client_addr.to_string();
    patient.is_told("peers", "warning", &[&other], &format!("# on {other}"))?;
    patient.is_well("plain-tcp")?;
    transfer.stop()?;
    let transfer = Bulk::upload_for(LONG).start(client, sink.at(peer))?;
    transfer.wait_for_progress(100_000, SOON)?;
    patient.is_well("peers")?;
    transfer.stop().map(drop)
}

#[test]
fn a_subflow_that_gets_nothing_through() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(2_000_000, SOON)?;
    patient.is_well("stale-subflows")?;
    for direction in [Direction::Up, Direction::Down] {
        net.links[1].blackhole(direction, true)?;
    }
    let check = patient.until("stale-subflows", "warning")?;
    let address = net.links[1].client_addr.to_string();
    assert!(check.seen.contains(&address), "{check:?}");
    let id = check.mend.split_whitespace().nth(5).unwrap_or_default();
    let expected = format!(
        "ip mptcp endpoint delete id {id} && ip mptcp endpoint add {address} id {id} dev p2 subflow"
    );
    assert_eq!(check.mend, expected);
    for direction in [Direction::Up, Direction::Down] {
        net.links[1].blackhole(direction, false)?;
    }
    patient.does(&check.mend)?;
    patient.is_well("stale-subflows")?;
    transfer.wait_for_subflows(2, SOON)?;
    transfer.stop().map(drop)
}

#[test]
fn send_buffers_that_no_path_can_fill() -> Result<()> {
    const KEY: &str = "net.ipv4.tcp_wmem";
    let binary = require_agent!();
    let lab = Lab::new()?;
    let path = Path::new("p1").rate_mbit(80.0).delay_ms(60.0);
    let net = lab.two_hosts([path, Path::new("p2").rate_mbit(20.0)])?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("send-buffers")?;
    let mend = format!("sysctl -w '{KEY}=4096 16384 4194304'");
    net.client.sysctl(KEY, "4096 16384 131072")?;
    patient.is_mended("send-buffers", "warning", &["at most 131072 bytes"], &mend)?;

    // More than too little for every path, and too little for this one.
    net.client.sysctl(KEY, "4096 16384 300000")?;
    let start = || -> Result<_> {
        let (sink, transfer) = upload(&net, 2)?;
        transfer.wait_for_progress(2_000_000, SOON)?;
        Ok((sink, transfer))
    };
    let (_sink, transfer) = start()?;
    let address = net.links[0].client_addr.to_string();
    let seen = [&*address, "full grown with 300000 bytes"];
    patient.is_mended("send-buffers", "warning", &seen, &mend)?;
    transfer.stop().map(drop)
}
