//! Requests and responses beside bulk, on the connections of one host.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Crowd, Latencies, PollServer, Service, Sockets};

use super::case::Case;
use super::column::{Column, Target, ratios};
use super::many::{ERROR_MAX, OVERHEAD, SETTLE, links, settle};
use super::policy::Policy;
use super::side::{Sender, Side};
use super::watch::{self, WINDOW, Watch, Watched};

/// The connections with requests, the bytes of each request and response, and
/// the time between requests.
const REQUESTS: usize = 50;
const SIZE: usize = 200;
const INTERVAL: Duration = Duration::from_millis(20);
/// The connections that upload as much as they can.
const BULK: usize = 2;
/// The largest allowed ratio of the 99th percentiles.
const P99_MAX: f64 = 1.10;
/// The weights that are asked for.
const WEIGHTS: [&[u16]; 3] = [&[1, 1], &[4, 1], &[1, 9]];

/// The mixture under one congestion control.
pub struct Mixed {
    congestion: &'static str,
    windows: u32,
}

/// Returns the cases.
pub fn cases(quick: bool) -> Vec<Mixed> {
    let (congestions, windows) = if quick {
        (&["cubic"][..], 1)
    } else {
        (&["cubic", "bbr"][..], 2)
    };
    let case = |&congestion: &&'static str| Mixed {
        congestion,
        windows,
    };
    congestions.iter().map(case).collect()
}

/// The results of a measurement.
pub struct Measured {
    watched: Watched,
    latencies: Latencies,
}

impl Case for Mixed {
    type Measured = Measured;

    fn group(&self) -> &'static str {
        "mixed"
    }

    fn about(&self) -> &'static str {
        "mixed: 50 connections with requests of 200 bytes every 20 ms, and 2 uploads, over 80+40 \
         Mbit/s; share: the host's on the first path; window: the worst error of a window of 5 s \
         (at most 0.01); milliseconds; p99 / default (at most 1.10)"
    }

    fn label(&self, policy: Policy) -> String {
        format!("mixed {policy} {}", self.congestion)
    }

    fn policies(&self) -> Vec<Policy> {
        WEIGHTS.iter().map(|one| Policy::Strict(one)).collect()
    }

    fn length(&self, policies: &[Policy]) -> Duration {
        (OVERHEAD + SETTLE + WINDOW * self.windows) * policies.len() as u32
    }

    fn measure(&self, agent: &FilePath, policy: Policy) -> Result<Measured> {
        let side = Side::new(agent, &links(), Sender::Client, policy)?;
        let net = &side.rig.net;
        let server = |service| PollServer::spawn(&net.server, ANY, service, &Sockets::default());
        let (echo, sink) = (server(Service::Echo)?, server(Service::Sink)?);
        let start = |crowd: Crowd, server: &PollServer| {
            let crowd = crowd.congestion(self.congestion);
            crowd.start(&net.client, server.at(net.server_addr()))
        };
        let requests = start(Crowd::requests(REQUESTS, SIZE, INTERVAL), &echo)?;
        let bulk = start(Crowd::uploads(BULK), &sink)?;
        settle(&[(&requests, REQUESTS), (&bulk, BULK)])?;
        let first = requests.responses();
        let mut watch = Watch::new(&net.links, || watch::subflows(&[&requests, &bulk]));
        let watched = watch.windows(self.windows, WINDOW, || sink.received(), |_| Ok(()))?;
        let latencies = Latencies::new(requests.latencies_from(first));
        requests.stop()?;
        bulk.stop()?;
        side.end()?;
        Ok(Measured { watched, latencies })
    }

    fn columns(&self, policy: Policy, mine: &[Measured], default: &[Measured]) -> Vec<Column> {
        let each = |all: &[Measured], figure: fn(&Measured) -> f64| -> Vec<f64> {
            all.iter().map(figure).collect()
        };
        let p99 = |one: &Measured| one.latencies.p99().as_secs_f64() * 1e3;
        let (mut error, mut ratio) = (Vec::new(), Vec::new());
        if let Some(weights) = policy.weights() {
            let off = |one: &Measured| one.watched.worst_window(weights);
            error = mine.iter().map(off).collect();
        }
        if policy != Policy::Default {
            ratio = ratios(&each(mine, p99), &each(default, p99));
        }
        let p50 = |one: &Measured| one.latencies.p50().as_secs_f64() * 1e3;
        vec![
            Column::new("share", 3, each(mine, |one| one.watched.whole.shares()[0])),
            Column::judged("window", 4, error, Some(Target::EachAtMost(ERROR_MAX))),
            Column::new(
                "Mbit/s",
                1,
                each(mine, |one| one.watched.whole.goodput_mbit()),
            ),
            Column::new(
                "requests",
                0,
                each(mine, |one| one.latencies.samples.len() as f64),
            ),
            Column::new("p50", 2, each(mine, p50)),
            Column::new("p99", 2, each(mine, p99)),
            Column::judged("p99 /", 2, ratio, Some(Target::AtMost(P99_MAX))),
        ]
    }
}
