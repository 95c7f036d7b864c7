//! Paths of unequal round trips: an answer on the faster path says nothing about
//! the slower one.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{Exchange, RequestResponse};
use mptcp_lab::{Direction, Path};

use crate::SETTLE;
use crate::redundant_support::{MANY, Stage, dropped, late};
use crate::support::require_agent;

/// Several connections, because the fault that this test guards against affected
/// about one in three.
const CONNECTIONS: usize = 8;
const REQUESTS: u64 = 250;
const INTERVAL: Duration = Duration::from_millis(20);

#[test]
fn every_connection_is_protected() -> Result<()> {
    let binary = require_agent!();
    let paths = [
        Path::new("p1").delay_ms(15.0),
        Path::new("p2").delay_ms(25.0),
    ];
    let scene = Stage::new(paths)?.play(&binary, &[])?;
    let server = scene.echo.at(scene.links[0].server_addr);
    scene.links[0].set_loss(Direction::Both, 10.0)?;
    let connect = |_| {
        let load = RequestResponse::new(200, INTERVAL, MANY);
        load.start(&scene.hosts[0], server)
    };
    let exchanges = (0..CONNECTIONS)
        .map(connect)
        .collect::<Result<Vec<Exchange>>>()?;
    // The first requests of each connection are not protected yet.
    for exchange in &exchanges {
        exchange.wait_for_subflows(2, SETTLE)?;
        exchange.wait_for_responses(100, SETTLE)?;
    }
    let busy = || -> Result<f64> {
        let [client, server] = scene.agents().map(|agent| agent.scrape());
        Ok(dropped(&client?, "busy") + dropped(&server?, "busy"))
    };
    let before = busy()?;
    let from: Vec<u64> = exchanges.iter().map(Exchange::responses).collect();
    for (exchange, from) in exchanges.iter().zip(&from) {
        exchange.wait_for_responses(from + REQUESTS, SETTLE)?;
    }
    let skipped = busy()? - before;
    let late: Vec<usize> = exchanges
        .iter()
        .zip(&from)
        .map(|(exchange, from)| late(&exchange.latencies_from(*from)))
        .collect();
    eprintln!("late of {REQUESTS} requests and more: {late:?}, {skipped} segments skipped");
    assert_eq!(skipped, 0.0, "{late:?}");
    let most = CONNECTIONS * REQUESTS as usize / 100;
    assert!(late.iter().sum::<usize>() <= most, "{late:?}");
    for exchange in exchanges {
        exchange.stop()?;
    }
    scene.end()
}
