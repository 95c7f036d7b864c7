//! The kernel's path manager.

use std::process::Stdio;

use anyhow::{Context, Result};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Lab, TwoHosts};

use super::Patient;
use crate::support::{require_agent, two_paths};
use crate::{LONG, SOON};

/// The id of the client's only endpoint.
fn endpoint_id(net: &TwoHosts) -> Result<u8> {
    let shown = net.client.run("ip mptcp endpoint show")?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "id");
    let id = words.nth(1).context("no endpoint")?;
    Ok(id.parse()?)
}

#[test]
fn limits_that_are_too_low() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("subflow-limit")?;
    net.client.limits(0, 0)?;
    patient.is_mended(
        "subflow-limit",
        "problem",
        &["no subflow beside its first"],
        "ip mptcp limits set subflows 2",
    )?;
    for address in ["10.77.2.91", "10.77.2.92", "10.77.2.93"] {
        net.client
            .run(&format!("ip addr add {address}/24 dev p2"))?;
        net.client.endpoint(address.parse()?, "p2", "subflow")?;
    }
    patient.is_mended(
        "subflow-limit",
        "warning",
        &["2 subflows", "4 endpoints"],
        "ip mptcp limits set subflows 4",
    )
}

#[test]
fn announced_addresses_that_are_not_used() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    net.client.limits(2, 0)?;
    let link = &net.links[1];
    net.server
        .endpoint(link.server_addr, &link.name, "signal")?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("announced-addresses")?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(100_000, SOON)?;
    patient.is_mended(
        "announced-addresses",
        "warning",
        &["add_addr_accepted is 0"],
        "ip mptcp limits set add_addr_accepted 2",
    )?;
    transfer.stop().map(drop)
}

#[test]
fn an_uplink_that_is_no_endpoint() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("endpoints")?;
    net.client.run("ip mptcp endpoint flush")?;
    let address = net.links[1].client_addr;
    patient.is_mended(
        "endpoints",
        "warning",
        &["p2", &address.to_string()],
        &format!("ip mptcp endpoint add {address} dev p2 subflow"),
    )?;
    // With a listener it is a server, from which nothing is opened.
    net.client.run("ip mptcp endpoint flush")?;
    patient.until("endpoints", "warning")?;
    let _listener = Server::spawn(&net.client, ANY, Behaviour::Sink)?;
    patient.is_well("endpoints")
}

#[test]
fn an_endpoint_without_a_device() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("endpoint-device")?;
    let address = net.links[1].client_addr;
    net.client.run("ip mptcp endpoint flush")?;
    net.client.run(&format!(
        "ip mptcp endpoint add {address} id 5 subflow backup"
    ))?;
    patient.is_mended(
        "endpoint-device",
        "warning",
        &["endpoint 5", "no device"],
        &format!(
            "ip mptcp endpoint delete id 5 && ip mptcp endpoint add {address} id 5 dev p2 subflow \
             backup"
        ),
    )?;
    let shown = net.client.run("ip mptcp endpoint show")?;
    assert!(shown.contains("id 5 subflow backup dev p2"), "{shown}");
    Ok(())
}

#[test]
fn an_endpoint_whose_address_is_gone_or_elsewhere() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("endpoint-address")?;
    let address = net.links[1].client_addr;
    net.client.run("ip mptcp endpoint flush")?;
    net.client.run(&format!(
        "ip mptcp endpoint add {address} id 6 dev p1 subflow"
    ))?;
    patient.is_mended(
        "endpoint-address",
        "problem",
        &["endpoint 6", "p2"],
        &format!(
            "ip mptcp endpoint delete id 6 && ip mptcp endpoint add {address} id 6 dev p2 subflow"
        ),
    )?;
    net.links[1].remove_client_addr()?;
    patient.is_mended(
        "endpoint-address",
        "problem",
        &["endpoint 6", "which no device has"],
        "ip mptcp endpoint delete id 6",
    )
}

#[test]
fn an_endpoint_whose_device_is_down() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("endpoint-carrier")?;
    net.client.run("ip link set dev p2 down")?;
    let id = endpoint_id(&net)?;
    patient.is_mended(
        "endpoint-carrier",
        "warning",
        &["p2", &format!("endpoint {id}")],
        "ip link set dev p2 up",
    )
}

#[test]
fn a_path_manager_that_does_not_run() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    mptcp_lab::require!(
        net.client.sysctl_get("net.mptcp.pm_type").is_ok(),
        "this kernel has one path manager"
    );
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("path-manager")?;
    net.client.sysctl("net.mptcp.pm_type", "1")?;
    patient.is_mended(
        "path-manager",
        "problem",
        &["net.mptcp.pm_type is 1", "mptcpd does not run"],
        "sysctl -w net.mptcp.pm_type=0",
    )
}

/// Programs that sleep have the names of the managers.
#[test]
fn two_path_managers_at_once() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("two-path-managers")?;
    let directory = tempfile::tempdir()?;
    let start = |name: &str| {
        let program = directory.path().join(name);
        std::fs::copy("/bin/sleep", &program)?;
        let mut command = net.client.command(program);
        net.client.spawn(
            command
                .arg("600")
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )
    };
    let first = start("mptcpd")?;
    patient.is_well("two-path-managers")?;
    let second = start("NetworkManager")?;
    let check = patient.until("two-path-managers", "warning")?;
    for word in ["mptcpd", "NetworkManager"] {
        assert!(check.seen.contains(word), "{check:?}");
    }
    assert_eq!(check.mend, format!("kill {}", first.pid()));
    patient.does(&check.mend)?;
    first.wait(SOON)?;
    patient.is_well("two-path-managers")?;
    second.stop().map(drop)
}
