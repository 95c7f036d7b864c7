//! The first ten requests of many connections, while the first path loses a
//! fifth of its packets. The agents know each other from an earlier connection.
//!
//! Both pairs of hosts run at the same time, as in the other tables of requests.

use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use mptcp_lab::Direction;
use mptcp_lab::traffic::{ANY, Behaviour, Latencies, RequestResponse, Server};

use super::plan::{Length, Times};
use super::requests::{RequestResults, Running};
use super::side::{Side, Steering};
use crate::bench::rows::together;

/// The row's name.
pub const NAME: &str = "opening 0.2ms p1 20 %";

/// The requests of each connection, the bytes of each, and the time between them.
const REQUESTS: usize = 10;
const SIZE: usize = 200;
const INTERVAL: Duration = Duration::from_millis(20);
/// How many connections are open at a time. Each is followed by another.
const LANES: usize = 4;
/// The loss on the first path, both ways, in percent.
const LOSS: f64 = 20.0;
/// The time limit of a response; a handshake may be lost repeatedly.
const LIMIT: Duration = Duration::from_secs(60);
/// The sysctl for the number of lost SYNs after which the kernel falls back to
/// TCP, where no second path can help. Older kernels never fall back, and lack it.
const FALLBACK: (&str, &str) = ("net.mptcp.syn_retrans_before_tcp_fallback", "20");

/// Measures under the agents, and under the default scheduler.
pub fn openings(
    agent: &FilePath,
    times: &Times,
) -> (Result<RequestResults>, Result<RequestResults>) {
    let sides = vec![Steering::Agents(agent, &[]), Steering::Default];
    let mut results = together(sides, |steering| opening(steering, times)).into_iter();
    let mut next = || results.next().unwrap_or_else(|| Err(anyhow!("no result")));
    (next(), next())
}

fn opening(steering: Steering, times: &Times) -> Result<RequestResults> {
    // With this connection the agents get to know each other.
    let acquainted = Running::start(&Length::Near.paths(None), steering, SIZE, 1)?;
    let client = acquainted.side.net.client.clone();
    if client.sysctl_get(FALLBACK.0).is_ok() {
        client.sysctl(FALLBACK.0, FALLBACK.1)?;
    }
    let mut samples = Vec::new();
    let mut results = acquainted.measure(|side| {
        side.net.links[0].set_loss(Direction::Both, LOSS)?;
        samples = connections(side, times.loss)?;
        side.net.links[0].set_loss(Direction::Both, 0.0)
    })?;
    results.latencies = Latencies::new(samples);
    Ok(results)
}

/// Opens one connection after another, in each of [`LANES`] lanes, during `time`.
fn connections(side: &Side, time: Duration) -> Result<Vec<Duration>> {
    let net = &side.net;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let address = echo.at(net.server_addr());
    let mut load = RequestResponse::new(SIZE, INTERVAL, REQUESTS);
    load.limit = LIMIT;
    let end = Instant::now() + time;
    let lane = |()| -> Result<Vec<Duration>> {
        let mut samples = Vec::new();
        while Instant::now() < end {
            let one = load.run_to_end(&net.client, address);
            samples.extend(one.context("a connection has failed")?.samples);
        }
        Ok(samples)
    };
    let lanes = together(vec![(); LANES], lane).into_iter();
    Ok(lanes.collect::<Result<Vec<_>>>()?.concat())
}
