//! The agent that runs.

use std::fs;

use anyhow::Result;
use mptcp_lab::{Agent, Cgroup, Lab};
use nix::sys::signal::Signal;

use super::Patient;
use crate::SOON;
use crate::redundant_support::Scene;
use crate::support::{require_agent, two_paths, upload};

#[test]
fn metrics_that_are_open_to_the_world() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("metrics-address")?;
    let mut command = net.client.command(&binary);
    command.args(["run", "--policy", "weighted", "--weight", "p1=4"]);
    let agent = Agent::launch(&net.client, {
        command.args(["--listen", "0.0.0.0:0"]);
        command
    })?;
    let port = agent.listen().port();
    let check = patient.until("metrics-address", "warning")?;
    let listen = format!("0.0.0.0:{port}");
    assert!(check.seen.contains(&listen), "{check:?}");
    let binary = binary.display();
    let expected = format!(
        "{binary} run --policy weighted --weight p1=4 --take-over --listen 127.0.0.1:{port}"
    );
    assert_eq!(check.mend, expected);
    let mut command = net.client.command("sh");
    command.args(["-c", &format!("exec {}", check.mend)]);
    let successor = agent.take_over_with(command)?;
    patient.is_well("metrics-address")?;
    patient.is_well("agent")?;
    let policy = net.client.run(&format!("{binary} policy show"))?;
    assert!(policy.contains("p1=4"), "{policy}");
    successor.stop()
}

/// Its programs and its copies are no fault, and under its policy some faults are
/// worse.
#[test]
fn an_agent_in_order_has_no_findings() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    for host in &scene.hosts {
        let mut patient = Patient::new(host, &binary)?;
        for check in patient.findings()? {
            let fine = check.result == "ok" || check.name == "lockdown";
            assert!(fine, "{check:?}");
        }
        let key = "net.ipv4.tcp_timestamps";
        host.sysctl(key, "0")?;
        let mend = format!("sysctl -w {key}=1");
        patient.is_mended("timestamps", "problem", &["copies nothing"], &mend)?;
    }
    Ok(())
}

#[test]
fn an_agent_that_cannot_pin_its_programs() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let mut patient = Patient::new(&host, &binary)?;
    let script = "mount -t bpf bpf /sys/fs/bpf && chmod 0777 /sys/fs/bpf && exec \"$0\" run --listen 127.0.0.1:0";
    let mut command = host.command("unshare");
    command
        .args(["--mount", "--", "sh", "-c", script])
        .arg(&binary);
    let agent = Agent::launch(&host, command)?;
    patient.is_told("agent-outlived", "warning", &["0777"], "bpffs-mode")?;
    agent.stop()?;
    let agent = Agent::start(&host, &binary, &[] as &[&str])?;
    patient.is_well("agent-outlived")?;
    agent.stop()
}

#[test]
fn an_agent_that_hangs() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let mut patient = Patient::new(&host, &binary)?;
    let agent = Agent::start(&host, &binary, &[] as &[&str])?;
    patient.is_well("agent")?;
    agent.process().signal(Signal::SIGSTOP)?;
    patient.is_told("agent", "problem", &["does not answer"], "kill -9")?;
    patient.until("agent-hooks", "unknown")?;
    agent.kill()?;
    let agent = Agent::start(&host, &binary, &[] as &[&str])?;
    patient.is_well("agent")?;
    patient.is_well("agent-hooks")?;
    agent.stop()
}

#[test]
fn an_agent_whose_cgroup_is_gone() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let mut patient = Patient::new(&host, &binary)?;
    let cgroup = Cgroup::create()?;
    let args = ["--cgroup".to_owned(), cgroup.path().display().to_string()];
    let agent = Agent::start(&host, &binary, &args)?;
    patient.is_well("agent-hooks")?;
    patient.is_well("agent-outlived")?;
    fs::remove_dir(cgroup.path())?;
    patient.is_told(
        "agent-hooks",
        "warning",
        &["sockops"],
        "a hook is not attached",
    )?;
    fs::create_dir(cgroup.path())?;
    patient.is_well("agent-hooks")?;
    agent.stop()
}

#[test]
fn maps_that_are_full() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let agent = Agent::start(&net.client, &binary, &["--max-connections", "1"])?;
    patient.is_well("agent-losses")?;
    let transfers = [upload(&net, 2)?, upload(&net, 2)?, upload(&net, 2)?];
    for (_, transfer) in &transfers {
        transfer.wait_for_progress(100_000, SOON)?;
    }
    patient.is_told(
        "agent-losses",
        "warning",
        &["found their map full"],
        "--max-connections",
    )?;
    for (_, transfer) in transfers {
        transfer.stop()?;
    }
    agent.stop()?;
    let agent = Agent::start(&net.client, &binary, &["--max-connections", "64"])?;
    patient.is_well("agent-losses")?;
    agent.stop()
}
