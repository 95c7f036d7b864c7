//! A stream that fits into the paths' spare capacity is copied in full, even with
//! loss, and without a budget.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Direction, Path};

use crate::redundant_support::{MANY, Stage, dropped, late, redundant, sent, wait_for_proven};
use crate::support::require_agent;
use crate::{SETTLE, SOON};

/// 12,500 bytes each 20 ms: 5 Mbit/s in each direction.
const SIZE: usize = 12_500;
const INTERVAL: Duration = Duration::from_millis(20);
const REQUESTS: u64 = 400;

fn is_copied(loss_percent: [f64; 2]) -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new([
        Path::new("p1").rate_mbit(20.0).no_gso(),
        Path::new("p2").rate_mbit(10.0).no_gso(),
    ])?;
    let [client, server] = &stage.hosts;
    let agents = [
        redundant(client, &binary, &[])?,
        redundant(server, &binary, &[])?,
    ];
    let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(SIZE, INTERVAL, MANY);
    let exchange = load.start(client, echo.at(stage.links[0].server_addr))?;
    exchange.wait_for_subflows(2, SOON)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
    }
    exchange.wait_for_responses(exchange.responses() + 50, SETTLE)?;
    for (link, percent) in stage.links.iter().zip(loss_percent) {
        link.set_loss(Direction::Both, percent)?;
    }
    let counts = || -> Result<(f64, f64)> {
        let [client, server] = [agents[0].scrape()?, agents[1].scrape()?];
        let busy = dropped(&client, "busy") + dropped(&server, "busy");
        Ok((sent(&client) + sent(&server), busy))
    };
    let (copies, busy) = counts()?;
    let from = exchange.responses();
    exchange.wait_for_responses(from + REQUESTS, SETTLE)?;
    let samples = exchange.latencies_from(from);
    let (copies, busy) = {
        let now = counts()?;
        (now.0 - copies, now.1 - busy)
    };
    let late = late(&samples);
    eprintln!(
        "{late} of {} late; {copies} copies, {busy} skipped",
        samples.len()
    );
    assert!(copies > 0.0);
    // A busy machine may delay the stream, which then has more to send at once.
    assert!(busy <= copies / 10.0, "{busy} skipped, {copies} copies");
    assert!(late <= samples.len() / 100, "{late} late");
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn without_loss() -> Result<()> {
    is_copied([0.0, 0.0])
}

#[test]
fn while_the_first_path_loses() -> Result<()> {
    is_copied([5.0, 0.0])
}

#[test]
fn while_both_paths_lose() -> Result<()> {
    is_copied([2.0, 2.0])
}
