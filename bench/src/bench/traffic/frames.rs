//! Video frames. All policies are measured at the same time, each on hosts of
//! its own: the frames leave most of the machine idle.

use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::{ANY, Frames as Series, Latencies, PollServer, Service, Sockets};
use mptcp_lab::wait;

use super::case::Case;
use super::column::{Column, Target, ratios};
use super::policy::Policy;
use super::side::{Sender, Side};
use crate::bench::plan::{Links, path};
use crate::bench::rows::together;

/// The size of a frame in bytes, and the time from one to the next.
const SIZE: usize = 8_000;
const INTERVAL: Duration = Duration::from_millis(33);
/// How many frames are not measured, while the second path joins.
const SKIPPED: u32 = 60;
/// How long the last frames may take.
const LAST: Duration = Duration::from_secs(10);
/// The time to build a lab, and to start and to stop an agent.
const OVERHEAD: Duration = Duration::from_secs(3);
/// The rate of the slower path in Mbit/s, and its one-way delay in milliseconds.
const SLOWER_MBIT: f64 = 10.0;
const SLOWER_MS: f64 = 40.0;
/// How much longer than the slower path takes a frame of spill and strict may
/// take, in milliseconds.
const SPARE_MS: f64 = 10.0;
/// The largest allowed ratio of the 99th percentiles of overflow and aggregate.
const P99_MAX: f64 = 1.10;

/// Frames under one congestion control.
pub struct Frames {
    congestion: &'static str,
    count: u32,
}

/// Returns the cases.
pub fn cases(quick: bool) -> Vec<Frames> {
    let (congestions, count) = if quick {
        (&["cubic"][..], 450)
    } else {
        (&["cubic", "bbr"][..], 900)
    };
    let case = |&congestion: &&'static str| Frames { congestion, count };
    congestions.iter().map(case).collect()
}

/// A pair of hosts that is ready.
struct Ready {
    side: Side,
    server: PollServer,
}

fn links() -> Links {
    Links::new(
        "20@20+10@80",
        [
            path(1, 20.0).delay_ms(10.0),
            path(2, SLOWER_MBIT).delay_ms(SLOWER_MS),
        ],
    )
}

/// Returns the most that a frame may take over the slower path, in milliseconds.
fn slower_path_ms() -> f64 {
    SLOWER_MS + SIZE as f64 * 8.0 / (SLOWER_MBIT * 1e3) + SPARE_MS
}

impl Frames {
    fn prepare(&self, agent: &FilePath, policy: Policy) -> Result<Ready> {
        let side = Side::new(agent, &links(), Sender::Client, policy)?;
        let host = &side.rig.net.server;
        let server = PollServer::spawn(host, ANY, Service::Frames(SIZE), &Sockets::default())?;
        Ok(Ready { side, server })
    }

    fn send(&self, ready: Ready) -> Result<Latencies> {
        let Ready { side, server } = ready;
        let net = &side.rig.net;
        let series = Series {
            bytes: SIZE,
            interval: INTERVAL,
            count: SKIPPED + self.count,
            sockets: Sockets {
                congestion: Some(self.congestion.to_owned()),
                ..Sockets::default()
            },
        };
        let framing = series.start(&net.client, server.at(net.server_addr()))?;
        // The connection must stay open until all frames have arrived.
        framing
            .wait_for_subflows(net.links.len(), INTERVAL * SKIPPED)
            .context("not every path has joined")?;
        sleep(INTERVAL * series.count);
        let arrivals = wait::try_until("the last frame", LAST, || {
            let arrivals = server.arrivals();
            match arrivals.len() == series.count as usize {
                true => Ok(arrivals),
                false => Err(arrivals.len()),
            }
        })?;
        let ready = framing.finish()?;
        let taken = arrivals.iter().zip(&ready).skip(SKIPPED as usize);
        let taken = taken.map(|(arrival, ready)| arrival.duration_since(*ready));
        let latencies = Latencies::new(taken.collect());
        server.stop()?;
        side.end()?;
        Ok(latencies)
    }
}

impl Case for Frames {
    type Measured = Latencies;

    fn group(&self) -> &'static str {
        "frames"
    }

    fn about(&self) -> &'static str {
        "frames: 8 kB every 33 ms over 20@20+10@80, until the receiver has the whole frame; \
         milliseconds (overflow, aggregate: p99 at most 1.10 of the default scheduler's; spill, \
         strict: p99 at most that of a frame on the slower path alone, and 10 ms)"
    }

    fn label(&self, policy: Policy) -> String {
        format!("frames {policy} {}", self.congestion)
    }

    fn policies(&self) -> Vec<Policy> {
        vec![
            Policy::Overflow,
            Policy::Aggregate,
            Policy::Spill(&[1, 1]),
            Policy::Spill(&[4, 1]),
            Policy::Strict(&[1, 1]),
            Policy::Strict(&[4, 1]),
        ]
    }

    fn length(&self, _policies: &[Policy]) -> Duration {
        OVERHEAD + INTERVAL * (SKIPPED + self.count)
    }

    fn measure(&self, agent: &FilePath, policy: Policy) -> Result<Latencies> {
        self.send(self.prepare(agent, policy)?)
    }

    fn round(
        &self,
        agent: &FilePath,
        policies: &[Policy],
        now: &dyn Fn(&str),
    ) -> Vec<Result<Latencies>> {
        now("all policies");
        let ready = together(policies.to_vec(), |policy| self.prepare(agent, policy));
        // Two pairs of hosts do not send a frame at the same time.
        let step = INTERVAL / policies.len().max(1) as u32;
        let places = ready.into_iter().enumerate().collect();
        together(places, |(place, ready): (usize, Result<Ready>)| {
            sleep(step * place as u32);
            self.send(ready?)
        })
    }

    fn columns(&self, policy: Policy, mine: &[Latencies], default: &[Latencies]) -> Vec<Column> {
        let each = |all: &[Latencies], figure: fn(&Latencies) -> Duration| -> Vec<f64> {
            let figures = all.iter().map(figure);
            figures.map(|one| one.as_secs_f64() * 1e3).collect()
        };
        let p99 = each(mine, Latencies::p99);
        let ratio = if policy == Policy::Default {
            Vec::new()
        } else {
            ratios(&p99, &each(default, Latencies::p99))
        };
        let ratio_max = match policy {
            Policy::Overflow | Policy::Aggregate => Some(Target::AtMost(P99_MAX)),
            _ => None,
        };
        let p99_max = policy.weights().map(|_| Target::AtMost(slower_path_ms()));
        vec![
            Column::new("p50", 1, each(mine, Latencies::p50)),
            Column::judged("p99", 1, p99, p99_max),
            Column::new("worst", 1, each(mine, Latencies::max)),
            Column::judged("p99 /", 2, ratio, ratio_max),
        ]
    }
}
