//! Requests and responses: measures how the agent affects a thin connection.
//!
//! Two labs with the same links, one of them under the agent, run at the same
//! time, so that any other load on this machine affects both alike. They run in
//! rounds in which they change places, for two reasons. A lab that runs shortly
//! after the other finds warmer caches and a CPU that is awake; and a lab keeps
//! its good or bad luck with memory and CPUs as long as it lasts. There are many
//! rounds because a tenth of a millisecond depends so much on a shared machine
//! that in a single round the 99th percentiles of two sides without an agent
//! differ by a tenth.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::Agent;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, Latencies, RequestResponse, Server};
use serde_json::{Value, json};

use super::measure::Rig;
use super::plan::{ThinRow, ratio};

/// The size of a request and of a response, in bytes.
const SIZE: usize = 200;
/// The time from one request to the next.
const INTERVAL: Duration = Duration::from_millis(20);
/// The number of connections on each side.
const CONNECTIONS: u32 = 4;
/// The number of rounds in which each lab takes each place once.
pub const CYCLE: u32 = 4;
/// The largest allowed ratio of the 99th percentiles.
const P99_RATIO_MAX: f64 = 1.10;

/// How long a row is measured.
#[derive(Clone, Copy)]
pub struct Rounds {
    /// The number of rounds, a multiple of [`CYCLE`].
    pub count: u32,
    /// The length of one round. It is long enough that the first requests of its
    /// connections are a small part.
    pub length: Duration,
}

/// A row that was measured.
pub struct Outcome {
    agent: Side,
    default: Side,
    /// The 99th percentile under the agent, divided by that without it.
    p99_ratio: f64,
    /// The standard error of that ratio.
    error: f64,
    /// Whether the row meets the target.
    pub ok: bool,
}

/// The latencies of one side.
struct Side {
    all: Latencies,
    /// The first latency of each connection, while its paths are still joining.
    first: Latencies,
}

/// The latencies of each connection of a round, under the agent and without it.
type Round = [Vec<Latencies>; 2];

/// Measures a row; reports each round to `progress`.
pub fn measure(
    row: &ThinRow,
    binary: &Path,
    rounds: Rounds,
    progress: impl Fn(&str),
) -> Result<Outcome> {
    let rigs = [Rig::new(&row.links)?, Rig::new(&row.links)?];
    let server = |rig: &Rig| Server::spawn(&rig.net.server, ANY, Behaviour::Echo);
    let servers = [server(&rigs[0])?, server(&rigs[1])?];
    let weights = row.links.with(&row.weights);
    let mut measured = Vec::new();
    for number in 0..rounds.count as usize {
        progress(&format!("round {} of {}", number + 1, rounds.count));
        let (steered, first) = (number % 2, number / 2 % 2);
        let agent = Agent::weighted(&rigs[steered].net.client, binary, &weights)?;
        let mut round = Round::default();
        for (rig, exchange) in exchanges(&rigs, &servers, rounds.length, first)? {
            round[usize::from(rig != steered)].push(exchange.finish()?);
        }
        agent.stop()?;
        measured.push(round);
    }
    Ok(Outcome::of(&measured))
}

/// Starts the connections of a round, each on rig `first` just before one on the
/// other rig. Returns each with the index of its rig.
fn exchanges(
    rigs: &[Rig; 2],
    servers: &[Server; 2],
    length: Duration,
    first: usize,
) -> Result<Vec<(usize, Exchange)>> {
    let mut exchanges = Vec::new();
    for _ in 0..CONNECTIONS {
        for rig in [first, 1 - first] {
            exchanges.push((rig, start(&rigs[rig], &servers[rig], length)?));
            // Do not let two connections send at the same time.
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
    fn of<'a>(connections: impl Iterator<Item = &'a Latencies> + Clone) -> Self {
        let samples = connections.map(|one| one.samples.as_slice());
        let first = samples.clone().filter_map(|one| one.first().copied());
        Self {
            first: Latencies::new(first.collect()),
            all: Latencies::new(samples.flatten().copied().collect()),
        }
    }
}

impl Outcome {
    fn of(rounds: &[Round]) -> Self {
        let [agent, default] = sides(rounds.iter());
        let p99_ratio = p99_ratio(&agent, &default);
        Self {
            agent,
            default,
            p99_ratio,
            error: standard_error(rounds),
            ok: p99_ratio <= P99_RATIO_MAX,
        }
    }

    /// Returns the row as JSON.
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
            "p99_ratio": self.p99_ratio,
            "p99_ratio_error": self.error,
            "ok": self.ok,
        })
    }
}

fn sides<'a>(rounds: impl Iterator<Item = &'a Round> + Clone) -> [Side; 2] {
    [0, 1].map(|side| Side::of(rounds.clone().flat_map(|round| &round[side])))
}

fn p99_ratio(agent: &Side, default: &Side) -> f64 {
    agent.all.p99().div_duration_f64(default.all.p99())
}

/// Estimates the standard error of the ratio by the jackknife: from how much the
/// ratio changes when each round is left out in turn.
fn standard_error(rounds: &[Round]) -> f64 {
    let without = |left_out: usize| {
        let rest = rounds.iter().enumerate();
        let [agent, default] = sides(
            rest.filter(move |(number, _)| *number != left_out)
                .map(|(_, round)| round),
        );
        p99_ratio(&agent, &default)
    };
    let ratios: Vec<f64> = (0..rounds.len()).map(without).collect();
    let count = ratios.len() as f64;
    let mean = ratios.iter().sum::<f64>() / count;
    let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
    ((count - 1.0) / count * squares).sqrt()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Returns the names of the columns.
pub fn header() -> String {
    format!(
        "thin: requests and responses of {SIZE} bytes every {} ms; milliseconds; 1st: median of \
         the first request of each connection\n\
         {:15} {:7}  {:>9} {:>9} {:>9}  {:>9} {:>9} {:>9}  {:>6} {:>6} {:>7}  verdict",
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
        "error",
    )
}

/// Returns a row's first columns.
pub fn label(row: &ThinRow) -> String {
    format!("{:15} {:7}", row.links.title, ratio(&row.weights))
}

/// Returns a row's line.
pub fn line(row: &ThinRow, outcome: &Outcome) -> String {
    let Outcome {
        agent,
        default,
        p99_ratio,
        error,
        ok,
    } = outcome;
    let three = |of: &Side| [of.all.p50(), of.all.p99(), of.first.p50()].map(milliseconds);
    let [a50, a99, a_first] = three(agent);
    let [d50, d99, d_first] = three(default);
    format!(
        "{}  {a50:9.3} {a99:9.3} {a_first:9.3}  {d50:9.3} {d99:9.3} {d_first:9.3}  {:6.2} {p99_ratio:6.2} {error:7.2}  {}",
        label(row),
        a50 / d50,
        super::table::verdict(*ok),
    )
}
