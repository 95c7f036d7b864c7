//! A path that passes a bound of loss or round trip becomes standby, and comes
//! back once it is well.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::link::Family;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Direction, Lab, Path, TwoHosts, wait};
use serde_json::Value;

use crate::support::{
    Watched, acked_by, capped, failure_of, require_agent, scrape_until, two_paths, upload,
    wait_for_shares, wait_for_window, weighted,
};
use crate::{SETTLE, SOON, VERY_LONG};

/// Enough time for a trial that fails, and for the one after it.
const TWO_TRIALS: Duration = Duration::from_secs(60);

/// Returns the arguments of a policy with these bounds.
fn with_bounds(mut policy: Vec<String>, bounds: &[&str]) -> Vec<String> {
    for bound in bounds {
        policy.extend(["--leave-out".to_owned(), (*bound).to_owned()]);
    }
    policy
}

fn policy(words: &[&str]) -> Vec<String> {
    let words = ["--policy"].iter().chain(words);
    words.map(|&word| word.to_owned()).collect()
}

fn is_left_out(metrics: &Metrics, path: &str) -> Option<bool> {
    let value = metrics.value("mptcp_path_left_out", &[("path", path)]);
    value.map(|value| value != 0.0)
}

fn times(metrics: &Metrics, path: &str, reason: &str) -> Option<f64> {
    let labels = [("path", path), ("reason", reason)];
    metrics.value("mptcp_path_left_out_total", &labels)
}

/// Waits until a path that was left out is used again.
fn wait_until_back(agent: &Agent, path: &str) -> Result<()> {
    wait::try_until("the path to be used again", TWO_TRIALS, || {
        match agent.scrape() {
            Ok(metrics) if is_left_out(&metrics, path) == Some(false) => Ok(()),
            Ok(metrics) => Err(format!("{:?}", is_left_out(&metrics, path))),
            Err(error) => Err(format!("{error:#}")),
        }
    })
}

/// Waits until the path at `index` carries next to nothing, or (almost) all.
fn wait_for_part(transfer: &Transfer, net: &TwoHosts, index: usize, all: bool) -> Result<()> {
    let bytes = || {
        let subflows = transfer.subflows()?;
        Ok(acked_by(&subflows, &net.links, |one| one.local.ip()))
    };
    wait_for_window(
        "a path to carry all or nothing",
        bytes,
        |shares| match all {
            true => shares[index] > 0.98,
            false => shares[index] < 0.02,
        },
    )
}

/// Lets the server know its neighbours for good. Where the client's subflow goes to
/// an address of another link, the server asks for the client from that address,
/// and the client's answer may take that other link.
fn keep_neighbours(net: &TwoHosts) -> Result<()> {
    for link in &net.links {
        let shown = net
            .client
            .run(&format!("ip -o link show dev {}", link.name))?;
        let mut words = shown.split_whitespace();
        words
            .find(|word| *word == "link/ether")
            .context("no Ethernet")?;
        let address = words.next().context("no address")?;
        net.server.run(&format!(
            "ip neigh replace {} lladdr {address} dev {} nud permanent",
            link.client_addr, link.name
        ))?;
    }
    Ok(())
}

/// Returns what `status` says of a path.
fn status_of(agent: &Agent, path: &str) -> Result<Value> {
    let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"])?)?;
    let paths = status["paths"].as_array().context("no paths")?;
    let path = paths.iter().find(|one| one["path"] == path);
    path.cloned().context("no such path")
}

