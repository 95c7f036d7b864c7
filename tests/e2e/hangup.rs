//! SIGHUP never ends the agent, however it was started.

use anyhow::{Context, Result};
use mptcp_lab::{Agent, Host, Lab, Process, wait};
use nix::sys::signal::Signal;

use crate::SOON;
use crate::support::require_agent;

/// Returns whether a process ignores SIGHUP: bit 0 of `SigIgn`, proc(5).
fn ignores_hangup(process: &Process) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .context("no SigIgn")?;
    Ok(u64::from_str_radix(mask.trim(), 16)? & 1 != 0)
}

/// Starts an agent from a shell that first runs `first`.
fn start(host: &Host, binary: &std::path::Path, first: &str) -> Result<Agent> {
    let mut command = host.command("sh");
    command
        .args(["-c", &format!("{first}; exec \"$0\" \"$@\"")])
        .arg(binary)
        .args(["run", "--listen", "127.0.0.1:0", "--policy", "default"]);
    Agent::launch(host, command)
}

#[test]
fn a_hangup_does_not_end_the_agent() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let agent = start(&host, &binary, ":")?;
    agent.process().signal(Signal::SIGHUP)?;
    wait::try_until(
        "a line about SIGHUP from an agent that goes on",
        SOON,
        || {
            let said = agent.stderr();
            match agent.process().is_running() && said.contains("SIGHUP changes nothing") {
                true => Ok(()),
                false => Err(said),
            }
        },
    )?;
    agent.get("/healthz")?;
    let status = agent.stop_with(Signal::SIGTERM)?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_hangup_that_is_ignored_at_the_start_stays_ignored() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    // nohup does the same.
    let agent = start(&host, &binary, "trap '' HUP")?;
    assert!(ignores_hangup(agent.process())?);
    agent.process().signal(Signal::SIGHUP)?;
    agent.get("/healthz")?;
    agent.stop()
}
