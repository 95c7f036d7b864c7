//! Two subflows over one device and one over another: copies go to the other
//! device, for what hits a device hits all its subflows.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Direction, Path};

use crate::redundant_support::{
    INTERVAL, MANY, Stage, arrived, late, redundant, sent, wait_for_proven,
};
use crate::support::{Watched, require_agent, scrape_until};
use crate::{SETTLE, SOON};

const CUTS: usize = 4;

/// Copies that went by the device of their original.
fn shared(metrics: &Metrics) -> f64 {
    metrics.sum("mptcp_redundant_copies_shared_device_total", &[])
}

fn scrape_both(agents: &[Watched; 2], count: fn(&Metrics) -> f64) -> Result<f64> {
    Ok(count(&agents[0].scrape()?) + count(&agents[1].scrape()?))
}

#[test]
fn copies_leave_by_another_device() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let [client, server] = &stage.hosts;
    // A second address of the client on the first path's device.
    client.run("ip addr add 10.77.1.3/24 dev p1")?;
    client.endpoint([10, 77, 1, 3].into(), "p1", "subflow")?;
    let agents = [
        redundant(client, &binary, &[])?,
        redundant(server, &binary, &[])?,
    ];
    let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(200, INTERVAL, MANY);
    let exchange = load.start(client, echo.at(stage.links[0].server_addr))?;
    exchange.wait_for_subflows(3, SOON)?;
    for agent in &agents {
        wait_for_proven(agent, 3)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 0.0)?;
    }
    // Until all three were proven, some may have had no other carrier.
    let before = scrape_both(&agents, shared)?;
    let mut lates = Vec::new();
    for _ in 0..CUTS {
        exchange.wait_for_responses(exchange.responses() + 100, SETTLE)?;
        let from = exchange.responses();
        stage.links[0].blackhole(Direction::Both, true)?;
        exchange.wait_for_responses(from + 60, SETTLE)?;
        lates.push(late(&exchange.latencies_from(from.saturating_sub(60))));
        stage.links[0].blackhole(Direction::Both, false)?;
        // The shared device's links fall silent in a cut that is long.
        for agent in &agents {
            wait_for_proven(agent, 3)?;
        }
    }
    eprintln!("late in each cut of the shared device: {lates:?}");
    assert_eq!(lates.iter().sum::<usize>(), 0, "{lates:?}");
    assert_eq!(scrape_both(&agents, shared)?, before);

    // Where there is no other device, the same one is better than none.
    stage.links[1].down()?;
    let goal = before + 50.0;
    scrape_until(&agents[0], "copies by the same device", |metrics| {
        shared(metrics) > goal
    })?;
    assert!(scrape_both(&agents, sent)? > 0.0);
    assert!(
        exchange
            .waiting()
            .is_none_or(|waited| waited < Duration::from_secs(5))
    );
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}
