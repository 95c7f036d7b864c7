//! A subflow that is reset soon after its join: events, metrics and
//! `connections` say so, with the reason that the reset gave.

use anyhow::{Context, Result};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::{Agent, Lab, TwoHosts, wait};
use serde_json::{Value, json};

use crate::support::{Watched, require_agent, scrape_until, two_paths, upload};
use crate::{SETTLE, SOON};

const NO_ARGS: [&str; 0] = [];

/// The total of early resets.
const EARLY: &str = "mptcp_subflows_reset_early_total";

/// Waits for the end of the subflow on the second path, and returns the event.
fn end_of_second(agent: &Watched) -> Result<Value> {
    agent.event("subflow_closed", &[("path", json!("p2"))])
}

/// Waits until exactly one subflow of the second path counts as reset early,
/// for this reason.
fn counted(agent: &Agent, reason: &str) -> Result<Metrics> {
    let metrics = scrape_until(agent, "an early reset", |metrics| {
        metrics.sum(EARLY, &[]) > 0.0
    })?;
    let labels = [("path", "p2"), ("reason", reason)];
    assert_eq!(metrics.value(EARLY, &labels), Some(1.0), "{reason}");
    assert_eq!(metrics.sum(EARLY, &[]), 1.0);
    Ok(metrics)
}

fn connection(agent: &Agent) -> Result<Value> {
    let text = agent.tell(&["connections", "--json"])?;
    let all: Value = serde_json::from_str(&text).with_context(|| text)?;
    Ok(all["connections"][0].clone())
}

/// Answers packets that arrive at the server on the second path with a reset,
/// as a firewall does.
fn reject(net: &TwoHosts) -> Result<()> {
    let addr = net.links[1].client_addr;
    net.server.nft(&format!(
        "table inet resetting {{ chain arriving {{ type filter hook input priority 0;\n\
         ip saddr {addr} meta l4proto tcp reject with tcp reset\n}}\n}}\n"
    ))
}

#[test]
fn a_firewalls_reset_is_early_and_has_no_reason_and_the_connection_is_short() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &NO_ARGS)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let whole = connection(&client)?;
    assert_eq!(whole["subflows_allowed"], 2, "{whole}");
    assert_eq!(whole["short"], Value::Null, "{whole}");

    reject(&net)?;
    let end = end_of_second(&client)?;
    assert_eq!(end["reason"], "reset", "{end}");
    assert_eq!(end["reset_by"], "peer", "{end}");
    assert_eq!(end["reset_early"], true, "{end}");
    assert_eq!(end["reset_reason"], Value::Null, "{end}");
    assert!(end["age_seconds"].as_f64() < Some(5.0), "{end}");
    let said = "subflow was reset by the peer soon after its join";
    assert_eq!(end["message"], said);
    counted(&client, "none")?;

    let short = wait::try_until("a short connection", SETTLE, || match connection(&client) {
        Ok(connection) if connection["short"] == true => Ok(connection),
        other => Err(other.map_err(|error| format!("{error:#}"))),
    })?;
    assert_eq!(short["subflows_allowed"], 2, "{short}");
    let subflows = short["subflows"].as_array().context("no subflows")?;
    assert_eq!(subflows.len(), 1, "{short}");
    let table = client.tell(&["connections"])?;
    assert!(table.contains("1 of 2"), "{table}");
    assert!(
        table.contains("1 connection has fewer subflows than this host's endpoints allow"),
        "{table}"
    );
    // With a limit of 0 the kernel may open no other subflow.
    net.client.limits(0, 0)?;
    let whole = connection(&client)?;
    assert_eq!(whole["subflows_allowed"], 1, "{whole}");
    assert_eq!(whole["short"], Value::Null, "{whole}");
    net.client.limits(2, 2)?;

    // The end of the connection is no loss of a subflow.
    transfer.stop()?;
    client.event("closed", &[])?;
    counted(&client, "none")?;
    client.stop()
}

