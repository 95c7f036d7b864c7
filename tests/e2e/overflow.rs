//! The overflow policy: a path carries only what those before it cannot.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::link::Family;
use mptcp_lab::share::{Sample, sum_mbit};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, RequestResponse, Server, Transfer};
use mptcp_lab::{Agent, Direction, Lab, Path, TwoHosts, wait};

use crate::support::{
    Watched, acked_by, capped, require_agent, two_paths, wait_for_shares, wait_for_window,
};
use crate::{SETTLE, SOON, VERY_LONG};

/// Returns the arguments of the overflow policy.
fn overflow(prefer: &[&str]) -> Vec<String> {
    let mut args = vec!["--policy".to_owned(), "overflow".to_owned()];
    for path in prefer {
        args.extend(["--prefer".to_owned(), (*path).to_owned()]);
    }
    args
}

fn paths() -> [Path; 2] {
    [
        Path::new("p1").rate_mbit(40.0),
        Path::new("p2").rate_mbit(20.0),
    ]
}

/// Waits for a second in which an upload gets most of what all paths can carry.
fn wait_for_sum(transfer: &Transfer, sink: &Server, net: &TwoHosts, sum: f64) -> Result<()> {
    const WINDOW: Duration = Duration::from_secs(1);
    let mut before = Sample::take(transfer, sink, &net.links)?;
    let mut seen = Vec::new();
    wait::try_until("most of the sum", SETTLE, || {
        if before.at.elapsed() < WINDOW {
            return Err(seen.clone());
        }
        let window = Sample::take(transfer, sink, &net.links).and_then(|now| {
            let window = now.since(&before)?;
            before = now;
            Ok(window)
        });
        match window {
            Ok(window) if window.goodput_mbit() > 0.9 * sum => Ok(()),
            other => {
                seen.push(format!("{other:?}"));
                Err(seen.clone())
            }
        }
    })
}

/// Returns the bytes that each path of an upload got acked.
fn acked(subflows: &[SubflowInfo], net: &TwoHosts) -> Vec<u64> {
    acked_by(subflows, &net.links, |one| one.local.ip())
}

/// Waits until the first path carries all of a transfer.
fn wait_for_first(transfer: &Transfer, net: &TwoHosts) -> Result<()> {
    let bytes = || Ok(acked(&transfer.subflows()?, net));
    wait_for_window("p1 to carry it all", bytes, |shares| shares[0] > 0.99)
}

/// Starts an upload of so many Mbit/s.
fn paced(net: &TwoHosts, rate_mbit: f64) -> Result<(Server, Transfer)> {
    start(net, &Bulk::upload_for(VERY_LONG).rate_mbit(rate_mbit))
}

fn start(net: &TwoHosts, bulk: &Bulk) -> Result<(Server, Transfer)> {
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(net.links.len(), SOON)?;
    Ok((sink, transfer))
}

#[test]
fn a_load_that_fits_the_first_path_stays_there() -> Result<()> {
    let binary = require_agent!();
    for congestion in ["cubic", "bbr"] {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let agent = Watched::start(&net.client, &binary, &overflow(&["p1", "p2"]))?;
        let bulk = Bulk::upload_for(VERY_LONG).rate_mbit(20.0);
        let (_sink, transfer) = start(&net, &bulk.congestion(congestion))?;
        // From the first byte on.
        transfer.wait_for_progress(20_000_000, SETTLE)?;
        let bytes = acked(&transfer.subflows()?, &net);
        let part = bytes[1] as f64 / bytes[0] as f64;
        assert!(part < 0.01, "{congestion}: {bytes:?}");
        let ranks = ["p1", "p2"].map(|path| {
            let metrics = agent.scrape();
            metrics.map(|metrics| metrics.value("mptcp_path_rank", &[("path", path)]))
        });
        for (rank, expected) in ranks.into_iter().zip([1.0, 2.0]) {
            assert_eq!(rank?, Some(expected));
        }
        transfer.stop()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn what_does_not_fit_fills_the_second_path() -> Result<()> {
    let binary = require_agent!();
    let sum = sum_mbit(&paths())?;
    for congestion in ["cubic", "bbr"] {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let agent = Watched::start(&net.client, &binary, &overflow(&["p1"]))?;
        let bulk = Bulk::upload_for(VERY_LONG).congestion(congestion);
        let (sink, transfer) = start(&net, &bulk)?;
        wait_for_sum(&transfer, &sink, &net, sum)?;
        agent.event("path_let_in", &[("path", "p2".into())])?;
        let metrics = agent.scrape()?;
        assert_eq!(
            metrics.value("mptcp_path_weight_ratio", &[("path", "p1")]),
            None
        );
        transfer.stop()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn the_joined_path_can_be_the_preferred_one() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &overflow(&["p2"]))?;
    let (_sink, transfer) = paced(&net, 8.0)?;
    let bytes = || Ok(acked(&transfer.subflows()?, &net));
    wait_for_window("p2 to carry it all", bytes, |shares| shares[1] > 0.99)?;
    transfer.stop()?;
    agent.stop()
}

/// Waits until the subflow on p2 is held out of the scheduler's choice, and the
/// other one is not.
fn wait_until_held_out(subflows: impl Fn() -> Result<Vec<SubflowInfo>>, p2: IpAddr) -> Result<()> {
    wait::try_until("p2 to be held out", SETTLE, || {
        let subflows = subflows().map_err(|error| format!("{error:#}"))?;
        let as_asked = subflows.iter().all(|one| {
            let held_out = one.max_pacing_rate_bytes_per_sec == 0;
            held_out == (one.local.ip() == p2)
        });
        if subflows.len() == 2 && as_asked {
            return Ok(());
        }
        Err(format!("{subflows:#?}"))
    })
}

/// The transfer becomes idle, so that no callback would hold p2 out again.
#[test]
fn the_second_path_rests_again_after_a_burst() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &overflow(&["p1"]))?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let exchange = RequestResponse::new(200, Duration::from_millis(200), 1_000_000)
        .start(&net.client, echo.at(net.server_addr()))?;
    exchange.wait_for_subflows(2, SOON)?;
    exchange.burst(10_000_000);
    agent.event("path_let_in", &[("path", "p2".into())])?;
    let responses = exchange.responses();
    exchange.wait_for_responses(responses + 2, SETTLE)?;
    exchange.rest();
    wait_until_held_out(|| exchange.subflows(), net.links[1].client_addr)?;
    agent.event("path_held_out", &[("path", "p2".into())])?;
    exchange.stop()?;
    agent.stop()
}

