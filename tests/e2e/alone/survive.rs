//! The agent is killed, hangs or is replaced: connections go on as with a stock
//! kernel, and the next agent continues with what is known of them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mptcp_lab::agent::tell;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Host, Lab, wait};
use nix::sys::signal::Signal;

use crate::SOON;
use crate::support::{
    Watched, capped, require_agent, scrape_until_empty, two_paths, upload, wait_for_cap,
    wait_for_shares, weighted,
};

const CLEANUP: &[&str] = &["cleanup"];

/// No limit may come back during this time, which is twice what the programs
/// need to notice that the agent is gone.
const QUIET: Duration = Duration::from_secs(4);

/// Waits until the programs alone have lifted every limit, and checks that none
/// comes back.
fn wait_until_free(transfer: &Transfer) -> Result<()> {
    wait::try_until("no limit", SOON, || match transfer.subflows() {
        Ok(subflows) if !capped(&subflows) => Ok(()),
        other => Err(other),
    })?;
    let until = std::time::Instant::now() + QUIET;
    while std::time::Instant::now() < until {
        transfer.wait_for_progress(500_000, SOON)?;
        let subflows = transfer.subflows()?;
        ensure!(!capped(&subflows), "{subflows:#?}");
    }
    Ok(())
}

/// Returns the directory of one layout, which contains `links` and `maps`.
fn layout(host: &Host) -> Result<PathBuf> {
    let pins = host.pins()?;
    let layout = pins.first().and_then(|pin| pin.ancestors().nth(2));
    Ok(layout.context("nothing is kept")?.to_owned())
}

#[test]
fn the_limits_of_a_killed_agent_are_lifted_without_another() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    assert_eq!(
        agent.scrape()?.value("mptcp_agent_outlived", &[]),
        Some(1.0)
    );
    wait_for_cap(&transfer)?;
    agent.stop_with(Signal::SIGKILL)?;
    wait_until_free(&transfer)?;
    assert!(!net.client.pins()?.is_empty());
    transfer.stop()?;
    tell(&net.client, &binary, CLEANUP)?;
    Ok(())
}

#[test]
fn the_limits_of_an_agent_that_hangs_are_lifted_until_it_is_back() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    wait_for_cap(&transfer)?;
    agent.process().signal(Signal::SIGSTOP)?;
    wait_until_free(&transfer)?;
    agent.process().signal(Signal::SIGCONT)?;
    wait_for_cap(&transfer)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_next_agent_goes_on_with_connections_and_totals() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (sink, transfer) = upload(&net, 2)?;
    let first = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    transfer.wait_for_progress(3_000_000, SOON)?;
    let before = first.scrape()?;
    assert_eq!(before.value("mptcp_connections", &[]), Some(1.0));
    first.stop_with(Signal::SIGKILL)?;

    // A connection that opens and closes without an agent is still counted.
    let server = sink.at(net.server_addr());
    Bulk::upload_bytes(300_000).run_to_end(&net.client, server)?;
    let second = Watched::start(&net.client, &binary, &weighted(&["p2=1", "p1=4"]))?;
    let after = second.scrape()?;
    assert!(after.backwards_since(&before).is_empty());
    let opened = |metrics: &Metrics| metrics.sum("mptcp_connections_opened_total", &[]);
    assert_eq!(opened(&after), opened(&before) + 1.0);
    assert_eq!(after.value("mptcp_connections", &[]), Some(1.0));
    assert_eq!(after.value("mptcp_agent_events_lost_total", &[]), Some(0.0));
    // The agent reports the events, also of the connection in between.
    second.event("closed", &[])?;
    wait_for_shares(&transfer, &net.links, &[4, 1])?;

    transfer.stop()?;
    let last = scrape_until_empty(&second)?;
    assert!(last.backwards_since(&after).is_empty());
    second.stop()?;
    assert!(net.client.pins()?.is_empty());
    Ok(())
}