#[test]
fn a_reset_with_a_reason_is_told_at_both_ends() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &NO_ARGS)?;
    let server = Watched::start(&net.server, &binary, &NO_ARGS)?;
    let (_sink, transfer) = upload(&net, 2)?;
    // The kernel resets a subflow whose socket is destroyed, and gives the
    // reason 0.
    let addr = net.links[1].client_addr;
    net.client.run(&format!("ss -K -t src {addr}"))?;
    for (agent, by) in [(&client, "local"), (&server, "peer")] {
        let end = end_of_second(agent)?;
        assert_eq!(end["reset_by"], by, "{end}");
        assert_eq!(end["reset_reason"], "unspecified", "{end}");
        assert_eq!(end["reset_transient"], false, "{end}");
        assert_eq!(end["reset_early"], true, "{end}");
        counted(agent, "unspecified")?;
    }
    let end = end_of_second(&client)?;
    let said = "subflow was reset by this host soon after its join";
    assert_eq!(end["message"], said);
    transfer.wait_for_progress(500_000, SOON)?;
    // The server does not open subflows, so it lacks none.
    let shown = connection(&server)?;
    assert_eq!(shown["subflows_allowed"], Value::Null, "{shown}");
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_subflow_whose_options_are_stripped_is_reset_for_the_middlebox() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &NO_ARGS)?;
    let server = Watched::start(&net.server, &binary, &NO_ARGS)?;
    let (_sink, transfer) = upload(&net, 2)?;
    // From now on, what the client sends on the second path loses its options.
    let addr = net.links[1].client_addr;
    let strip = format!(
        "table inet box {{ chain arriving {{ type filter hook prerouting priority -300;\n\
         ip saddr {addr} reset tcp option mptcp\n}}\n}}\n"
    );
    mptcp_lab::require!(
        net.server.nft(&strip).is_ok(),
        "nftables cannot strip TCP options here"
    );
    // The server finds data that belongs nowhere, and resets the subflow.
    let sent = end_of_second(&server)?;
    let seen = end_of_second(&client)?;
    assert_eq!(
        (&sent["reset_by"], &seen["reset_by"]),
        (&json!("local"), &json!("peer"))
    );
    for end in [&sent, &seen] {
        assert_eq!(end["reset_reason"], "middlebox-interference", "{end}");
        assert_eq!(end["reset_early"], true, "{end}");
    }
    let metrics = counted(&client, "middlebox-interference")?;
    counted(&server, "middlebox-interference")?;
    // The kernel counts the same.
    let kernel = "mptcp_kernel_events_total";
    assert_eq!(metrics.value(kernel, &[("event", "rst_rx")]), Some(1.0));
    transfer.wait_for_progress(500_000, SOON)?;
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_connection_that_is_aborted_loses_no_subflow_early() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Watched::start(&net.client, &binary, &NO_ARGS)?;
    let server = Watched::start(&net.server, &binary, &NO_ARGS)?;
    let (_sink, transfer) = upload(&net, 2)?;
    // Disconnecting the socket cuts all of the connection off (MP_FASTCLOSE).
    rustix::net::connect_unspec(transfer.socket()).context("disconnect")?;
    for agent in [&client, &server] {
        agent.event("closed", &[])?;
        let metrics = scrape_until(agent, "the end", |metrics| {
            metrics.sum("mptcp_subflows_closed_total", &[]) == 2.0
        })?;
        assert_eq!(metrics.sum(EARLY, &[]), 0.0);
        let ends = agent.events("subflow_closed")?;
        let joined = ends.iter().find(|end| end["path"] == "p2");
        let joined = joined.context("the second path lost no subflow")?;
        assert!(joined["reset_by"].is_string(), "{joined}");
        assert!(
            ends.iter().all(|end| end["reset_early"] != true),
            "{ends:#?}"
        );
    }
    Ok(())
}
