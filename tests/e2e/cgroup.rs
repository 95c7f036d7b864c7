//! An agent that is given a cgroup keeps to it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use mptcp_lab::cleanup::Cleanup;
use mptcp_lab::{Agent, Lab};

use crate::SOON;
use crate::support::{
    capped, require_agent, scrape_until, two_paths, upload, wait_for_cap, weighted,
};

/// A cgroup of this test, gone with its guard.
struct Cgroup {
    path: PathBuf,
    _removal: Cleanup,
}

impl Cgroup {
    fn create() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[2] == "cgroup2").then(|| fields[1].to_owned())
        });
        let mount = PathBuf::from(mount.context("no cgroup2 mount")?);
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = mount.join(own.context("no cgroup of our own")?);
        let path = mount.join(format!("mptcp-e2e-{}", std::process::id()));
        let removal = Cleanup::new({
            let path = path.clone();
            move || {
                // Whoever is in it goes home first.
                let _ = fs::write(home.join("cgroup.procs"), std::process::id().to_string());
                let _ = fs::remove_dir(path);
            }
        });
        fs::create_dir(&path)?;
        Ok(Self {
            path,
            _removal: removal,
        })
    }

    /// This process moves in: its sockets from now on are the cgroup's.
    fn enter(&self) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        fs::write(procs, std::process::id().to_string()).context("enter a cgroup")
    }
}

#[test]
fn only_sockets_of_the_cgroup_are_seen_and_steered() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let cgroup = Cgroup::create()?;
    let mut args = weighted(&["p1=1", "p2=3"]);
    args.extend(["--cgroup".to_owned(), cgroup.path.display().to_string()]);
    // One is older than the agent, one is not; neither is in the cgroup.
    let (_older_sink, older) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &args)?;
    let (_sink, newer) = upload(&net, 2)?;
    newer.wait_for_progress(2_000_000, SOON)?;
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(0.0));
    assert_eq!(metrics.sum("mptcp_subflows_opened_total", &[]), 0.0);
    newer.wait_for_progress(2_000_000, SOON)?;
    assert!(!capped(&newer.subflows()?) && !capped(&older.subflows()?));
    older.stop()?;
    newer.stop()?;

    cgroup.enter()?;
    let (_own_sink, own) = upload(&net, 2)?;
    wait_for_cap(&own)?;
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
    own.stop()?;
    scrape_until(&agent, "nothing left", |metrics| {
        metrics.value("mptcp_connections", &[]) == Some(0.0)
            && metrics.sum("mptcp_subflows", &[]) == 0.0
    })?;
    agent.stop()
}

#[test]
fn a_cgroup_that_disappears_and_comes_back_is_followed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let cgroup = Cgroup::create()?;
    let mut args = weighted(&["p1=1", "p2=3"]);
    args.extend(["--cgroup".to_owned(), cgroup.path.display().to_string()]);
    let agent = Agent::start(&net.client, &binary, &args)?;
    let attached = |wanted| {
        scrape_until(&agent, "the state of sockops", |metrics| {
            let labels = [("program", "sockops")];
            metrics.value("mptcp_agent_program_attached", &labels) == Some(wanted)
        })
    };
    attached(1.0)?;
    fs::remove_dir(&cgroup.path)?;
    attached(0.0)?;
    fs::create_dir(&cgroup.path)?;
    attached(1.0)?;
    cgroup.enter()?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    transfer.stop()?;
    agent.stop()
}
