//! The agent opens subflows anew that the kernel has given up, and leaves the
//! living ones of other connections alone.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Direction, Lab, TwoHosts, wait};

use super::{bare, manage, wait_for_endpoints};
use crate::support::{require_agent, two_paths};
use crate::{SETTLE, SOON, VERY_LONG};

const WEIGHTS: [&str; 6] = [
    "--policy", "weighted", "--weight", "p1=1", "--weight", "p2=1",
];

fn prepare(net: &TwoHosts, binary: &std::path::Path) -> Result<Agent> {
    bare(net)?;
    // A subflow that cannot be opened is given up after 3 s, not after 2 min.
    net.client.sysctl("net.ipv4.tcp_syn_retries", "1")?;
    let agent = manage(net, binary, &WEIGHTS)?;
    let own = |index: usize| {
        (
            net.links[index].client_addr,
            net.links[index].name.as_str(),
            "subflow",
        )
    };
    wait_for_endpoints(&net.client, &[own(0), own(1)])?;
    Ok(agent)
}

/// Returns how many attempts to join have timed out or failed.
fn joins(net: &TwoHosts) -> Result<u64> {
    Ok(net.client.netstat()?.mptcp("MPJoinSynTx"))
}

#[test]
fn a_subflow_that_found_its_path_cut_is_opened_later() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = prepare(&net, &binary)?;
    net.links[1].blackhole(Direction::Both, true)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()))?;
    wait::until_true("an attempt to join", SOON, || {
        joins(&net).is_ok_and(|count| count > 0)
    });
    wait::until("the attempt to be given up", SOON, || {
        match transfer.subflows() {
            Ok(subflows) if subflows.len() == 1 => Ok(()),
            other => Err(other),
        }
    });
    let before = transfer.subflows()?[0].local;
    net.links[1].blackhole(Direction::Both, false)?;
    let subflows = transfer.wait_for_subflows(2, SETTLE)?;
    assert!(subflows.iter().any(|one| one.local == before));
    assert!(
        agent
            .stderr()
            .contains("asked the kernel to open them anew")
    );
    transfer.stop()?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}

#[test]
fn living_subflows_of_others_are_left_alone() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = prepare(&net, &binary)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let to = sink.at(net.server_addr());
    let first = Bulk::upload_for(VERY_LONG).start(&net.client, to)?;
    let both: Vec<_> = first
        .wait_for_subflows(2, SOON)?
        .iter()
        .map(|one| one.local)
        .collect();
    net.links[1].blackhole(Direction::Both, true)?;
    let tried = joins(&net)?;
    let second = Bulk::upload_for(VERY_LONG).start(&net.client, to)?;
    wait::until_true("an attempt to join", SOON, || {
        joins(&net).is_ok_and(|count| count > tried)
    });
    net.links[1].blackhole(Direction::Both, false)?;
    // Longer than the agent would wait, if no subflow were left.
    let steady = Duration::from_secs(8);
    let ports = wait::until_steady("the subflows to settle", SETTLE, steady, || {
        let subflows = first.subflows().unwrap_or_default();
        let local: Vec<_> = subflows.iter().map(|one| one.local).collect();
        local
    });
    assert_eq!(ports, both);
    assert!(!agent.stderr().contains("anew"), "{}", agent.stderr());
    for transfer in [first, second] {
        transfer.stop()?;
    }
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}