#[test]
fn twenty_kills_at_random_moments_harm_no_connection() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let mut before: Option<Metrics> = None;
    for round in 0..20_u16 {
        let policy = weighted(&["p1=1", &format!("p2={}", 1 + round % 5)]);
        let agent = Agent::start(&net.client, &binary, &policy)?;
        let metrics = agent.scrape()?;
        if let Some(before) = &before {
            let back = metrics.backwards_since(before);
            assert!(back.is_empty(), "{round}: {back:?}");
        }
        assert_eq!(
            metrics.value("mptcp_connections", &[]),
            Some(1.0),
            "{round}"
        );
        before = Some(metrics);
        // Kill the agent after a random amount of progress.
        transfer.wait_for_progress(fastrand::u64(1..3_000_000), SOON)?;
        agent.stop_with(Signal::SIGKILL)?;
    }
    wait_until_free(&transfer)?;
    assert_eq!(transfer.subflows()?.len(), 2);
    transfer.stop()?;
    let said = tell(&net.client, &binary, CLEANUP)?;
    assert!(said.contains("removed 2 attached programs"), "{said}");
    assert!(net.client.pins()?.is_empty());
    let said = tell(&net.client, &binary, CLEANUP)?;
    assert!(said.contains("nothing was left behind"), "{said}");
    Ok(())
}

#[test]
fn cleanup_frees_an_idle_connection_and_says_what_it_removed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let sink = Server::spawn(&net.server, mptcp_lab::traffic::ANY, Behaviour::Sink)?;
    // A standby path carries nothing, so no callback of its own would free it.
    let transfer = Bulk::upload_for(crate::VERY_LONG)
        .rate_mbit(4.0)
        .start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p2=0"]))?;
    wait_for_cap(&transfer)?;
    let refused =
        crate::support::failure_of(&net.client, net.client.command(&binary).arg("cleanup"))?;
    assert!(refused.contains("another mptcp-agent runs"), "{refused}");
    agent.stop_with(Signal::SIGKILL)?;
    let said = tell(&net.client, &binary, CLEANUP)?;
    for part in [
        "sockops-",
        "mptcp_subflow_get_send-",
        "18 maps",
        "CONNECTIONS",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!capped(&transfer.subflows()?));
    assert!(net.client.pins()?.is_empty());
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_layout_that_is_not_its_own_is_replaced() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    agent.stop_with(Signal::SIGKILL)?;
    let layout = layout(&net.client)?;
    let namespace = layout.parent().context("a root")?.to_owned();
    // Make a layout of another version, and put a wrong map in its own layout.
    fs::create_dir_all(namespace.join("abi-0/maps"))?;
    let maps = layout.join("maps");
    fs::rename(maps.join("TOTALS"), namespace.join("abi-0/maps/TOTALS"))?;
    fs::rename(maps.join("CONFIG"), maps.join("TOTALS"))?;

    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let replaced = |line: &&serde_json::Value| line["layout"] != serde_json::Value::Null;
    let log = agent.log()?;
    let replaced: Vec<_> = log
        .iter()
        .filter(replaced)
        .map(|line| &line["layout"])
        .collect();
    let own = layout.file_name().unwrap_or_default().to_string_lossy();
    assert_eq!(replaced, ["abi-0", &own]);
    assert!(!namespace.join("abi-0").exists());
    // The agent read none of it; the connection is adopted like any older one.
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
    assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 1.0);
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn pins_in_a_namespace_that_is_gone_are_removed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let left = {
        let gone = Lab::new()?;
        let host = gone.host("gone")?;
        let agent = Agent::start(&host, &binary, &weighted(&["p1=1"]))?;
        agent.stop_with(Signal::SIGKILL)?;
        layout(&host)?
    };
    let net = two_paths(&lab)?;
    // `cleanup` removes no pins while the heartbeat behind them is fresh.
    wait::try_until("the end of the heartbeat", SOON, || {
        match tell(&net.client, &binary, CLEANUP) {
            Ok(said) if said.contains("namespaces that are gone") => Ok(()),
            other => Err(other),
        }
    })?;
    assert!(!left.exists());
    Ok(())
}
