//! A real Prometheus scrapes a live agent under traffic, and says by PromQL what
//! is true.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Lab, Path, agent, wait};

use super::server::Prometheus;
use crate::deployed::{deployed, each, yaml};
use crate::support::require_agent;
use crate::{SETTLE, SOON, VERY_LONG};

/// Returns from the test with a message if there is no Prometheus.
macro_rules! require_prometheus {
    () => {
        mptcp_lab::require!(
            mptcp_lab::require::tool("prometheus"),
            "needs prometheus (unpacked from Debian's package; `cargo xtask test` does that)"
        )
    };
}
pub(super) use require_prometheus;

/// Waits until an alert about this path has the state, "pending" say, or is over
/// if there is none.
fn wait_for_alert(
    prometheus: &Prometheus,
    name: &str,
    path: &str,
    state: Option<&str>,
) -> Result<()> {
    wait::try_until(&format!("{name} to be {state:?}"), SETTLE, || {
        let alerts = prometheus.api("alerts");
        let alerts = alerts.map_err(|error| format!("{error:#}"))?;
        let mut found = each(&alerts["alerts"]).filter(|alert| {
            alert["labels"]["alertname"] == name && alert["labels"]["path"] == path
        });
        match (found.next(), state) {
            (None, None) => Ok(()),
            (Some(alert), Some(state)) if alert["state"] == state => Ok(()),
            _ => Err(alerts.to_string()),
        }
    })
}

#[test]
fn promql_tells_shares_round_trips_policy_and_events() -> Result<()> {
    let binary = require_agent!();
    require_prometheus!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([
        Path::new("p1").rate_mbit(10.0).delay_ms(10.0),
        Path::new("p2").rate_mbit(30.0).delay_ms(20.0),
    ])?;
    let args = agent::weighted_args(&[("p1", 1), ("p2", 3)]);
    let agent = Agent::start(&net.client, &binary, &args)?;
    let prometheus = Prometheus::start(&net.client, agent.listen())?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;

    // Shares: what the agent says, and what follows from the bytes.
    for share in [
        "mptcp_path_share_ratio",
        "path:mptcp_path_share:ratio_rate5m",
    ] {
        let near = format!("abs({share}{{path=\"p1\"}} - 0.25) < 0.03");
        prometheus.wait_for(&near)?;
    }
    let target = prometheus.value("mptcp_path_weight_ratio{path=\"p2\"}")?;
    assert_eq!(target, 0.75);
    prometheus.wait_for("path:mptcp_path_share_error:ratio_rate5m{path=\"p1\"} < 0.05")?;

    // Round trips: the links take 20 and 40 ms, in the buckets from 10 and from 25 ms,
    // and full queues come on top.
    let mut medians = Vec::new();
    for link in &net.links {
        let of = |name: &str| {
            let name = format!(
                "path:mptcp_path_rtt_seconds:{name}_rate5m{{path=\"{}\"}}",
                link.name
            );
            prometheus.value(&name).context(name)
        };
        let (p50, p99) = (of("p50")?, of("p99")?);
        ensure!(p50 <= p99 && p99 < 1.0, "{}: {p50} s, {p99} s", link.name);
        medians.push(p50);
    }
    println!("medians of the round trips: {medians:?}");
    ensure!(medians[0] >= 0.01 && medians[1] >= 0.025, "{medians:?}");

    let policy = prometheus.query("mptcp_policy_info == 1")?;
    ensure!(policy.len() == 1, "{policy:?}");
    assert_eq!(policy[0].labels["policy"], "weighted");
    assert_eq!(policy[0].labels["backend"], "pacing");
    assert_eq!(policy[0].labels["job"], "mptcp");

    // Events: the transfer has opened and joined since the first scrape.
    for event in ["opened", "joined"] {
        let rose = format!("increase(mptcp_agent_events_total{{event=\"{event}\"}}[2m]) > 0.5");
        prometheus.wait_for(&rose)?;
    }
    let joined = prometheus.value("mptcp_agent_events_total{event=\"joined\"}")?;
    assert_eq!(joined, 1.0);

    every_rule_works(&prometheus)?;
    for query in documented() {
        prometheus.query(&query).context("in docs/metrics.md")?;
    }
    net.links[0].down()?;
    wait_for_alert(&prometheus, "MptcpPathDown", "p1", Some("pending"))?;
    net.links[0].up()?;
    wait_for_alert(&prometheus, "MptcpPathDown", "p1", None)?;
    transfer.stop()?;
    agent.stop()
}

/// Returns the queries in the documentation of the metrics. A line that is indented
/// goes on with the query of the line before.
fn documented() -> Vec<String> {
    let text = include_str!("../../../docs/metrics.md");
    let blocks = text.split("```promql\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let mut queries: Vec<String> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match queries.last_mut() {
            Some(query) if line.starts_with(' ') => query.push_str(line),
            _ => queries.push(line.to_owned()),
        }
    }
    queries
}

/// Checks that Prometheus has loaded each rule of `deploy/` and can evaluate it.
fn every_rule_works(prometheus: &Prometheus) -> Result<()> {
    let mut written = BTreeSet::new();
    for file in ["recording.yml", "alerts.yml"] {
        let file = yaml(&deployed("prometheus").join(file))?;
        for rule in each(&file["groups"]).flat_map(|group| each(&group["rules"])) {
            let name = rule["alert"].as_str().or(rule["record"].as_str());
            written.insert(name.context("a rule without a name")?.to_owned());
        }
    }
    wait::try_until("every rule to be evaluated", SETTLE, || {
        let rules = prometheus.api("rules");
        let rules = rules.map_err(|error| format!("{error:#}"))?;
        let loaded = each(&rules["groups"]).flat_map(|group| each(&group["rules"]));
        let (well, ill): (Vec<_>, Vec<_>) = loaded.partition(|rule| rule["health"] == "ok");
        let names = well.iter().filter_map(|rule| rule["name"].as_str());
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        if ill.is_empty() && names == written {
            return Ok(());
        }
        Err(format!("not healthy: {ill:?}; loaded: {names:?}"))
    })
}
