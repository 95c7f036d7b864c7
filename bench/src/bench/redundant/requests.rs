//! Requests and responses while a path is cut, or loses packets.
//!
//! All pairs of hosts of a table run at the same time, so that any other load on
//! this machine affects all alike.

use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, Latencies, RequestResponse, Server};
use mptcp_lab::{Direction, Path};
use serde_json::{Value, json};

use super::plan::{Blackout, Length, Loss, Times};
use super::side::{Side, Steering};
use crate::bench::quantiles;
use crate::bench::rows::together;

/// The size of a request and of a response, in bytes.
const SIZE: usize = 200;
/// The time from one request to the next.
const INTERVAL: Duration = Duration::from_millis(20);
/// The time before, between and after cuts.
const PAUSE: Duration = Duration::from_millis(2500);
/// Connections of each pair of hosts under loss.
const CONNECTIONS: u32 = 2;
/// How long joins may take.
const JOINS: Duration = Duration::from_secs(20);
/// A request is late if it takes this much longer than the median.
pub const LATE: Duration = Duration::from_millis(50);

/// The results of the requests of one pair of hosts.
pub struct RequestResults {
    /// All latencies.
    pub latencies: Latencies,
    /// How much TCP had to repair.
    pub recovery: Recovery,
    /// Bytes of payload that a copy delivered first.
    pub rescued: f64,
}

impl RequestResults {
    /// Counts the requests that took more than [`LATE`] longer than the median.
    pub fn late(&self) -> usize {
        let limit = self.latencies.p50() + LATE;
        let late = self.latencies.samples.iter().filter(|one| **one > limit);
        late.count()
    }

    /// Returns the figures for the file.
    pub fn json(&self) -> Value {
        let all = &self.latencies;
        json!({
            "requests": all.samples.len(),
            "p50_ms": milliseconds(all.p50()),
            "p99_ms": milliseconds(all.p99()),
            "p999_ms": milliseconds(all.p999()),
            "max_ms": milliseconds(all.max()),
            "quantiles_ms": quantiles::milliseconds(all),
            "late": self.late(),
            "timeouts": self.recovery.timeouts,
            "retransmitted_segments": self.recovery.retransmitted,
            "dsacks": self.recovery.dsacks_sent,
            "rescued_bytes": self.rescued,
        })
    }
}

/// Converts a duration to milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A pair of hosts whose requests have begun.
pub struct Running {
    /// The hosts.
    pub side: Side,
    exchanges: Vec<Exchange>,
    _echo: Server,
}

impl Running {
    /// Starts `connections` connections, with requests of `size` bytes.
    pub fn start(
        paths: &[Path],
        steering: Steering,
        size: usize,
        connections: u32,
    ) -> Result<Self> {
        let side = Side::new(paths, steering)?;
        let net = &side.net;
        let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
        let mut exchanges = Vec::new();
        for _ in 0..connections {
            // The requests are stopped when all is done.
            let load = RequestResponse::new(size, INTERVAL, 1_000_000);
            exchanges.push(load.start(&net.client, echo.at(net.server_addr()))?);
            // Do not let two connections send at the same time.
            sleep(INTERVAL / (2 * connections));
        }
        for exchange in &exchanges {
            exchange.wait_for_subflows(net.links.len(), JOINS)?;
        }
        side.wait_for_peers()?;
        Ok(Self {
            side,
            exchanges,
            _echo: echo,
        })
    }

    /// Replaces one request of each connection by a burst of `bytes` bytes.
    pub fn burst(&self, bytes: usize) {
        self.exchanges.iter().for_each(|one| one.burst(bytes));
    }

    /// Runs `work` and measures the requests meanwhile.
    pub fn measure(self, work: impl FnOnce(&Side) -> Result<()>) -> Result<RequestResults> {
        let before = self.side.recovery()?;
        let start: Vec<u64> = self.exchanges.iter().map(Exchange::responses).collect();
        work(&self.side)?;
        let mut samples = Vec::new();
        for (exchange, start) in self.exchanges.into_iter().zip(start) {
            let all = exchange.stop()?.samples;
            samples.extend_from_slice(all.get(start as usize..).context("samples are gone")?);
        }
        let results = RequestResults {
            latencies: Latencies::new(samples),
            recovery: self.side.recovery()? - before,
            rescued: self.side.sum("mptcp_redundant_rescued_bytes_total", &[])?,
        };
        self.side.end()?;
        Ok(results)
    }
}

/// Builds all pairs of hosts at once, then measures all of them at once.
fn all<T: Copy + Send + Sync>(
    rows: &[(T, bool)],
    connections: u32,
    agent: &FilePath,
    length: impl Fn(&T) -> Length + Sync,
    work: impl Fn(&T, &Side) -> Result<()> + Sync,
) -> Vec<Result<RequestResults>> {
    let ready = together(rows.to_vec(), |(row, steered)| {
        let steering = if steered {
            Steering::Agents(agent, &[])
        } else {
            Steering::Default
        };
        let paths = length(&row).paths(None);
        (row, Running::start(&paths, steering, SIZE, connections))
    });
    together(ready, |(row, running)| {
        running?.measure(|side| work(&row, side))
    })
}

/// Measures each row under the agents, and under the default scheduler.
pub fn blackouts(
    rows: &[Blackout],
    agent: &FilePath,
    times: &Times,
) -> Vec<(Result<RequestResults>, Result<RequestResults>)> {
    let both: Vec<_> = [true, false]
        .into_iter()
        .flat_map(|steered| rows.iter().map(move |row| (*row, steered)))
        .collect();
    let cut = |row: &Blackout, side: &Side| {
        for _ in 0..times.cuts {
            sleep(PAUSE);
            let link = &side.net.links[row.path];
            link.blackhole(row.direction, true)?;
            sleep(times.cut);
            link.blackhole(row.direction, false)?;
        }
        sleep(PAUSE);
        Ok(())
    };
    let mut results = all(&both, 1, agent, |row| row.length, cut);
    let default = results.split_off(rows.len());
    results.into_iter().zip(default).collect()
}

/// Measures without loss, then for each row, under the agents and under the
/// default scheduler.
pub fn losses(
    length: Length,
    rows: &[Loss],
    agent: &FilePath,
    times: &Times,
) -> Vec<(Result<RequestResults>, Result<RequestResults>)> {
    let none = Loss {
        length,
        percent: 0.0,
    };
    let rows: Vec<Loss> = std::iter::once(none).chain(rows.iter().copied()).collect();
    let both: Vec<_> = [true, false]
        .into_iter()
        .flat_map(|steered| rows.iter().map(move |row| (*row, steered)))
        .collect();
    let lose = |row: &Loss, side: &Side| {
        side.net.links[0].set_loss(Direction::Both, row.percent)?;
        sleep(times.loss);
        side.net.links[0].set_loss(Direction::Both, 0.0)
    };
    let mut results = all(&both, CONNECTIONS, agent, |row| row.length, lose);
    let default = results.split_off(rows.len());
    results.into_iter().zip(default).collect()
}
