//! Events on a host while an agent runs: devices, namespaces, clocks and agents
//! come and go. The agent goes on, and no connection is harmed.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::{Agent, Lab, wait};

use crate::support::{
    require_agent, scrape_until, two_paths, upload, wait_for_cap, wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

/// Returns whether the path of this name has one open subflow.
fn carries(metrics: &Metrics, path: &str) -> bool {
    metrics.value("mptcp_subflows", &[("path", path)]) == Some(1.0)
}

#[test]
fn a_device_is_renamed_and_changes_its_address_under_load() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "lte=3"]))?;
    scrape_until(&agent, "p2 by its name", |metrics| carries(metrics, "p2"))?;
    // Set the device down: renaming a live one, as udev does, needs Linux 6.1.
    net.client.run("ip link set p2 down")?;
    net.client.run("ip link set p2 name lte up")?;
    let renamed = scrape_until(&agent, "lte by its name", |metrics| {
        !carries(metrics, "p2") && carries(metrics, "lte")
    })?;
    assert_eq!(renamed.value("mptcp_connections", &[]), Some(1.0));
    transfer.wait_for_progress(1_000_000, SOON)?;

    let address = net.links[1].client_addr;
    net.client
        .run(&format!("ip address delete {address}/24 dev lte"))
        .or_else(|_| net.client.run("ip address flush dev lte"))?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_device_is_deleted_and_made_again_under_load() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    wait_for_cap(&transfer)?;
    let before = agent.scrape()?;
    net.client.run("ip link delete p2")?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    net.client.run("ip link add p2 type veth peer name far")?;
    net.client.run("ip link set p2 up")?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let sent = |metrics: &Metrics| metrics.sum("mptcp_path_sent_bytes_total", &[("path", "p2")]);
    let after = scrape_until(&agent, "p2 is there again", |metrics| {
        metrics
            .value("mptcp_path_sent_bytes_total", &[("path", "p2")])
            .is_some()
    })?;
    assert!(sent(&after) >= sent(&before));
    assert_eq!(after.value("mptcp_connections", &[]), Some(1.0));
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_namespace_loses_its_name_and_its_devices() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    wait_for_cap(&transfer)?;
    let status = std::process::Command::new("ip")
        .args(["netns", "delete", net.client.netns()])
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "{status}");
    // The agent keeps the namespace alive, like the transfer.
    transfer.wait_for_progress(1_000_000, SOON)?;
    assert!(agent.process().is_running());
    let status = agent.stop_with(nix::sys::signal::Signal::SIGTERM)?;
    assert!(status.success(), "{status}");
    transfer.wait_for_progress(1_000_000, SOON)?;
    transfer.stop()?;
    Ok(())
}

#[test]
fn of_two_agents_that_start_at_once_one_runs() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for _ in 0..5 {
        let mut started = Vec::new();
        let policy = weighted(&["p1=1", "p2=3"]);
        let start = || Agent::start(&net.client, &binary, &policy);
        std::thread::scope(|scope| {
            let both = [scope.spawn(start), scope.spawn(start)];
            started.extend(both.map(std::thread::ScopedJoinHandle::join));
        });
        let mut running = Vec::new();
        for agent in started {
            match agent.map_err(|_| anyhow::anyhow!("a panic"))? {
                Ok(agent) => running.push(agent),
                Err(error) => {
                    let said = format!("{error:#}");
                    assert!(said.contains("another mptcp-agent runs"), "{said}");
                }
            }
        }
        assert_eq!(running.len(), 1);
        let agent = running.pop().context("none runs")?;
        wait_for_cap(&transfer)?;
        agent.stop()?;
    }
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_clock_that_is_not_the_kernels_does_not_make_the_agent_look_dead() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for offset in ["100000", "-100"] {
        // A time namespace shifts the agent's clock as a jump of the host's would.
        let mut command = net.client.command("unshare");
        command.args([
            "--time",
            "--fork",
            "--kill-child=SIGTERM",
            "--monotonic",
            offset,
            "--",
        ]);
        command
            .arg(&binary)
            .args(["run", "--listen", "127.0.0.1:0"]);
        command.args(weighted(&["p1=1", "p2=3"]));
        let agent = Agent::launch(&net.client, command)?;
        wait_for_cap(&transfer)?;
        wait_for_shares(&transfer, &net.links, &[1, 3])?;
        // unshare waits for the agent and ignores signals, so signal the agent.
        let pid = agent.process().pid();
        let child = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let child = nix::unistd::Pid::from_raw(child.trim().parse()?);
        nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGTERM)?;
        wait::until_true("no agent", SETTLE, || !agent.process().is_running());
        assert!(!crate::support::capped(&transfer.subflows()?));
    }
    transfer.stop()?;
    Ok(())
}