#[test]
fn a_weighted_path_that_loses_rests_and_comes_back() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = with_bounds(weighted(&["p1=1", "p2=1"]), &["p2=loss:5%"]);
    let agent = Watched::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 1])?;
    let metrics = agent.scrape()?;
    assert_eq!(is_left_out(&metrics, "p2"), Some(false));
    assert_eq!(is_left_out(&metrics, "p1"), None, "it has no bounds");

    net.links[1].set_loss(Direction::Both, 10.0)?;
    let event = agent.event("path_left_out", &[("path", "p2".into())])?;
    assert_eq!(event["reason"], "loss");
    assert_eq!(event["loss_bound"], 0.05);
    assert!(event["loss"].as_f64().is_some_and(|loss| loss > 0.05));
    let metrics = agent.scrape()?;
    assert_eq!(is_left_out(&metrics, "p2"), Some(true));
    assert_eq!(times(&metrics, "p2", "loss"), Some(1.0));
    assert_eq!(times(&metrics, "p2", "rtt"), Some(0.0));
    let ratio = metrics.value("mptcp_path_weight_ratio", &[("path", "p2")]);
    assert_eq!(ratio, Some(0.0));
    let shown = status_of(&agent, "p2")?;
    assert_eq!(
        (&shown["weight"], &shown["left_out"]["reason"]),
        (&1.into(), &"loss".into())
    );
    let text = agent.tell(&["status"])?;
    assert!(text.contains("left out: loss "), "{text}");
    assert!(text.contains(" of at most 5.0"), "{text}");
    wait_for_part(&transfer, &net, 1, false)?;

    net.links[1].set_loss(Direction::Both, 0.0)?;
    wait_until_back(&agent, "p2")?;
    agent.event("path_tried_again", &[("path", "p2".into())])?;
    let event = agent.event("path_back", &[("path", "p2".into())])?;
    assert!(event["loss"].as_f64().is_some_and(|loss| loss <= 0.025));
    assert_eq!(status_of(&agent, "p2")?["left_out"], Value::Null);
    wait_for_shares(&transfer, &net.links, &[1, 1])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_preferred_path_that_loses_gives_way_to_the_next_over_ipv6() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let paths = [("p1", 40.0), ("p2", 20.0)];
    let path = |(name, rate): (&str, f64)| Path::new(name).rate_mbit(rate).family(Family::V6);
    let net = lab.two_hosts(paths.map(path))?;
    let args = policy(&["overflow", "--prefer", "p1", "--leave-out", "p1=loss:5%"]);
    let agent = Watched::start(&net.client, &binary, &args)?;
    keep_neighbours(&net)?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(8.0);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    wait_for_part(&transfer, &net, 0, true)?;
    net.links[0].set_loss(Direction::Both, 15.0)?;
    agent.event("path_left_out", &[("path", "p1".into())])?;
    let shown = status_of(&agent, "p1")?;
    assert_eq!(shown["rank"], 1, "it is the preferred one all the same");
    wait_for_part(&transfer, &net, 1, true)?;
    net.links[0].set_loss(Direction::Both, 0.0)?;
    wait_until_back(&agent, "p1")?;
    wait_for_part(&transfer, &net, 0, true)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_path_that_takes_too_long_is_left_out_of_an_aggregate() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([
        Path::new("p1").rate_mbit(20.0),
        Path::new("p2").rate_mbit(10.0).delay_ms(100.0),
    ])?;
    let bounds = |bound: &str| {
        [
            "aggregate".to_owned(),
            "--leave-out".to_owned(),
            bound.to_owned(),
        ]
    };
    let args: Vec<String> = ["--policy".to_owned()]
        .into_iter()
        .chain(bounds("default=rtt:150ms"))
        .collect();
    let agent = Watched::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let event = agent.event("path_left_out", &[("path", "p2".into())])?;
    assert_eq!(event["reason"], "rtt");
    assert_eq!(event["rtt_bound_seconds"], 0.15);
    assert!(event["rtt_seconds"].as_f64().is_some_and(|rtt| rtt > 0.2));
    let metrics = agent.scrape()?;
    assert_eq!(is_left_out(&metrics, "p1"), Some(false));
    assert_eq!(is_left_out(&metrics, "p2"), Some(true));
    assert_eq!(times(&metrics, "p2", "rtt"), Some(1.0));
    wait_for_part(&transfer, &net, 1, false)?;
    // Its trial shows that it takes as long as before.
    agent.event("path_tried_again", &[("path", "p2".into())])?;
    let text = agent.tell(&["status"])?;
    assert!(text.contains("round trip 2"), "{text}");
    scrape_until(&agent, "the trial to fail", |_| {
        agent
            .events("path_left_out")
            .is_ok_and(|events| events.len() == 2)
    })?;
    assert_eq!(times(&agent.scrape()?, "p2", "rtt"), Some(1.0));
    // Another bound, which it keeps.
    let set = ["policy".to_owned(), "set".to_owned()].into_iter();
    agent.tell(&set.chain(bounds("p2=rtt:5s")).collect::<Vec<_>>())?;
    wait::try_until("no limit", SOON, || match transfer.subflows() {
        Ok(subflows) if !capped(&subflows) => Ok(()),
        other => Err(other),
    })?;
    scrape_until(&agent, "p2 to be used", |metrics| {
        is_left_out(metrics, "p2") == Some(false) && is_left_out(metrics, "p1").is_none()
    })?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn one_of_two_bad_paths_stays() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = with_bounds(weighted(&["p1=1", "p2=1"]), &["default=loss:5%"]);
    let agent = Watched::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for link in &net.links {
        link.set_loss(Direction::Both, 12.0)?;
    }
    let out = |metrics: &Metrics| {
        let out = |path: &&&str| is_left_out(metrics, path) == Some(true);
        ["p1", "p2"].iter().filter(out).count()
    };
    scrape_until(&agent, "a path to be left out", |metrics| out(metrics) == 1)?;
    // Long enough for a trial, in which the other one is no better.
    agent.event("path_tried_again", &[])?;
    transfer.wait_for_progress(1_000_000, SETTLE)?;
    assert!(out(&agent.scrape()?) <= 1);
    // The one that is left out takes over at once if the other one dies.
    let metrics = scrape_until(&agent, "a path to be left out", |metrics| out(metrics) == 1)?;
    let stays = usize::from(is_left_out(&metrics, "p1") == Some(true));
    net.links[1 - stays].set_loss(Direction::Both, 0.0)?;
    net.links[stays].blackhole(Direction::Both, true)?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn bounds_are_set_while_the_agent_runs_and_end_with_it() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&[]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    for (policy, expected) in [
        (
            "redundant",
            "--leave-out has no effect under policy redundant",
        ),
        ("default", "--leave-out has no effect under policy default"),
    ] {
        let mut command = net.client.command(&binary);
        command.args(["policy", "set", policy, "--leave-out", "p2=loss:5%"]);
        let error = failure_of(&net.client, &mut command)?;
        assert!(error.contains(expected), "{error}");
    }
    let bounds = ["--leave-out", "default=loss:5%", "--leave-out", "p1=none"];
    let set = ["policy", "set", "weighted"].iter().chain(&bounds);
    agent.tell(&set.collect::<Vec<_>>())?;
    let shown = agent.tell(&["policy", "show"])?;
    assert!(
        shown.contains("--leave-out default=loss:5% --leave-out p1=none"),
        "{shown}"
    );
    net.links[1].set_loss(Direction::Both, 15.0)?;
    scrape_until(&agent, "p2 to be left out", |metrics| {
        is_left_out(metrics, "p2") == Some(true)
    })?;
    // Another weight, and the same bounds: it stays out.
    let weight = ["--weight", "p1=2"];
    let set = ["policy", "set", "weighted"]
        .iter()
        .chain(&weight)
        .chain(&bounds);
    agent.tell(&set.collect::<Vec<_>>())?;
    let held_out = || {
        let subflows = transfer.subflows()?;
        let zero = |one: &&_| held(one);
        anyhow::Ok(subflows.iter().filter(zero).count())
    };
    wait::try_until("p2 to be held out", SOON, || match held_out() {
        Ok(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;

    // The programs lift what they find at a callback. A subflow that is idle has
    // none, so the next agent lifts that, and starts with all paths in use.
    agent.kill()?;
    transfer.wait_for_progress(1_000_000, SETTLE)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&[]))?;
    wait::try_until("p2 to be used", SOON, || match held_out() {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    assert_eq!(is_left_out(&agent.scrape()?, "p2"), None);
    transfer.wait_for_progress(1_000_000, SETTLE)?;
    transfer.stop()?;
    agent.stop()
}

fn held(subflow: &mptcp_lab::kernel::SubflowInfo) -> bool {
    subflow.max_pacing_rate_bytes_per_sec == 0
}
