//! A server names its clients' paths by their addresses, which stay the same
//! when address ids change. The agent says when ids have changed.

use anyhow::Result;
use mptcp_lab::traffic::{ANY_V4, Behaviour, Bulk, Server};
use mptcp_lab::{Lab, Path, wait};
use serde_json::json;

use crate::support::{Watched, acked_by, require_agent, scrape_until, settle, weighted};
use crate::{SETTLE, SOON, VERY_LONG};

const UNMATCHED: &str = "mptcp_policy_unmatched_selectors";

#[test]
fn addresses_of_clients_outlast_their_ids() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let uplinks = [
        Path::new("up1").rate_mbit(30.0),
        Path::new("up2").rate_mbit(30.0),
    ];
    let net = lab.routed(uplinks, Path::new("down"))?;
    let second = net.uplinks[1].client_addr;
    let by_address = weighted(&["default=1", &format!("remote:{second}=3")]);
    let by_id = weighted(&["remote-id:0=1", "remote-id:1=3"]);
    let source = Server::spawn(&net.server, ANY_V4, Behaviour::Source { rate_mbit: None })?;
    let start = || {
        let bulk = Bulk::download_for(VERY_LONG);
        let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
        transfer.wait_for_subflows(2, SOON)?;
        anyhow::Ok(transfer)
    };
    let agent = Watched::start(&net.server, &binary, &by_id)?;
    let transfer = start()?;
    let matched = |metrics: &mptcp_lab::metrics::Metrics| {
        metrics.value("mptcp_subflows", &[("path", "remote-id:1")]) == Some(1.0)
            && metrics.value(UNMATCHED, &[]) == Some(0.0)
    };
    scrape_until(&agent, "a subflow with a listed id", matched)?;

    // The endpoint gets another id.
    net.client.delete_endpoint(1)?;
    wait::try_until("the subflow to end", SOON, || match transfer.subflows() {
        Ok(subflows) if subflows.len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    net.client
        .endpoint(second, &net.uplinks[1].name, "subflow id 7")?;
    transfer.wait_for_subflows(2, SOON)?;
    scrape_until(&agent, "a listed id that nobody has", |metrics| {
        metrics.value(UNMATCHED, &[]) == Some(1.0)
    })?;
    wait::try_until("a warning", SETTLE, || {
        let log = agent.log().map_err(|error| format!("{error:#}"))?;
        let said = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["level"] == json!("WARN") && message.contains("--weight remote-id:1")
        };
        if log.iter().any(said) {
            Ok(())
        } else {
            Err(String::from("none"))
        }
    })?;
    transfer.stop()?;
    agent.stop()?;

    let agent = Watched::start(&net.server, &binary, &by_address)?;
    let transfer = start()?;
    let connection = source.connection(1, SOON)?;
    settle(&[1, 3], || {
        let subflows = connection.subflows()?;
        Ok(acked_by(&subflows, &net.uplinks, |one| one.remote.ip()))
    })?;
    let label = format!("remote:{second}");
    let labels = [("path", label.as_str())];
    // The earlier transfer also counts until it has closed. That can take a
    // minute: its client closed with a full receive buffer, and the server's
    // kernel keeps probing the window, which never opens.
    let metrics = agent.scrape()?;
    assert!(metrics.value("mptcp_subflows", &labels) >= Some(1.0));
    assert_eq!(metrics.value(UNMATCHED, &[]), Some(0.0));
    transfer.stop()?;
    agent.stop()
}
