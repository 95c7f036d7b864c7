//! Many uploads at once.

use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::share;
use mptcp_lab::traffic::{ANY, Crowd, Crowding, PollServer, Service, Sockets};

use super::case::Case;
use super::column::{Column, Target, ratios};
use super::policy::Policy;
use super::side::{Sender, Side};
use super::watch::{self, WINDOW, Watch, Watched};
use crate::bench::plan::{Links, path};

/// How many connections there are.
const COUNTS: [usize; 5] = [1, 10, 30, 100, 300];
const QUICK_COUNTS: [usize; 2] = [10, 100];
/// The same over links with a delay.
const FAR_COUNTS: [usize; 3] = [30, 100, 300];
const QUICK_FAR_COUNTS: [usize; 2] = [30, 100];
/// The one-way delay of these links, milliseconds.
const FAR_MS: f64 = 10.0;
/// The weights that are asked for.
const WEIGHTS: [&[u16]; 3] = [&[1, 1], &[4, 1], &[1, 9]];
const QUICK_WEIGHTS: [&[u16]; 2] = [&[1, 1], &[1, 9]];
/// How long joins may take. A connection that has not joined by then is counted.
const JOINS: Duration = Duration::from_secs(5);
/// The time that is not measured after the joins.
pub const SETTLE: Duration = Duration::from_secs(3);
/// The time to build a lab, to start and to stop an agent, and to join.
pub const OVERHEAD: Duration = Duration::from_secs(3);
/// How far the host's share may be off in any window.
pub const ERROR_MAX: f64 = 0.01;
/// The least allowed goodput, as a part of the most that the weights allow.
const GOODPUT_MIN: f64 = 0.95;
/// The least allowed rate of the slowest connection relative to the mean, as a
/// part of the same figure under the default scheduler.
const SLOWEST_MIN: f64 = 0.5;
/// The most CPU time that a gigabyte may take, by what it takes under the default
/// scheduler.
const CPU_MAX: f64 = 1.05;
/// From so many connections on, the CPU time has a target.
const CPU_JUDGED_FROM: usize = 100;
/// The part of the mean below which a connection starves; all that do are alike.
const STARVING: f64 = 0.01;

/// So many uploads.
pub struct Many {
    connections: usize,
    /// Whether the links have a delay. Without one, TCP sends 32 kB in one piece, however
    /// low its pacing rate (`tcp_tso_autosize`).
    far: bool,
    congestion: &'static str,
    weights: Vec<&'static [u16]>,
    windows: u32,
}

/// Returns the cases.
pub fn cases(quick: bool) -> Vec<Many> {
    let (near, far, weights, windows) = if quick {
        let weights = &QUICK_WEIGHTS[..];
        (&QUICK_COUNTS[..], &QUICK_FAR_COUNTS[..], weights, 1)
    } else {
        (&COUNTS[..], &FAR_COUNTS[..], &WEIGHTS[..], 2)
    };
    let near = near.iter().map(|&count| (count, false));
    let mut cases = Vec::new();
    for (connections, far) in near.chain(far.iter().map(|&count| (count, true))) {
        for congestion in ["cubic", "bbr"] {
            cases.push(Many {
                connections,
                far,
                congestion,
                weights: weights.to_vec(),
                windows,
            });
        }
    }
    cases
}

/// Returns the links of this group without a delay, and of the mixed one.
pub fn links() -> Links {
    Links::new("80+40", [path(1, 80.0).modem(), path(2, 40.0).modem()])
}

/// Waits until the connections have settled; returns how many of them have not
/// joined from every path.
pub fn settle(crowds: &[(&Crowding, usize)]) -> Result<usize> {
    let mut alone = 0;
    for (crowd, count) in crowds {
        // All links of this group have two paths.
        alone += count - crowd.wait_for_joins(links().paths.len(), JOINS)?;
    }
    sleep(SETTLE);
    Ok(alone)
}

/// The results of a measurement.
pub struct Measured {
    watched: Watched,
    /// How many connections have not joined from every path.
    alone: usize,
    /// CPU seconds for each gigabyte (10^9 bytes) that was delivered.
    cpu_per_gigabyte: f64,
}

impl Many {
    fn links(&self) -> Links {
        if !self.far {
            return links();
        }
        let far = |number, rate| path(number, rate).delay_ms(FAR_MS).queue_ms(50.0);
        Links::new("80@20+40@20", [far(1, 80.0), far(2, 40.0)])
    }
}

impl Case for Many {
    type Measured = Measured;

