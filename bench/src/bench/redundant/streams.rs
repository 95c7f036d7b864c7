//! Transfers: a stream during a cut, bulk over unequal paths, and the cost of a
//! copied gigabyte.

use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk as Transfer, Server};
use mptcp_lab::{Direction, Path};
use serde_json::{Value, json};

use super::plan::{Bulk, Cost, Stream, Times};
use super::side::{Side, Steering};
use crate::bench::cpu;
use crate::bench::rows::together;

/// The rate of the stream that a cut should not affect, in Mbit/s.
pub const STREAM_MBIT: f64 = 20.0;
/// The rate of each of that stream's paths, in Mbit/s.
const STREAM_PATHS: [f64; 2] = [50.0, 50.0];
/// The part of that rate that copies may take.
const STREAM_BUDGET: [&str; 2] = ["--redundant-budget", "40mbit"];
/// The rates of the paths of bulk transfers, in Mbit/s.
const BULK_PATHS: [f64; 2] = [80.0, 40.0];
/// The rate of the stream whose cost is measured, in Mbit/s.
const COST_MBIT: f64 = 300.0;
/// Arguments that let the agents copy all of that stream.
const COST_ARGS: [&str; 3] = ["--redundant-budget", "10gbit", "--measure-programs"];
/// How long joins may take.
const JOINS: Duration = Duration::from_secs(20);
/// The time at the start of a transfer that is not measured.
const SETTLE: Duration = Duration::from_secs(2);
/// A limit that no transfer reaches; the benchmark stops it earlier.
const LONG: Duration = Duration::from_secs(600);

/// The results of a transfer while it was measured.
pub struct TransferResults {
    /// Bytes that the server's application got.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How much TCP had to repair.
    pub recovery: Recovery,
    /// Bytes on all links, both ways, link-layer headers included.
    pub wire_bytes: u64,
    /// CPU time of this process and the agents.
    pub cpu_seconds: f64,
    /// Time spent in the programs that copy.
    pub program_seconds: f64,
    /// Copies sent, both ways.
    pub copies: f64,
    /// Bytes of payload that a copy delivered first.
    pub rescued: f64,
}

impl TransferResults {
    /// Returns the rate of payload, in Mbit/s.
    pub fn mbit(&self) -> f64 {
        self.bytes as f64 * 8e-6 / self.seconds
    }

    /// Returns the bytes on the wire for each byte that arrived.
    pub fn wire_ratio(&self) -> f64 {
        self.wire_bytes as f64 / self.bytes as f64
    }

    /// Returns the CPU seconds for each gigabyte (10^9 bytes). This is meaningful
    /// only if nothing else was measured at the same time.
    pub fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.bytes as f64
    }

    /// Returns the figures for the file.
    pub fn json(&self) -> Value {
        json!({
            "goodput_mbit": self.mbit(),
            "timeouts": self.recovery.timeouts,
            "retransmitted_segments": self.recovery.retransmitted,
            "dsacks": self.recovery.dsacks_sent,
            "wire_bytes_per_byte": self.wire_ratio(),
            "cpu_seconds_per_gigabyte": self.cpu_per_gigabyte(),
            "program_seconds_per_gigabyte": self.program_seconds * 1e9 / self.bytes as f64,
            "copies": self.copies,
            "rescued_bytes": self.rescued,
        })
    }
}

/// A transfer from client to server.
struct Load<'a> {
    paths: Vec<Path>,
    steering: Steering<'a>,
    congestion: &'a str,
    rate_mbit: Option<f64>,
}

impl Load<'_> {
    /// Runs `work` and measures the transfer meanwhile.
    fn measure(&self, work: impl FnOnce(&Side) -> Result<()>) -> Result<TransferResults> {
        let side = Side::new(&self.paths, self.steering)?;
        let net = &side.net;
        let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
        let mut bulk = Transfer::upload_for(LONG).congestion(self.congestion);
        if let Some(rate_mbit) = self.rate_mbit {
            bulk = bulk.rate_mbit(rate_mbit);
        }
        let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
        transfer.wait_for_subflows(net.links.len(), JOINS)?;
        side.wait_for_peers()?;
        sleep(SETTLE);
        let before = Counters::take(&side, &sink)?;
        work(&side)?;
        let results = Counters::take(&side, &sink)?.since(&before);
        transfer.stop()?;
        side.end()?;
        Ok(results)
    }
}

/// All counters at one moment.
struct Counters {
    at: Instant,
    bytes: u64,
    recovery: Recovery,
    wire_bytes: u64,
    cpu_seconds: f64,
    program_seconds: f64,
    copies: f64,
    rescued: f64,
}

