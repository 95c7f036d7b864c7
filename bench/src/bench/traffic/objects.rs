//! Objects and pages from a server, on fresh and on kept connections. The agent
//! runs on the server's host, which sends them.

use std::fmt;
use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::{ANY, Latencies, ObjectClient, PollServer, Service, Sockets, fetch_fresh};
use mptcp_lab::{Direction, Link, TwoHosts, share};

use super::case::Case;
use super::column::{Column, Target, ratios};
use super::policy::Policy;
use super::side::{Sender, Side};
use crate::bench::plan::{Links, path};
use crate::bench::rows::together;

/// The sizes in bytes, with their names.
const SIZES: [(u64, &str); 4] = [
    (30_000, "30kB"),
    (300_000, "300kB"),
    (2_000_000, "2MB"),
    (10_000_000, "10MB"),
];
/// How many objects a page has, each on a connection of its own.
const PAGE: usize = 8;
/// The time between two objects, or two pages.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long objects are fetched, and within how long a ratio must hold.
const BLOCK: Duration = Duration::from_secs(10);
/// For how long those are fetched, with --quick, whose times count. They are the
/// same for all policies: the first ones on a connection are slower.
const QUICK_BLOCK: Duration = Duration::from_secs(3);
/// The least number of objects.
const LEAST: usize = 5;
/// The object that a kept connection begins with, and how long joins may take.
const FIRST: u64 = 100_000;
const JOINS: Duration = Duration::from_secs(10);
/// The time to build a lab, and to start and to stop an agent.
const OVERHEAD: Duration = Duration::from_secs(2);
/// The weights of strict and spill.
const WEIGHTS: &[u16] = &[2, 1];
/// The largest allowed ratio of medians, and of 95th percentiles.
const RATIO_MAX: f64 = 1.05;
/// The least number of objects, over all rounds, whose 95th percentile is judged:
/// that of fewer is the slowest of them, and mostly noise.
const TAIL_LEAST: usize = 15;
/// The largest allowed ratio of medians where the weights always hold.
const STRICT_MAX: f64 = 1.2;
/// How far the host's share may be off where the weights always hold.
const ERROR_MAX: f64 = 0.02;

/// The links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// 40 Mbit/s with 20 ms, and 20 with 60.
    Even,
    /// 50 Mbit/s with 10 ms, and 15 with 60.
    Uneven,
}

/// The connection of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A new one for each object.
    Fresh,
    /// One for all objects.
    Kept,
}

/// Objects of one size.
pub struct Objects {
    at: Where,
    size: u64,
    name: &'static str,
    kind: Kind,
    /// How many are fetched at a time.
    at_once: usize,
    congestion: &'static str,
    /// For how long those are fetched whose times count.
    block: Duration,
}

/// Returns the cases; those with bbr only with `all`.
pub fn cases(quick: bool, all: bool) -> Vec<Objects> {
    let mut cases = Vec::new();
    let congestions: &[_] = if all { &["cubic", "bbr"] } else { &["cubic"] };
    for &congestion in congestions {
        for at in [Where::Even, Where::Uneven] {
            for (size, name) in SIZES {
                for kind in [Kind::Fresh, Kind::Kept] {
                    for at_once in [1, PAGE] {
                        cases.push(Objects {
                            at,
                            size,
                            name,
                            kind,
                            at_once,
                            congestion,
                            block: if quick { QUICK_BLOCK } else { BLOCK },
                        });
                    }
                }
            }
        }
    }
    if quick {
        cases.retain(Objects::is_quick);
    }
    cases
}

impl Objects {
    /// Returns whether the case is among the most telling ones.
    fn is_quick(&self) -> bool {
        let telling = match (self.name, self.kind, self.at_once) {
            ("300kB", Kind::Kept, _) | ("2MB", _, 1) | ("300kB", Kind::Fresh, PAGE) => true,
            ("30kB", Kind::Kept, at_once) => at_once == 1,
            _ => false,
        };
        telling && self.at == Where::Even && self.congestion == "cubic"
    }

    fn links(&self) -> Links {
        match self.at {
            Where::Even => Links::new(
                "40@20+20@60",
                [path(1, 40.0).delay_ms(10.0), path(2, 20.0).delay_ms(30.0)],
            ),
            Where::Uneven => Links::new(
                "50@10+15@60",
                [path(1, 50.0).delay_ms(5.0), path(2, 15.0).delay_ms(30.0)],
            ),
        }
    }

    /// Returns whether the second path can carry its share: a connection that is
    /// over before the second path joins cannot use it.
    fn can_share(&self) -> bool {
        self.kind == Kind::Kept || self.size > 30_000
    }

    /// Returns how long objects are fetched under a policy.
    fn block(&self, policy: Policy) -> Duration {
        if policy.is_strict() {
            BLOCK
        } else {
            self.block
        }
    }

