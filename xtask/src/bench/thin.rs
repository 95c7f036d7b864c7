//! Requests and responses: what a thin connection feels of the agent.
//!
//! Two labs with the same links, one under the agent, run at the same time, so
//! that what else this machine does touches both alike. And in rounds, first
//! one side ahead and then the other: who comes shortly after whom finds warmer
//! caches and a CPU that is awake, and stays there as long as it lasts. For long
//! enough, too: of half a minute's requests, the 99th percentiles of two sides
//! without an agent differ by up to 12 % on a shared machine.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::Agent;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, Latencies, RequestResponse, Server};
use serde_json::{Value, json};

use super::measure::Rig;
use super::plan::{ThinRow, ratio};

/// Bytes of a request, and of a response.
const SIZE: usize = 200;
/// From request to request.
const INTERVAL: Duration = Duration::from_millis(20);
/// Connections of each side.
const CONNECTIONS: u32 = 4;
/// An even number: each side comes first in half of them.
const ROUNDS: u32 = 10;
/// The most that the 99th percentile may grow.
const P99_RATIO_MAX: f64 = 1.10;

/// A row that was measured.
pub struct Outcome {
    agent: Side,
    default: Side,
    /// Whether it meets the target.
    pub ok: bool,
}

/// What the requests of one side took.
#[derive(Default)]
struct Side {
    all: Latencies,
    /// The first of each connection, which is opened and joined meanwhile.
    first: Latencies,
}

/// Measures a row for so long.
pub fn measure(row: &ThinRow, binary: &Path, duration: Duration) -> Result<Outcome> {
    let (steered, default) = (Rig::new(&row.links)?, Rig::new(&row.links)?);
    let weights = row.links.with(&row.weights);
    let agent = Agent::weighted(&steered.net.client, binary, &weights)?;
    let rigs = [&steered, &default];
    let servers = rigs.map(|rig| Server::spawn(&rig.net.server, ANY, Behaviour::Echo));
    let [of_agent, of_default] = servers;
    let servers = [of_agent?, of_default?];
    let mut samples: [Vec<Latencies>; 2] = Default::default();
    for number in 0..ROUNDS {
        let first = number as usize % 2;
        for (side, exchange) in round(&rigs, &servers, duration / ROUNDS, first)? {
            samples[side].push(exchange.finish()?);
        }
    }
    agent.stop()?;
    let [agent, default] = samples.map(|connections| Side::of(&connections));
    Ok(Outcome {
        ok: agent.all.p99() <= default.all.p99().mul_f64(P99_RATIO_MAX),
        agent,
        default,
    })
}

/// Starts the connections of a round, those of side `first` ahead of the
/// other's; each with its side.
fn round(
    rigs: &[&Rig; 2],
    servers: &[Server; 2],
    duration: Duration,
    first: usize,
) -> Result<Vec<(usize, Exchange)>> {
    let mut exchanges = Vec::new();
    for _ in 0..CONNECTIONS {
        for side in [first, 1 - first] {
            exchanges.push((side, start(rigs[side], &servers[side], duration)?));
            // No two at the same time.
            sleep(INTERVAL / (2 * CONNECTIONS));
        }
    }
    Ok(exchanges)
}

fn start(rig: &Rig, server: &Server, duration: Duration) -> Result<Exchange> {
    let count = duration.as_millis() / INTERVAL.as_millis();
    RequestResponse::new(SIZE, INTERVAL, count as usize)
        .start(&rig.net.client, server.at(rig.net.server_addr()))
}

impl Side {
    fn of(connections: &[Latencies]) -> Self {
        let samples = connections.iter().map(|one| one.samples.as_slice());
        let first = samples.clone().filter_map(|one| one.first().copied());
        Self {
            all: Latencies::new(samples.clone().flatten().copied().collect()),
            first: Latencies::new(first.collect()),
        }
    }
}

impl Outcome {
    /// The row as JSON.
    pub fn json(&self, row: &ThinRow) -> Value {
        let side = |Side { all, first }: &Side| {
            json!({
                "requests": all.samples.len(),
                "p50_ms": milliseconds(all.p50()),
                "p99_ms": milliseconds(all.p99()),
                "max_ms": milliseconds(all.max()),
                "first_p50_ms": milliseconds(first.p50()),
            })
        };
        json!({
            "links": row.links.title,
            "weights": ratio(&row.weights),
            "load": "thin",
            "agent": side(&self.agent),
            "default": side(&self.default),
            "p99_ratio": self.agent.all.p99().div_duration_f64(self.default.all.p99()),
            "ok": self.ok,
        })
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What the columns are called.
pub fn header() -> String {
    format!(
        "thin: {SIZE} bytes there and back each {} ms; milliseconds; 1st: median of the \
         first of each connection\n\
         {:15} {:7}  {:>9} {:>9} {:>9}  {:>9} {:>9} {:>9}  {:>6} {:>6}  verdict",
        INTERVAL.as_millis(),
        "links",
        "weights",
        "p50",
        "p99",
        "1st",
        "def. p50",
        "def. p99",
        "def. 1st",
        "p50 /",
        "p99 /",
    )
}

/// A row's first columns.
pub fn label(row: &ThinRow) -> String {
    format!("{:15} {:7}", row.links.title, ratio(&row.weights))
}

/// A row's line.
pub fn line(row: &ThinRow, outcome: &Outcome) -> String {
    let Outcome { agent, default, ok } = outcome;
    let three = |of: &Side| [of.all.p50(), of.all.p99(), of.first.p50()].map(milliseconds);
    let [a50, a99, a_first] = three(agent);
    let [d50, d99, d_first] = three(default);
    format!(
        "{}  {a50:9.3} {a99:9.3} {a_first:9.3}  {d50:9.3} {d99:9.3} {d_first:9.3}  {:6.2} {:6.2}  {}",
        label(row),
        a50 / d50,
        a99 / d99,
        super::table::verdict(*ok),
    )
}