impl Counters {
    fn take(side: &Side, sink: &Server) -> Result<Self> {
        let run = "mptcp_agent_program_run_seconds_total";
        let mut program_seconds = 0.0;
        for program in ["redundant_egress", "redundant_ingress"] {
            program_seconds += side.sum(run, &[("program", program)])?;
        }
        Ok(Self {
            copies: side.sum("mptcp_redundant_copies_sent_total", &[])?,
            rescued: side.sum("mptcp_redundant_rescued_bytes_total", &[])?,
            recovery: side.recovery()?,
            wire_bytes: side.wire_bytes()?,
            cpu_seconds: cpu::own_seconds() + side.cpu_seconds()?,
            program_seconds,
            bytes: sink.received(),
            at: Instant::now(),
        })
    }

    fn since(&self, before: &Self) -> TransferResults {
        TransferResults {
            bytes: self.bytes - before.bytes,
            seconds: self.at.duration_since(before.at).as_secs_f64(),
            recovery: self.recovery - before.recovery,
            wire_bytes: self.wire_bytes - before.wire_bytes,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            program_seconds: self.program_seconds - before.program_seconds,
            copies: self.copies - before.copies,
            rescued: self.rescued - before.rescued,
        }
    }
}

/// Measures all rows at the same time, under the agents and under the default
/// scheduler.
pub fn streams(
    rows: &[Stream],
    agent: &FilePath,
    times: &Times,
) -> Vec<(Result<TransferResults>, Result<TransferResults>)> {
    let both: Vec<(Stream, Steering)> =
        [Steering::Agents(agent, &STREAM_BUDGET), Steering::Default]
            .into_iter()
            .flat_map(|steering| rows.iter().map(move |row| (*row, steering)))
            .collect();
    let mut results = together(both, |(row, steering)| {
        // Without offloads, a device counts the bytes that a wire would carry.
        let paths = row.length.paths(Some(STREAM_PATHS)).map(Path::no_gso);
        let load = Load {
            paths: paths.into(),
            steering,
            congestion: "cubic",
            rate_mbit: Some(STREAM_MBIT),
        };
        load.measure(|side| {
            sleep(SETTLE);
            let link = &side.net.links[row.path];
            link.blackhole(Direction::Both, true)?;
            sleep(times.cut);
            link.blackhole(Direction::Both, false)?;
            sleep(SETTLE);
            Ok(())
        })
    });
    let default = results.split_off(rows.len());
    results.into_iter().zip(default).collect()
}

/// Measures the same stream without a cut, for the bytes on the wire.
pub fn undisturbed(
    agent: &FilePath,
    times: &Times,
) -> (Result<TransferResults>, Result<TransferResults>) {
    let steering = vec![Steering::Agents(agent, &STREAM_BUDGET), Steering::Default];
    let mut results = together(steering, |steering| {
        let paths = super::plan::Length::Near.paths(Some(STREAM_PATHS));
        let load = Load {
            paths: paths.map(Path::no_gso).into(),
            steering,
            congestion: "cubic",
            rate_mbit: Some(STREAM_MBIT),
        };
        load.measure(|_| {
            sleep(times.transfer);
            Ok(())
        })
    });
    let default = results.pop().unwrap_or_else(|| anyhow::bail!("no result"));
    let agent = results.pop().unwrap_or_else(|| anyhow::bail!("no result"));
    (agent, default)
}

/// Measures one after the other: under the agents, under the default scheduler,
/// and over the better path alone.
pub fn bulk(row: &Bulk, agent: &FilePath, times: &Times) -> Result<[TransferResults; 3]> {
    let paths = row.length.paths(Some(BULK_PATHS));
    let run = |paths: &[Path], steering| {
        let load = Load {
            paths: paths.to_vec(),
            steering,
            congestion: row.congestion,
            rate_mbit: None,
        };
        load.measure(|_| {
            sleep(times.transfer);
            Ok(())
        })
    };
    Ok([
        run(&paths, Steering::Agents(agent, &[]))?,
        run(&paths, Steering::Default).context("default scheduler")?,
        run(&paths[..1], Steering::Default).context("one path alone")?,
    ])
}

/// Measures one after the other: under the agents, and under the default
/// scheduler.
pub fn cost(row: &Cost, agent: &FilePath, times: &Times) -> Result<[TransferResults; 2]> {
    let run = |steering| {
        let paths = super::plan::Length::Near.paths(None);
        let paths = if row.offloads {
            paths
        } else {
            paths.map(Path::no_gso)
        };
        let load = Load {
            paths: paths.into(),
            steering,
            congestion: "cubic",
            rate_mbit: Some(COST_MBIT),
        };
        load.measure(|_| {
            sleep(times.transfer);
            Ok(())
        })
    };
    Ok([
        run(Steering::Agents(agent, &COST_ARGS))?,
        run(Steering::Default).context("default scheduler")?,
    ])
}
