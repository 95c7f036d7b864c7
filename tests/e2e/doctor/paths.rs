//! Routes and devices.

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Lab, TwoHosts};

use super::Patient;
use crate::support::{require_agent, two_paths};
use crate::{LONG, SOON};

/// Removes the rule by which the client's second address has a table of its own.
fn forget_rule(net: &TwoHosts) -> Result<()> {
    let (address, table) = (net.links[1].client_addr, net.links[1].table());
    let line = format!("ip rule del from {address} lookup {table}");
    net.client.run(&line).map(drop)
}

#[test]
fn a_source_without_its_rule() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("source-routes")?;
    let (address, table) = (net.links[1].client_addr, net.links[1].table());
    let mend = format!("ip rule add from {address} table {table}");
    forget_rule(&net)?;
    // There is no peer yet, and no default route, so nothing is certain.
    let seen = [&*address.to_string(), "p2"];
    patient.is_mended("source-routes", "warning", &seen, &mend)?;
    forget_rule(&net)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(100_000, SOON)?;
    let peer = net.server_addr().to_string();
    let seen = [&*address.to_string(), "p2", &*peer];
    patient.is_mended("source-routes", "problem", &seen, &mend)?;
    transfer.stop().map(drop)
}

#[test]
fn a_source_without_any_route() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let (first, second) = (&net.links[0], &net.links[1]);
    forget_rule(&net)?;
    net.client
        .run(&format!("ip route flush table {}", second.table()))?;
    net.client.run(&format!(
        "ip route add default via {} dev p1",
        first.server_addr
    ))?;
    // A router of the second device is known from another route.
    net.client.run(&format!(
        "ip route add 198.51.100.0/24 via {} dev p2",
        second.server_addr
    ))?;
    let (address, router) = (second.client_addr, second.server_addr);
    patient.is_mended(
        "source-routes",
        "problem",
        &[&address.to_string(), "p2"],
        &format!(
            "ip rule add from {address} table 101\n\
             ip route add default via {router} dev p2 table 101"
        ),
    )
}

/// A server answers from the address that a client has chosen.
#[test]
fn a_server_whose_answers_leave_by_the_wrong_device() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    for (link, metric) in net.links.iter().zip([100, 200]) {
        let (router, name) = (link.client_addr, &link.name);
        net.server.run(&format!(
            "ip route add default via {router} dev {name} metric {metric}"
        ))?;
    }
    let mut patient = Patient::new(&net.server, &binary)?;
    patient.is_well("source-routes")?;
    let _sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let (address, router) = (net.links[1].server_addr, net.links[1].client_addr);
    patient.is_mended(
        "source-routes",
        "problem",
        &[&address.to_string(), "do not leave by p2"],
        &format!(
            "ip rule add from {address} table 101\n\
             ip route add default via {router} dev p2 table 101"
        ),
    )
}

#[test]
fn a_strict_reverse_path_filter() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("rp-filter")?;
    net.client.sysctl("net.ipv4.conf.p2.rp_filter", "1")?;
    let mend = "sysctl -w net.ipv4.conf.p2.rp_filter=2";
    patient.is_mended("rp-filter", "warning", &["p2", "strict"], mend)?;
    // Without a route back, it drops everything.
    net.client.sysctl("net.ipv4.conf.p2.rp_filter", "1")?;
    forget_rule(&net)?;
    let seen = ["p2", "no route leads back"];
    patient.is_mended("rp-filter", "problem", &seen, mend)
}

#[test]
fn an_mtu_that_is_too_small() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("device-mtu")?;
    net.client.run("ip link set dev p2 mtu 1200")?;
    let mend = "ip link set dev p2 mtu 1280";
    patient.is_mended("device-mtu", "warning", &["p2", "1200"], mend)
}
