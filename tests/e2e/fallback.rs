//! Hosts without MPTCP: the connection goes on as TCP, and the agent reports it.

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Lab, kernel};
use serde_json::json;

use crate::support::{Watched, capped, require_agent, scrape_until_empty, two_paths, weighted};
use crate::{LONG, SETTLE, SOON};

#[test]
fn a_server_without_mptcp_is_a_fallback() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=9"]))?;
    let sink = Server::spawn_tcp(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    assert!(kernel::mptcp_info(transfer.socket())?.fallback);
    let here = transfer.subflows()?[0].local.to_string();
    agent.event(
        "fallback",
        &[
            ("side", json!("client")),
            ("path", json!("p1")),
            ("local", json!(here)),
        ],
    )?;
    let metrics = agent.scrape()?;
    let value = |name, label: &(&str, &str)| metrics.value(name, std::slice::from_ref(label));
    let kernel = "mptcp_kernel_events_total";
    assert_eq!(
        value(kernel, &("event", "capable_fallback_synack")),
        Some(1.0)
    );
    assert_eq!(
        value("mptcp_agent_events_total", &("event", "fallback")),
        Some(1.0)
    );
    // With one path there is nothing to weigh, so the agent sets no cap.
    transfer.wait_for_progress(10_000_000, SETTLE)?;
    assert!(!capped(&transfer.subflows()?));
    transfer.stop()?;
    scrape_until_empty(&agent)?;
    agent.stop()
}

#[test]
fn a_middlebox_that_strips_mptcp_is_a_fallback() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    // Packets of the client lose their MPTCP options on arrival.
    let strip = "table inet box { chain arriving { type filter hook prerouting priority -300;\n\
                 reset tcp option mptcp\n}\n}\n";
    mptcp_lab::require!(
        net.server.nft(strip).is_ok(),
        "nftables cannot strip TCP options here"
    );
    let client = Watched::start(&net.client, &binary, &weighted(&["p1=1"]))?;
    let server = Watched::start(&net.server, &binary, &weighted(&["p1=1"]))?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    client.event("fallback", &[("path", json!("p1"))])?;
    transfer.stop()?;
    // For the server, the connection was plain TCP from the start.
    let metrics = server.scrape()?;
    assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 0.0);
    Ok(())
}

#[test]
fn the_agent_ignores_plain_tcp() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=9"]))?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG).tcp();
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(10_000_000, SETTLE)?;
    assert!(!capped(&transfer.subflows()?));
    let metrics = agent.scrape()?;
    assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 0.0);
    assert_eq!(metrics.sum("mptcp_subflows_opened_total", &[]), 0.0);
    assert_eq!(metrics.sum("mptcp_path_sent_bytes_total", &[]), 0.0);
    transfer.stop()?;
    agent.stop()
}
