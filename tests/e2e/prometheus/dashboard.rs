//! Every query of the dashboard gives something on the series of a live agent.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::{ANY, Behaviour, Server};
use mptcp_lab::{Agent, Lab, wait};
use serde_json::Value;
use tempfile::TempDir;

use super::live::require_prometheus;
use super::server::Prometheus;
use crate::SETTLE;
use crate::deployed::{deployed, each};
use crate::redundant_key::KeyFile;
use crate::redundant_support::ask;
use crate::support::{require_agent, two_paths, upload};

/// The text that Grafana puts in for the choices on top of the dashboard, if all agents
/// and paths are chosen. `$__rate_interval` is at least four times the interval of
/// scrapes.
const CHOSEN: [(&str, &str); 4] = [
    ("$job", ".*"),
    ("$instance", ".*"),
    ("$path", ".*"),
    ("$__rate_interval", "10s"),
];

/// A policy, and the metrics that exist under it alone.
const OVERFLOW: &str = "mptcp_path_rank";
const REDUNDANT: &str = "mptcp_redundant_";

/// Returns the dashboard with everything chosen.
fn dashboard() -> Result<Value> {
    let mut text = fs::read_to_string(deployed("grafana/mptcp-agent.json"))?;
    for (choice, value) in CHOSEN {
        text = text.replace(choice, value);
    }
    Ok(serde_json::from_str(&text)?)
}

/// Returns the title and the expression of each query.
fn queries(dashboard: &Value) -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for panel in each(&dashboard["panels"]) {
        for target in each(&panel["targets"]) {
            let title = panel["title"].as_str().context("a panel without a title")?;
            let expression = target["expr"].as_str().context("a query of nothing")?;
            queries.push((title.to_owned(), expression.to_owned()));
        }
    }
    Ok(queries)
}

/// Waits until each of the queries gives a number.
fn wait_for_all(prometheus: &Prometheus, queries: &[&(String, String)]) -> Result<()> {
    ensure!(!queries.is_empty(), "no query needs this policy");
    let mut left = queries.to_vec();
    wait::try_until("every query to give something", SETTLE, || {
        let mut seen = Vec::new();
        left.retain(|(title, expression)| match prometheus.query(expression) {
            Ok(series) if series.iter().any(|one| one.value.is_finite()) => false,
            other => {
                seen.push(format!("{title}: {expression}: {other:?}"));
                true
            }
        });
        if seen.is_empty() { Ok(()) } else { Err(seen) }
    })
}

/// Checks that each choice on top of the dashboard has something to choose from.
fn every_choice_has_values(prometheus: &Prometheus, dashboard: &Value) -> Result<()> {
    let mut count = 0;
    for choice in each(&dashboard["templating"]["list"]) {
        let Some(query) = choice["query"]["query"].as_str() else {
            continue;
        };
        let inside = query.strip_prefix("label_values(").context("no labels")?;
        let inside = inside.strip_suffix(')').context("no end")?;
        let (series, label) = inside.rsplit_once(", ").context("no label")?;
        let found = prometheus.query(series)?;
        let has = |label: &str| found.iter().any(|one| one.labels[label].is_string());
        ensure!(has(label), "{query}: {found:?}");
        count += 1;
    }
    ensure!(count == 3, "{count} choices");
    Ok(())
}

#[test]
fn every_query_of_the_dashboard_gives_something() -> Result<()> {
    let binary = require_agent!();
    require_prometheus!();
    let dashboard = dashboard()?;
    let queries = queries(&dashboard)?;
    let of = |prefix: &str| {
        let own = |(_, expression): &&(String, String)| expression.contains(prefix);
        queries.iter().filter(own).collect::<Vec<_>>()
    };
    let (overflow, redundant) = (of(OVERFLOW), of(REDUNDANT));
    let first = queries.iter();
    let first = first.filter(|one| !overflow.contains(one) && !redundant.contains(one));

    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let state = TempDir::new()?;
    let state = state.path().to_str().context("a path of UTF-8")?;
    let args = "--policy weighted --weight p1=1 --weight p2=1 --quota p2=1GB/day \
                --limit p1=20mbit --leave-out p2=loss:50% --measure-programs --ask-peer";
    let key = KeyFile::new("dashboard", b"sixteen bytes and more\n", 0o600)?;
    let path = key.path();
    let with_key = ["--redundant-key", &path];
    let args = args.split_whitespace().chain(["--state-dir", state]);
    let args = args.chain(with_key);
    let agent = Agent::start(&net.client, &binary, &args.collect::<Vec<_>>())?;
    let prometheus = Prometheus::start(&net.client, agent.listen())?;
    let (sink, transfer) = upload(&net, 2)?;
    wait_for_all(&prometheus, &first.collect::<Vec<_>>()).context("weighted")?;
    every_choice_has_values(&prometheus, &dashboard)?;

    agent.tell(&[
        "policy", "set", "overflow", "--prefer", "p1", "--prefer", "p2",
    ])?;
    wait_for_all(&prometheus, &overflow).context("overflow")?;

    // A transfer that fills the paths has no copies; requests have.
    transfer.stop()?;
    drop(sink);
    let peer = Agent::redundant(&net.server, &binary, &with_key)?;
    agent.tell(&[&["policy", "set", "redundant"], &with_key[..]].concat())?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let requests = ask(&net.client, &echo, &net.links)?;
    wait_for_all(&prometheus, &redundant).context("redundant")?;
    prometheus.wait_for("rate(mptcp_redundant_copies_sent_total[10s]) > 0")?;
    let log = prometheus.log();
    ensure!(log.is_empty(), "Prometheus said:\n{log}");
    requests.stop()?;
    peer.stop()?;
    agent.stop()
}
