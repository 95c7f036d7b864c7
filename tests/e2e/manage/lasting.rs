//! Endpoints and routes of the agent outlive a crash, and are not made twice; and
//! where others do the same, the agent does not start.

use std::process::Stdio;

use anyhow::Result;
use mptcp_lab::{Lab, wait};

use super::{bare, endpoints, limit, manage, wait_for_endpoints};
use crate::SOON;
use crate::support::{failure_of, require_agent, two_paths, upload};

const WEIGHTS: [&str; 6] = [
    "--policy", "weighted", "--weight", "p1=1", "--weight", "p2=1",
];

#[test]
fn a_crash_neither_leaks_nor_doubles() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    bare(&net)?;
    let (p1, p2) = (net.links[0].client_addr, net.links[1].client_addr);
    let both = [(p1, "p1", "subflow"), (p2, "p2", "subflow")];
    let agent = manage(&net, &binary, &WEIGHTS)?;
    let before = wait_for_endpoints(&net.client, &both)?;
    let (_sink, transfer) = upload(&net, 2)?;
    agent.kill()?;
    // While no agent runs, an address goes.
    let agent = manage(&net, &binary, &WEIGHTS)?;
    transfer.wait_for_progress(100_000, SOON)?;
    assert_eq!(endpoints(&net.client)?, before);
    assert_eq!(transfer.subflows()?.len(), 2);
    agent.kill()?;
    net.links[1].remove_client_addr()?;
    let agent = manage(&net, &binary, &WEIGHTS)?;
    wait_for_endpoints(&net.client, &both[..1])?;
    // A successor goes on with what the agent has made.
    let mut args = vec!["--manage-endpoints"];
    args.extend(WEIGHTS);
    let agent = agent.take_over(&args)?;
    net.client.run(&format!("ip addr add {p2}/24 dev p2"))?;
    wait_for_endpoints(&net.client, &both)?;
    transfer.stop()?;
    agent.kill()?;
    // The heartbeat of a killed agent counts for a while.
    wait::try_until("cleanup", SOON, || {
        mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])
    })?;
    assert_eq!(endpoints(&net.client)?, []);
    assert_eq!(limit(&net.client)?, 2);
    Ok(())
}

/// A program that sleeps has the name of the daemon.
#[test]
fn an_agent_does_not_start_beside_another_manager() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    bare(&net)?;
    let directory = tempfile::tempdir()?;
    let refused = || {
        let mut command = net.client.command(&binary);
        command.args(["run", "--listen", "127.0.0.1:0", "--manage-endpoints"]);
        failure_of(&net.client, command.args(WEIGHTS))
    };
    for name in ["mptcpd", "NetworkManager"] {
        let program = directory.path().join(name);
        std::fs::copy("/bin/sleep", &program)?;
        let mut command = net.client.command(program);
        let daemon = net.client.spawn(
            command
                .arg("600")
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )?;
        let line = wait::try_until("a refusal", SOON, &refused)?;
        assert!(line.contains(&format!("{name} (process ")), "{line}");
        assert!(line.contains("--manage-endpoints"), "{line}");
        assert_eq!(endpoints(&net.client)?, []);
        daemon.stop()?;
    }
    // One that comes later keeps the agent from changing anything.
    let agent = manage(&net, &binary, &WEIGHTS)?;
    let (p1, p2) = (net.links[0].client_addr, net.links[1].client_addr);
    let both = [(p1, "p1", "subflow"), (p2, "p2", "subflow")];
    wait_for_endpoints(&net.client, &both)?;
    let mut command = net.client.command(directory.path().join("mptcpd"));
    let daemon = net.client.spawn(
        command
            .arg("600")
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )?;
    net.links[1].remove_client_addr()?;
    wait::until_true("a word about it", SOON, || {
        agent
            .stderr()
            .contains("no endpoint is changed, because mptcpd")
    });
    assert_eq!(endpoints(&net.client)?.len(), 2);
    daemon.stop()?;
    wait_for_endpoints(&net.client, &both[..1])?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}
