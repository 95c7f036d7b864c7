//! `--limit`: a ceiling for the host on a path, under every policy. What counts
//! are acknowledged bytes, so the tests read those of the kernel's subflows.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::share::Totals;
use mptcp_lab::traffic::{ANY, Crowd, Crowding, PollServer, Service, Sockets};
use mptcp_lab::{Agent, Lab, Path, TwoHosts, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{capped, require_agent, two_paths, upload, wait_for_cap, weighted};
use crate::{SETTLE, SOON};

/// Over so much time a limit is kept.
const WINDOW: Duration = Duration::from_secs(5);
/// So well it is kept.
const ERROR_MAX: f64 = 0.02;
/// So many windows in a row have to fit.
const IN_A_ROW: usize = 4;
/// A path that carries so much of its link is full.
const FULL: f64 = 0.85;

const MBIT: f64 = 125_000.0;

/// Uploads over all paths.
struct Load {
    crowd: Crowding,
    sink: PollServer,
}

impl Load {
    fn start(net: &TwoHosts, connections: usize) -> Result<Self> {
        let sink = PollServer::spawn(&net.server, ANY, Service::Sink, &Sockets::default())?;
        let uploads = Crowd::uploads(connections);
        let crowd = uploads.start(&net.client, sink.at(net.server_addr()))?;
        crowd.wait_for_joins(net.links.len(), SOON)?;
        Ok(Self { crowd, sink })
    }

    fn stop(self) -> Result<()> {
        self.crowd.stop()?;
        self.sink.stop()
    }
}

/// Waits until `fits` accepts the rates of all paths, Mbit/s of acknowledged
/// bytes, in [`IN_A_ROW`] windows that each begin half a second after the one
/// before.
fn wait_for_rates(
    what: &str,
    crowd: &Crowding,
    net: &TwoHosts,
    fits: impl Fn(&[f64]) -> bool,
) -> Result<()> {
    const STEP: Duration = Duration::from_millis(500);
    let addresses: Vec<_> = net.links.iter().map(|link| link.client_addr).collect();
    let mut totals = Totals::default();
    let mut samples: Vec<(Instant, Vec<u64>)> = Vec::new();
    let mut seen: Vec<Vec<f64>> = Vec::new();
    let mut in_a_row = 0;
    wait::try_until(what, SETTLE, || {
        if samples.last().is_some_and(|(at, _)| at.elapsed() < STEP) {
            return Err(seen.clone());
        }
        let Ok(subflows) = crowd.subflows() else {
            return Err(seen.clone());
        };
        let now = Instant::now();
        totals.read(&subflows, &addresses);
        samples.push((now, totals.paths.clone()));
        let old = samples.iter().rev();
        let Some((then, before)) = old.into_iter().find(|(at, _)| now - *at >= WINDOW) else {
            return Err(seen.clone());
        };
        let seconds = (now - *then).as_secs_f64();
        let rate = |(now, then): (&u64, &u64)| (now - then) as f64 / seconds / MBIT;
        let rates: Vec<f64> = totals.paths.iter().zip(before).map(rate).collect();
        in_a_row = if fits(&rates) { in_a_row + 1 } else { 0 };
        seen.push(rates);
        if in_a_row == IN_A_ROW {
            let last = &seen[seen.len() - IN_A_ROW..];
            println!("{what}: {last:.2?} Mbit/s");
            return Ok(());
        }
        Err(seen.clone())
    })
}

/// Waits until p2 carries just its limit, and p1 all that it can.
fn wait_for_limit(what: &str, crowd: &Crowding, net: &TwoHosts, limit_mbit: f64) -> Result<()> {
    let what = format!("{what}: p2 at {limit_mbit} Mbit/s");
    wait_for_rates(&what, crowd, net, |rates| {
        (rates[1] / limit_mbit - 1.0).abs() < ERROR_MAX && rates[0] > FULL * 40.0
    })
}

/// Checks that one and ten uploads keep a limit under a policy.
fn holds(policy: &[&str]) -> Result<()> {
    let binary = require_agent!();
    for connections in [1, 10] {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let args = [policy, &["--limit", "p2=8mbit"]].concat();
        let agent = Agent::start(&net.client, &binary, &args)?;
        let load = Load::start(&net, connections)?;
        let what = format!("{connections} uploads, {policy:?}");
        wait_for_limit(&what, &load.crowd, &net, 8.0)?;
        load.stop()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn under_the_default_policy() -> Result<()> {
    holds(&["--policy", "default"])
}

const WEIGHTED: [&str; 6] = [
    "--policy", "weighted", "--weight", "p1=1", "--weight", "p2=1",
];

#[test]
fn under_the_weights_of_each_connection() -> Result<()> {
    holds(&WEIGHTED)
}

#[test]
fn under_the_weights_of_the_host() -> Result<()> {
    holds(&[&WEIGHTED[..], &["--weighted-scope", "host"]].concat())
}

#[test]
fn under_the_overflow_policy() -> Result<()> {
    holds(&["--policy", "overflow", "--prefer", "p1"])?;
    holds(&["--policy", "overflow", "--prefer", "p2"])
}

/// A limit above the path's share changes nothing about the ratio.
#[test]
fn above_the_share_of_a_path() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut args = weighted(&["p1=4", "p2=1"]);
    args.extend(["--limit", "p2=12mbit"].map(str::to_owned));
    let agent = Agent::start(&net.client, &binary, &args)?;
    let load = Load::start(&net, 3)?;
    wait_for_rates("four to one", &load.crowd, &net, |rates| {
        let share = rates[1] / (rates[0] + rates[1]);
        (share - 0.2).abs() < 0.03 && rates[0] > 0.75 * 40.0
    })?;
    load.stop()?;
    agent.stop()
}

/// Each of the connections is too slow for a policy to steer it.
#[test]
fn over_thin_connections() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--limit", "default=2mbit"])?;
    let echo = PollServer::spawn(&net.server, ANY, Service::Echo, &Sockets::default())?;
    // Without a limit, 30 kB/s each.
    let requests = Crowd::requests(30, 3000, Duration::from_millis(100));
    let crowd = requests.start(&net.client, echo.at(net.server_addr()))?;
    crowd.wait_for_joins(2, SOON)?;
    // Requests come in pieces: the paths reach nearly their limits, but not in each
    // window.
    let reached = Cell::new(false);
    wait_for_rates("thin connections", &crowd, &net, |rates| {
        let within = rates.iter().all(|rate| *rate < 2.0 * (1.0 + ERROR_MAX));
        let sum = rates.iter().sum::<f64>();
        reached.set(reached.get() || (within && sum > 0.9 * 4.0));
        within && reached.get() && sum > 0.75 * 4.0
    })?;
    crowd.stop()?;
    echo.stop()?;
    agent.stop()
}

#[test]
fn set_changed_and_removed_while_uploads_run() -> Result<()> {
    let binary = require_agent!();
    for connections in [1, 10] {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let agent = Agent::start(&net.client, &binary, &[] as &[&str])?;
        let load = Load::start(&net, connections)?;
        let limit = || -> Result<Option<f64>> {
            let metrics = agent.scrape()?;
            Ok(metrics.value("mptcp_path_limit_bytes_per_second", &[("path", "p2")]))
        };
        assert_eq!(limit()?, None);
        // Ten subflows that get less each would take longer to settle: without a
        // delay they send whole chunks.
        let rates = match connections {
            1 => [8.0, 2.5, 16.0],
            _ => [16.0, 8.0, 12.0],
        };
        for mbit in rates {
            let limit_p2 = format!("p2={mbit}mbit");
            let shown = agent.tell(&["policy", "set", "default", "--limit", &limit_p2])?;
            assert!(shown.contains("(backend pacing)"), "{shown}");
            wait_for_limit("live", &load.crowd, &net, mbit)?;
            assert_eq!(limit()?, Some(mbit * MBIT));
            let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"])?)?;
            let mut paths = status["paths"].as_array().into_iter().flatten();
            let p2 = paths.find(|path| path["path"] == "p2");
            let shown = p2.and_then(|path| path["limit_bytes_per_second"].as_f64());
            assert_eq!(shown, Some(mbit * MBIT), "{status}");
            assert!(agent.tell(&["status"])?.contains("LIMIT"));
        }
        let shown = agent.tell(&["policy", "set", "default", "--limit", "p2=none"])?;
        assert!(shown.contains("(backend none)"), "{shown}");
        assert_eq!(limit()?, None);
        wait::try_until("no cap", SOON, || match load.crowd.subflows() {
            Ok(all) if !all.iter().any(|subflows| capped(subflows)) => Ok(()),
            other => Err(other),
        })?;
        wait_for_rates("no limit", &load.crowd, &net, |rates| {
            rates[1] > FULL * 20.0 && rates[0] > FULL * 40.0
        })?;
        load.stop()?;
        agent.stop()?;
    }
    Ok(())
}

/// The path is named by a limit only, and by an id.
#[test]
fn by_id_over_ipv6() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let path = |name, rate| {
        Path::new(name)
            .rate_mbit(rate)
            .family(mptcp_lab::Family::V6)
    };
    let net = lab.two_hosts([path("p1", 40.0), path("p2", 20.0)])?;
    let agent = Agent::start(&net.client, &binary, &["--limit", "id:1=8mbit"])?;
    let load = Load::start(&net, 2)?;
    wait_for_limit("by id", &load.crowd, &net, 8.0)?;
    let metrics = agent.scrape()?;
    assert_eq!(
        metrics.value("mptcp_path_limit_bytes_per_second", &[("path", "id:1")]),
        Some(8.0 * MBIT)
    );
    load.stop()?;
    agent.stop()
}

#[test]
fn lifted_if_the_agent_is_killed_and_if_it_stops() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let agent = Agent::start(&net.client, &binary, &["--limit", "p2=8mbit"])?;
        wait_for_cap(&transfer)?;
        agent.stop_with(signal)?;
        wait::try_until("no limit", SOON, || match transfer.subflows() {
            Ok(subflows) if !capped(&subflows) => Ok(()),
            other => Err(other),
        })?;
    }
    transfer.stop()?;
    Ok(())
}
