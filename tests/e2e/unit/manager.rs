//! The agent tells a service manager how it does, and leaves everything in place when
//! the manager upgrades it.

use std::cell::Cell;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::{Agent, Lab, wait};
use nix::sys::signal::Signal;

use super::values;
use crate::SETTLE;
use crate::support::{
    capped, require_agent, two_paths, upload, wait_for_cap, wait_for_log, wait_for_shares, weighted,
};

/// A service manager that only listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    unread: Cell<Vec<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self {
            socket,
            path,
            unread: Cell::default(),
            _directory: directory,
        })
    }

    /// Returns the messages that are there, each as its lines.
    fn read(&self) -> Vec<Vec<String>> {
        let mut buffer = [0; 4096];
        let mut messages = self.unread.take();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            messages.push(text.lines().map(str::to_owned).collect());
        }
        messages
    }

    /// Waits for a message with a line that begins like this. Later ones stay
    /// unread.
    fn wait(&self, begin: &str) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        wait::try_until(begin, SETTLE, || {
            let mut messages = self.read();
            let begins = |lines: &Vec<String>| lines.iter().any(|line| line.starts_with(begin));
            let Some(at) = messages.iter().position(begins) else {
                seen.extend(messages);
                return Err(seen.clone());
            };
            self.unread.set(messages.split_off(at + 1));
            Ok(messages.swap_remove(at))
        })
    }

    /// Counts the signs of life within a time.
    fn pings(&self, within: Duration) -> usize {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < within {
            let messages = self.read();
            count += messages
                .iter()
                .filter(|lines| **lines == ["WATCHDOG=1"])
                .count();
        }
        count
    }
}

#[test]
fn a_service_manager_is_told_of_every_state() -> Result<()> {
    const WATCHDOG: Duration = Duration::from_secs(1);
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let manager = Manager::new()?;
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("config.toml");
    fs::write(&config, "# nothing\n")?;
    let mut command = host.command(&binary);
    command
        .args(["run", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let agent = Agent::launch(&host, command)?;
    assert_eq!(
        manager.wait("READY=1")?,
        ["READY=1", "STATUS=policy default"]
    );

    // The loop's heartbeat is the sign of life: without it there is none.
    assert!(manager.pings(2 * WATCHDOG) >= 4);
    agent.process().signal(Signal::SIGSTOP)?;
    manager.pings(Duration::from_millis(300));
    assert_eq!(manager.pings(2 * WATCHDOG), 0);
    agent.process().signal(Signal::SIGCONT)?;
    assert!(manager.pings(2 * WATCHDOG) >= 4);

    fs::write(
        &config,
        "[policy.default]\npolicy = \"weighted\"\nweights = { p1 = 2 }\n",
    )?;
    agent.process().signal(Signal::SIGHUP)?;
    let reloading = manager.wait("RELOADING=1")?;
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    manager.wait("STATUS=policy weighted")?;
    // A configuration that is refused ends the reload as well.
    fs::write(&config, "nonsense = 1\n")?;
    agent.process().signal(Signal::SIGHUP)?;
    manager.wait("RELOADING=1")?;
    manager.wait("READY=1")?;

    agent.process().signal(Signal::SIGTERM)?;
    manager.wait("STOPPING=1")?;
    assert!(agent.ended()?.success());
    Ok(())
}

#[test]
fn an_agent_that_leaves_for_an_upgrade_leaves_everything_in_place() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = weighted(&["p1=1", "p2=3"]);
    let agent = Agent::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    wait_for_cap(&transfer)?;
    let before = agent.scrape()?;
    let status = agent.stop_with(Signal::SIGUSR2)?;
    let expected: i32 = values("RestartForceExitStatus")?.concat().parse()?;
    assert_eq!(status.code(), Some(expected));
    // Limits hold until the programs have missed the agent for two seconds.
    assert!(capped(&transfer.subflows()?));
    let next = Agent::start(&net.client, &binary, &args)?;
    let after = next.scrape()?;
    assert_eq!(after.backwards_since(&before), [] as [String; 0]);
    wait_for_log(&next, "took over the connections")?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    next.stop()
}
