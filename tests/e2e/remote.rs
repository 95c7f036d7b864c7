//! A server names its clients' paths by their addresses, which stay the same
//! when address ids change. The agent says when ids have changed.

use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::traffic::{ANY, ANY_V4, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Lab, Path, wait};
use serde_json::json;

use crate::support::{Watched, acked_by, require_agent, scrape_until, settle, two_paths, weighted};
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

#[test]
fn a_limit_holds_for_connections_to_a_port() -> Result<()> {
    const LIMIT: f64 = 1_000_000.0;
    const WINDOW: Duration = Duration::from_secs(4);
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let sinks = [(); 2].map(|()| Server::spawn(&net.server, ANY, Behaviour::Sink));
    let [limited, free] = sinks;
    let (limited, free) = (limited?, free?);
    let path = format!("remote-port:{}", limited.at(net.server_addr()).port());
    let limit = format!("{path}=8mbit");
    let agent = Agent::start(&net.client, &binary, &["--limit", &limit])?;
    let start = |sink: &Server| {
        let bulk = Bulk::upload_for(VERY_LONG);
        let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
        transfer.wait_for_subflows(2, SOON)?;
        anyhow::Ok(transfer)
    };
    let transfers = [start(&limited)?, start(&free)?];
    scrape_until(&agent, "both subflows to the port on its path", |metrics| {
        metrics.value("mptcp_subflows", &[("path", &path)]) == Some(2.0)
    })?;

    let acked = |transfer: &Transfer| -> Result<u64> {
        Ok(transfer.subflows()?.iter().map(|one| one.bytes_acked).sum())
    };
    let mut samples: Vec<(Instant, [u64; 2])> = Vec::new();
    wait::try_until("the port at its limit, and not the other", SETTLE, || {
        let now = Instant::now();
        let [Ok(one), Ok(other)] = [acked(&transfers[0]), acked(&transfers[1])] else {
            return Err(Vec::new());
        };
        samples.push((now, [one, other]));
        let old = samples.iter().rev().find(|(at, _)| now - *at >= WINDOW);
        let Some((then, before)) = old else {
            return Err(Vec::new());
        };
        let seconds = (now - *then).as_secs_f64();
        let rates = [one - before[0], other - before[1]].map(|bytes| bytes as f64 / seconds);
        let holds = (rates[0] / LIMIT - 1.0).abs() < 0.05 && rates[1] > 2.0 * LIMIT;
        if holds { Ok(()) } else { Err(rates.to_vec()) }
    })?;
    for transfer in transfers {
        transfer.stop()?;
    }
    agent.stop()
}