/// The most that a subflow without data has acked: the end that sent its SYN
/// counts it as one byte.
const NOTHING: u64 = 1;

#[test]
fn requests_and_frames_never_touch_the_second_path() -> Result<()> {
    let binary = require_agent!();
    for (size, interval_ms, count) in [(200, 20, 100), (30_000, 100, 40), (8192, 33, 100)] {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let args = overflow(&["p1", "p2"]);
        let agents = [
            Agent::start(&net.client, &binary, &args)?,
            Agent::start(&net.server, &binary, &args)?,
        ];
        let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
        let interval = Duration::from_millis(interval_ms);
        let exchange = RequestResponse::new(size, interval, 1_000_000)
            .start(&net.client, echo.at(net.server_addr()))?;
        exchange.wait_for_subflows(2, SOON)?;
        exchange.wait_for_responses(count, SETTLE)?;
        let asked = acked(&exchange.subflows()?, &net);
        assert!(asked[1] <= NOTHING, "requests of {size}: {asked:?}");
        let answers = echo.connection(0, SOON)?.subflows()?;
        let answers = acked_by(&answers, &net.links, |one| one.remote.ip());
        assert!(answers[1] <= NOTHING, "answers of {size}: {answers:?}");
        exchange.stop()?;
        for agent in agents {
            agent.stop()?;
        }
    }
    Ok(())
}

#[test]
fn a_dead_first_path_lets_the_second_in() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &overflow(&["p1"]))?;
    let (_sink, transfer) = paced(&net, 8.0)?;
    wait_for_first(&transfer, &net)?;
    net.links[0].blackhole(Direction::Both, true)?;
    agent.event("path_down", &[("path", "p1".into())])?;
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    net.links[0].blackhole(Direction::Both, false)?;
    wait_for_first(&transfer, &net)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn on_a_server_over_ipv6() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts(paths().map(|path| path.family(Family::V6)))?;
    let agent = Watched::start(&net.server, &binary, &overflow(&["remote-id:0"]))?;
    let source = Server::spawn(&net.server, ANY, Behaviour::Source { rate_mbit: None })?;
    let bulk = Bulk::download_for(VERY_LONG);
    let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    agent.event("path_let_in", &[])?;
    let connection = source.connection(0, SOON)?;
    let bytes = || {
        let subflows = connection.subflows()?;
        Ok(acked_by(&subflows, &net.links, |one| one.remote.ip()))
    };
    wait_for_window("both paths to be full", bytes, |shares| shares[1] > 0.28)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_policy_changes_while_a_transfer_runs() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &overflow(&["p1"]))?;
    let (_sink, transfer) = paced(&net, 12.0)?;
    wait_for_first(&transfer, &net)?;
    agent.tell(&[
        "policy", "set", "weighted", "--weight", "p1=1", "--weight", "p2=2",
    ])?;
    wait_for_shares(&transfer, &net.links, &[1, 2])?;
    agent.tell(&["policy", "set", "overflow", "--prefer", "p1"])?;
    wait_for_first(&transfer, &net)?;
    let shown = agent.tell(&["policy", "show"])?;
    assert!(
        shown.contains("overflow --prefer p1 (backend pacing)"),
        "{shown}"
    );
    for policy in ["default", "aggregate"] {
        agent.tell(&["policy", "set", policy])?;
        wait::try_until("no limit", SOON, || match transfer.subflows() {
            Ok(subflows) if !capped(&subflows) => Ok(()),
            other => Err(other),
        })?;
        agent.tell(&["policy", "set", "overflow", "--prefer", "p1"])?;
        wait_until_held_out(|| transfer.subflows(), net.links[1].client_addr)?;
    }
    // A preferred path is another one at once.
    agent.tell(&["policy", "set", "overflow", "--prefer", "p2"])?;
    let bytes = || Ok(acked(&transfer.subflows()?, &net));
    wait_for_window("p2 to carry it all", bytes, |shares| shares[1] > 0.99)?;
    transfer.stop()?;
    agent.stop()
}
