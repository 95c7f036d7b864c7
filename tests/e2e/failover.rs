//! Paths die and return, and devices disappear and come back.

use anyhow::Result;
use mptcp_lab::{Direction, Lab, Path};
use serde_json::json;

use crate::support::{
    Watched, require_agent, scrape_until, two_paths, upload, wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

/// Runs a transfer over two paths, and cuts and restores the one at `index`.
fn dies_and_returns(index: usize) -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=2", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[2, 1])?;
    let path = [("path", json!(["p1", "p2"][index]))];

    net.links[index].blackhole(Direction::Both, true)?;
    agent.event("path_down", &path)?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    net.links[index].blackhole(Direction::Both, false)?;
    agent.event("path_up", &path)?;
    wait_for_shares(&transfer, &net.links, &[2, 1])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_path_dies_and_returns() -> Result<()> {
    dies_and_returns(1)
}

#[test]
fn the_path_that_a_connection_started_on_dies_and_returns() -> Result<()> {
    dies_and_returns(0)
}

#[test]
fn a_device_goes_down_and_comes_up() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=2", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[2, 1])?;
    net.links[1].down()?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    net.links[1].up()?;
    wait_for_shares(&transfer, &net.links, &[2, 1])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_device_is_deleted_and_made_again() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=2", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[2, 1])?;

    net.client.delete_endpoint(1)?;
    net.client.run("ip link del dev p2")?;
    transfer.wait_for_progress(2_000_000, SOON)?;
    let on_p2 = [("path", "p2")];
    let carried = "mptcp_path_acked_bytes_total";
    let before = scrape_until(&agent, "no subflow on p2", |metrics| {
        metrics.value("mptcp_subflows", &on_p2) == Some(0.0)
    })?;
    let before = before.value(carried, &on_p2).unwrap_or(0.0);
    assert!(before > 0.0, "its total outlives the device");

    // Make another device with the same name, but another index and address.
    let again = lab.path(&net.client, &net.server, Path::new("p2").rate_mbit(20.0))?;
    net.client.endpoint(again.client_addr, "p2", "subflow")?;
    transfer.wait_for_subflows(2, SETTLE)?;
    let mut links = net.links;
    links[1] = again;
    wait_for_shares(&transfer, &links, &[2, 1])?;
    let metrics = agent.scrape()?;
    assert!(metrics.value(carried, &on_p2) > Some(before));
    assert_eq!(metrics.value("mptcp_subflows", &on_p2), Some(1.0));
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_device_may_come_later() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("p1").rate_mbit(40.0)])?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "late=1"]))?;
    let warning = agent.log()?.into_iter().find(|line| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("late"))
    });
    assert!(warning.is_some(), "no warning that there is no such device");
    let (_sink, transfer) = upload(&net, 1)?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let late = lab.path(&net.client, &net.server, Path::new("late").rate_mbit(20.0))?;
    net.client.endpoint(late.client_addr, "late", "subflow")?;
    transfer.wait_for_subflows(2, SOON)?;
    let mut links = net.links;
    links.push(late);
    wait_for_shares(&transfer, &links, &[1, 1])?;
    transfer.stop()?;
    agent.stop()
}
