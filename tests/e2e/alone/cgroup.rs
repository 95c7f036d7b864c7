//! An agent that is given a cgroup sees only sockets in it.

use std::fs;

use anyhow::{Context, Result};
use mptcp_lab::kernel::Foreign;
use mptcp_lab::{Agent, Cgroup, Container, Lab, require};

use crate::SOON;
use crate::lifecycle::can_adopt;
use crate::support::{
    capped, failure_of, require_agent, scrape_until, scrape_until_empty, two_paths, upload,
    wait_for_cap, wait_for_shares, weighted,
};

#[test]
fn only_sockets_of_the_cgroup_are_seen_and_steered() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let cgroup = Cgroup::create()?;
    let mut args = weighted(&["p1=1", "p2=3"]);
    args.extend(["--cgroup".to_owned(), cgroup.path().display().to_string()]);
    // One connection is older than the agent, one is not; neither is in the cgroup.
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
    args.extend(["--cgroup".to_owned(), cgroup.path().display().to_string()]);
    let agent = Agent::start(&net.client, &binary, &args)?;
    let attached = |wanted| {
        scrape_until(&agent, "the state of sockops", |metrics| {
            let labels = [("program", "sockops")];
            metrics.value("mptcp_agent_program_attached", &labels) == Some(wanted)
        })
    };
    attached(1.0)?;
    fs::remove_dir(cgroup.path())?;
    attached(0.0)?;
    fs::create_dir(cgroup.path())?;
    attached(1.0)?;
    cgroup.enter()?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_container_that_hides_sockets_is_reported() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let cgroup = Cgroup::create()?;
    let args = ["--policy", "default"];
    let inside = Container::default().cgroup(&cgroup)?;
    let agent = Agent::start(&net.client.container(inside), &binary, &args)?;
    assert!(
        agent.stderr().contains("--cgroupns=host"),
        "{}",
        agent.stderr()
    );
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(500_000, SOON)?;
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(0.0));
    let sees_all = "mptcp_agent_sees_all_cgroups";
    assert_eq!(metrics.value(sees_all, &[]), Some(0.0));
    agent.stop()?;

    // Now the host's hierarchy is visible in another place.
    let directory = tempfile::tempdir()?;
    let root = cgroup.path().parent().context("no mount")?;
    let inside = Container::default().bind(root, directory.path())?;
    let inside = inside.cgroup(&cgroup)?;
    let agent = Agent::start(&net.client.container(inside), &binary, &args)?;
    assert!(!agent.stderr().contains("cgroupns"), "{}", agent.stderr());
    let metrics = scrape_until(&agent, "the connection", |metrics| {
        metrics.value("mptcp_connections", &[]) == Some(1.0)
    })?;
    assert_eq!(metrics.value(sees_all, &[]), Some(1.0));
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_program_that_allows_no_other_is_named() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let cgroup = Cgroup::create()?;
    let other = Foreign::exclusive(cgroup.path())?;
    // It also excludes programs on cgroups below.
    let below = cgroup.path().join("below");
    fs::create_dir(&below)?;
    for path in [cgroup.path(), below.as_path()] {
        let mut command = host.command(&binary);
        command.args(["run", "--listen", "127.0.0.1:0", "--cgroup"]);
        let said = failure_of(&host, command.arg(path))?;
        assert!(said.contains(Foreign::NAME), "{said}");
        assert!(said.contains("BPF_F_ALLOW_MULTI"), "{said}");
    }
    fs::remove_dir(below)?;
    drop(other);
    let args = ["--cgroup".to_owned(), cgroup.path().display().to_string()];
    Agent::start(&host, &binary, &args)?.stop()
}

#[test]
fn callbacks_that_another_program_took_are_switched_on_again() -> Result<()> {
    let binary = require_agent!();
    require!(can_adopt(), "callbacks later on need Linux 6.12");
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let cgroup = Cgroup::create()?;
    let mut args = weighted(&["p1=1", "p2=3"]);
    args.extend(["--cgroup".to_owned(), cgroup.path().display().to_string()]);
    let agent = Agent::start(&net.client, &binary, &args)?;
    let other = Foreign::silencer(cgroup.path())?;
    cgroup.enter()?;
    let (_sink, transfer) = upload(&net, 2)?;
    // A scrape visits the sockets.
    scrape_until(&agent, "callbacks again", |metrics| {
        metrics.value("mptcp_agent_rearmed_subflows_total", &[]) >= Some(2.0)
    })?;
    // The agent needs callbacks to steer, and to notice the end.
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    scrape_until_empty(&agent)?;
    drop(other);
    agent.stop()
}

#[test]
fn subflows_that_closed_without_a_callback_are_removed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let cgroup = Cgroup::create()?;
    let args = ["--cgroup".to_owned(), cgroup.path().display().to_string()];
    let agent = Agent::start(&net.client, &binary, &args)?;
    let other = Foreign::silencer(cgroup.path())?;
    cgroup.enter()?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(500_000, SOON)?;
    // There was no scrape, so no sweep has switched the callbacks on.
    transfer.stop()?;
    drop(other);
    let metrics = scrape_until_empty(&agent)?;
    let reclaimed = metrics.value("mptcp_agent_reclaimed_subflows_total", &[]);
    assert_eq!(reclaimed, Some(2.0));
    agent.stop()
}