    fn group(&self) -> &'static str {
        "many"
    }

    fn about(&self) -> &'static str {
        "many: uploads at once over 80+40 Mbit/s; share: the host's on the first path; window: the \
         worst error of a window of 5 s (at most 0.01); / bound: the goodput by the most that the \
         weights allow (at least 0.95); slowest: the slowest connection by the mean; / default (at \
         least 0.5); CPU s/GB: CPU seconds of both hosts, their kernel and the agent for each \
         gigabyte, and CPU /: by that of the default scheduler (from 100 connections on at most \
         1.05); alone: connections with one path; far: a round trip of 20 ms, by links whose \
         own CPU time is not told from the rest"
    }

    fn label(&self, policy: Policy) -> String {
        let far = if self.far { " far" } else { "" };
        format!(
            "many {}{far} {policy} {}",
            self.connections, self.congestion
        )
    }

    fn policies(&self) -> Vec<Policy> {
        self.weights.iter().map(|one| Policy::Strict(one)).collect()
    }

    fn length(&self, policies: &[Policy]) -> Duration {
        (OVERHEAD + SETTLE + WINDOW * self.windows) * policies.len() as u32
    }

    fn measure(&self, agent: &FilePath, policy: Policy) -> Result<Measured> {
        let side = Side::new(agent, &self.links(), Sender::Client, policy)?;
        let net = &side.rig.net;
        let sink = PollServer::spawn(&net.server, ANY, Service::Sink, &Sockets::default())?;
        let crowd = Crowd::uploads(self.connections).congestion(self.congestion);
        let crowd = crowd.start(&net.client, sink.at(net.server_addr()))?;
        let alone = settle(&[(&crowd, self.connections)])?;
        let mut watch = Watch::new(&net.links, || watch::subflows(&[&crowd]));
        let (busy, delivered) = (side.cpu_seconds()?, sink.received());
        let watched = watch.windows(self.windows, WINDOW, || sink.received(), |_| Ok(()))?;
        let busy = side.cpu_seconds()? - busy;
        let cpu_per_gigabyte = busy * 1e9 / (sink.received() - delivered) as f64;
        crowd.stop()?;
        sink.stop()?;
        side.end()?;
        Ok(Measured {
            watched,
            alone,
            cpu_per_gigabyte,
        })
    }

    fn columns(&self, policy: Policy, mine: &[Measured], default: &[Measured]) -> Vec<Column> {
        let weights = policy.weights();
        let mbit = goodputs(mine.iter().map(|one| &one.watched));
        let slowest = |all: &[Measured]| all.iter().map(|one| one.watched.slowest).collect();
        let (slow, fair): (Vec<f64>, Vec<f64>) = (slowest(mine), slowest(default));
        let fed = |all: &[f64]| -> Vec<f64> { all.iter().map(|one| one.max(STARVING)).collect() };
        let cpu = |all: &[Measured]| all.iter().map(|one| one.cpu_per_gigabyte).collect();
        let (busy, usual): (Vec<f64>, Vec<f64>) = (cpu(mine), cpu(default));
        let [compared, busier] = match policy {
            Policy::Default => [Vec::new(), Vec::new()],
            _ => [ratios(&fed(&slow), &fed(&fair)), ratios(&busy, &usual)],
        };
        // The threads that delay packets need more CPU time than all the rest.
        let judged = self.connections >= CPU_JUDGED_FROM && !self.far;
        let most = judged.then_some(Target::AtMost(CPU_MAX));
        let told = |all: Vec<f64>| if self.far { Vec::new() } else { all };
        let alone = mine.iter().map(|one| one.alone as f64).collect();
        let watched = mine.iter().map(|one| &one.watched);
        let [share, window, bound] = shares(&self.links(), weights, watched);
        vec![
            share,
            window,
            Column::new("Mbit/s", 1, mbit),
            bound,
            Column::new("slowest", 2, slow),
            Column::judged("/ default", 2, compared, Some(Target::AtLeast(SLOWEST_MIN))),
            Column::new("CPU s/GB", 2, told(busy)),
            Column::judged("CPU /", 2, told(busier), most),
            Column::new("alone", 0, alone),
        ]
    }
}

fn goodputs<'a>(all: impl Iterator<Item = &'a Watched>) -> Vec<f64> {
    all.map(|one| one.whole.goodput_mbit()).collect()
}

/// Returns the columns of the share, its error and the bound; the last two are
/// empty without weights.
fn shares<'a>(
    links: &Links,
    weights: Option<&[u16]>,
    all: impl Iterator<Item = &'a Watched> + Clone,
) -> [Column; 3] {
    let share = all.clone().map(|one| one.whole.shares()[0]).collect();
    let mut error = Vec::new();
    let mut part = Vec::new();
    if let Some(weights) = weights {
        error = all.clone().map(|one| one.worst_window(weights)).collect();
        // The links have rates, so there is a bound.
        let bound = share::bound_mbit(&links.paths, weights).unwrap_or(f64::NAN);
        part = goodputs(all).iter().map(|mbit| mbit / bound).collect();
    }
    [
        Column::new("share", 3, share),
        Column::judged("window", 4, error, Some(Target::EachAtMost(ERROR_MAX))),
        Column::judged("/ bound", 3, part, Some(Target::AtLeast(GOODPUT_MIN))),
    ]
}