    /// Fetches objects for this long, and returns how long each took.
    fn fetch(&self, net: &TwoHosts, server: &PollServer, block: Duration) -> Result<Fetched> {
        let address = server.at(net.server_addr());
        let mut kept = Vec::new();
        if self.kind == Kind::Kept {
            for _ in 0..self.at_once {
                let client = ObjectClient::connect(&net.client, address)?;
                client.fetch(FIRST)?;
                let joined = client.wait_for_subflows(net.links.len(), JOINS);
                joined.context("not every path has joined")?;
                kept.push(client);
            }
        }
        let lane = |lane: usize| match kept.get(lane) {
            Some(client) => client.fetch(self.size),
            None => fetch_fresh(&net.client, address, self.size),
        };
        let page = || -> Result<Vec<Duration>> {
            let lanes = (0..self.at_once).collect();
            let page = together(lanes, lane).into_iter().collect();
            sleep(PAUSE);
            page
        };
        // The first page is not measured.
        page()?;
        let (start, before) = (Instant::now(), carried(&net.links)?);
        let mut samples = Vec::new();
        while samples.len() < LEAST || start.elapsed() < block {
            let counts = samples.len() < LEAST || start.elapsed() < self.block;
            let page = page()?;
            if counts {
                samples.extend(page);
            }
        }
        let after = carried(&net.links)?;
        Ok(Fetched {
            latencies: Latencies::new(samples),
            carried: after.iter().zip(before).map(|(a, b)| a - b).collect(),
        })
    }
}

/// Returns the bytes that each link has delivered to the client.
fn carried(links: &[Link]) -> Result<Vec<u64>> {
    let stats = |link: &Link| Ok(link.stats(Direction::Down)?.forwarded_bytes);
    links.iter().map(stats).collect()
}

/// The results of a measurement.
pub struct Fetched {
    latencies: Latencies,
    /// The bytes that each path carried.
    carried: Vec<u64>,
}

impl Fetched {
    fn p50(&self) -> f64 {
        self.latencies.p50().as_secs_f64() * 1e3
    }

    fn p95(&self) -> f64 {
        self.latencies.percentile(95.0).as_secs_f64() * 1e3
    }

    fn shares(&self) -> Vec<f64> {
        let total: u64 = self.carried.iter().sum();
        let share = |&bytes| bytes as f64 / total as f64;
        self.carried.iter().map(share).collect()
    }
}

impl Case for Objects {
    type Measured = Fetched;

    fn group(&self) -> &'static str {
        "objects"
    }

    fn about(&self) -> &'static str {
        "objects: from a server, on fresh and on kept connections, alone and 8 at a time (page); \
         milliseconds; p50 / and p95 /: by the default scheduler's (spill, overflow, aggregate: at \
         most 1.05, p95 of 15 objects or more; strict: the median at most 1.2); share: the host's on the first path; error: \
         over 10 s (strict: at most 0.02)"
    }

    fn label(&self, policy: Policy) -> String {
        let (title, name, kind) = (self.links().title, self.name, self.kind);
        let how = if self.at_once == 1 { "alone" } else { "page" };
        let congestion = self.congestion;
        format!("objects {title} {name} {kind} {how} {policy} {congestion}")
    }

    fn policies(&self) -> Vec<Policy> {
        vec![
            Policy::Spill(WEIGHTS),
            Policy::Overflow,
            Policy::Aggregate,
            Policy::Strict(WEIGHTS),
        ]
    }

    fn length(&self, policies: &[Policy]) -> Duration {
        let one = |policy: &Policy| {
            let least = self.size as f64 * LEAST.max(self.at_once) as f64 * 8.0 / 50e6;
            OVERHEAD + self.block(*policy).max(Duration::from_secs_f64(least))
        };
        policies.iter().map(one).sum()
    }

    fn measure(&self, agent: &FilePath, policy: Policy) -> Result<Fetched> {
        let side = Side::new(agent, &self.links(), Sender::Server, policy)?;
        let net = &side.rig.net;
        let sockets = Sockets {
            congestion: Some(self.congestion.to_owned()),
            ..Sockets::default()
        };
        let server = PollServer::spawn(&net.server, ANY, Service::Objects, &sockets)?;
        let fetched = self.fetch(net, &server, self.block(policy))?;
        server.stop()?;
        side.end()?;
        Ok(fetched)
    }

    fn columns(&self, policy: Policy, mine: &[Fetched], default: &[Fetched]) -> Vec<Column> {
        let each = |all: &[Fetched], figure: fn(&Fetched) -> f64| -> Vec<f64> {
            all.iter().map(figure).collect()
        };
        let [p50, p95] = [Fetched::p50, Fetched::p95].map(|figure| {
            let compared = || ratios(&each(mine, figure), &each(default, figure));
            let ratio = if policy == Policy::Default {
                Vec::new()
            } else {
                compared()
            };
            (each(mine, figure), ratio)
        });
        let objects = mine.iter().map(|one| one.latencies.samples.len());
        let enough = objects.sum::<usize>() >= TAIL_LEAST;
        let (median_max, tail_max) = match policy {
            Policy::Strict(_) => (STRICT_MAX, None),
            _ => (RATIO_MAX, enough.then_some(Target::AtMost(RATIO_MAX))),
        };
        let mut error = Vec::new();
        if policy.is_strict() {
            let targets = share::targets(WEIGHTS);
            let off = |one: &Fetched| share::deviation(&one.shares(), &targets);
            error = mine.iter().map(off).collect();
        }
        let target = self.can_share().then_some(Target::EachAtMost(ERROR_MAX));
        vec![
            Column::new(
                "objects",
                0,
                each(mine, |one| one.latencies.samples.len() as f64),
            ),
            Column::new("p50", 1, p50.0),
            Column::new("p95", 1, p95.0),
            Column::judged("p50 /", 2, p50.1, Some(Target::AtMost(median_max))),
            Column::judged("p95 /", 2, p95.1, tail_max),
            Column::new("share", 3, each(mine, |one| one.shares()[0])),
            Column::judged("error", 3, error, target),
        ]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Kept => "kept",
        })
    }
}
