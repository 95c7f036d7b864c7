//! Helpers of the tests of the redundant policy: two hosts with an agent each,
//! requests and responses between them, and the agents' metrics of copies.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context, Result};
use mptcp_lab::kernel::Recovery;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, Latencies, RequestResponse, Server};
use mptcp_lab::{Agent, Host, Lab, Link, Path, agent, wait};

use crate::support::{Watched, scrape_until};
use crate::{SETTLE, SOON};

/// How many DSACKs a test lets pass. If both arrivals of a segment come at
/// the same moment on two CPUs, one waits for the other, but only for some tens of
/// microseconds. If the host of a virtual machine holds the other CPU up for
/// longer, TCP gets the segment twice.
pub(crate) const STRAY_DSACKS: u64 = 40;

/// How many tail loss probes a test lets pass, see [`STRAY_DSACKS`].
pub(crate) const STRAY_PROBES: u64 = 5;

/// The default UDP port of agents.
pub(crate) const PORT: u16 = 8684;
/// The time from one request to the next.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);
/// A number of requests that no test reaches.
pub(crate) const MANY: usize = 1_000_000;
/// An agent stops sending copies to a peer that is silent this long.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// A client and a server with an agent each, and a connection that exchanges
/// 200 bytes each way every [`INTERVAL`]. Dropping it ends the agents first.
pub(crate) struct Scene {
    pub(crate) client: Watched,
    pub(crate) server: Watched,
    pub(crate) exchange: Exchange,
    pub(crate) echo: Server,
    pub(crate) hosts: [Host; 2],
    pub(crate) links: Vec<Link>,
    pub(crate) lab: Lab,
}

/// The hosts and links of a scene, before its agents are started.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) hosts: [Host; 2],
    pub(crate) links: Vec<Link>,
}

impl Stage {
    /// Makes two hosts whose connections can have subflows of both families.
    pub(crate) fn new(paths: impl IntoIterator<Item = Path>) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(paths)?;
        net.signal_other_family()?;
        Ok(Self {
            lab,
            hosts: [net.client, net.server],
            links: net.links,
        })
    }

    /// Starts both agents with these arguments, then the connection. Waits until
    /// every path has a subflow, a proven peer and copies both ways.
    pub(crate) fn play(self, binary: &FilePath, more: &[&str]) -> Result<Scene> {
        let [client, server] = &self.hosts;
        let agents = [
            redundant(client, binary, more)?,
            redundant(server, binary, more)?,
        ];
        let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
        let exchange = ask(client, &echo, &self.links)?;
        let [client, server] = agents;
        let scene = Scene {
            client,
            server,
            exchange,
            echo,
            hosts: self.hosts,
            links: self.links,
            lab: self.lab,
        };
        scene.wait_for_copies()?;
        Ok(scene)
    }
}

/// Starts an agent with `--policy redundant`.
pub(crate) fn redundant(host: &Host, binary: &FilePath, more: &[&str]) -> Result<Watched> {
    Watched::start(host, binary, &agent::redundant_args(more))
}

/// Starts endless requests on a connection with a subflow on each link.
pub(crate) fn ask(client: &Host, echo: &Server, links: &[Link]) -> Result<Exchange> {
    let first = links.first().context("no link")?.server_addr;
    let families = links
        .iter()
        .any(|l| l.server_addr.is_ipv6() != first.is_ipv6());
    let mut load = RequestResponse::new(200, INTERVAL, MANY);
    load.sockets.dual_stack = families;
    let exchange = load.start(client, echo.at(first))?;
    exchange.wait_for_subflows(links.len(), SOON)?;
    Ok(exchange)
}

impl Scene {
    /// Makes a scene with two equal paths and agents with these arguments.
    pub(crate) fn of_two(binary: &FilePath, more: &[&str]) -> Result<Self> {
        Stage::new(["p1", "p2"].map(Path::new))?.play(binary, more)
    }

    /// Returns both agents.
    pub(crate) fn agents(&self) -> [&Watched; 2] {
        [&self.client, &self.server]
    }

    /// Waits until both agents have proven every link and both receive copies.
    pub(crate) fn wait_for_copies(&self) -> Result<()> {
        for agent in self.agents() {
            wait_for_proven(agent, self.links.len())?;
            let before = arrived(&agent.scrape()?);
            scrape_until(agent, "copies", |metrics| arrived(metrics) > before)?;
        }
        Ok(())
    }

    /// Waits for `count` more responses. None of them may be missing.
    pub(crate) fn more_responses(&self, count: u64) -> Result<()> {
        let goal = self.exchange.responses() + count;
        self.exchange.wait_for_responses(goal, SETTLE)
    }

    /// Returns how much TCP had to repair, at both ends together.
    pub(crate) fn recovery(&self) -> Result<Recovery> {
        Recovery::of_hosts(&[&self.hosts[0], &self.hosts[1]])
    }

    /// Ends the connection and both agents.
    pub(crate) fn end(self) -> Result<()> {
        self.exchange.stop()?;
        self.client.stop()?;
        self.server.stop()
    }
}

/// Waits until exactly `links` links are proven.
pub(crate) fn wait_for_proven(agent: &Agent, links: usize) -> Result<Metrics> {
    scrape_until(agent, &format!("{links} proven links"), |metrics| {
        peers(metrics, "proven") == links as f64
    })
}

/// Waits until no copy has been sent for a while. The last copy must be sent
/// within [`SILENCE`] (and a little more for a busy machine).
pub(crate) fn wait_for_the_last_copy(agent: &Agent) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(700);
    let sent = || agent.scrape().map_or(-1.0, |metrics| sent(&metrics));
    let mut last = (sent(), std::time::Instant::now());
    wait::try_until("the last copy", SILENCE + QUIET + QUIET, || {
        let now = sent();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        if last.1.elapsed() >= QUIET {
            Ok(())
        } else {
            Err(now)
        }
    })
}

/// Counts the requests that took more than 50 ms longer than the median of all.
pub(crate) fn late(samples: &[Duration]) -> usize {
    let limit = Latencies::new(samples.to_vec()).p50() + Duration::from_millis(50);
    samples.iter().filter(|sample| **sample > limit).count()
}

/// Counts the links in a state: proven, silent, asking, refused.
pub(crate) fn peers(metrics: &Metrics, state: &str) -> f64 {
    metrics.sum("mptcp_redundant_peers", &[("state", state)])
}

/// Counts the copies sent over all paths.
pub(crate) fn sent(metrics: &Metrics) -> f64 {
    metrics.sum("mptcp_redundant_copies_sent_total", &[])
}

/// Counts the copies that arrived on all paths and were not refused.
pub(crate) fn arrived(metrics: &Metrics) -> f64 {
    received(metrics, "first") + received(metrics, "duplicate")
}

/// Counts the copies that arrived, by outcome: first, duplicate, refused.
pub(crate) fn received(metrics: &Metrics, outcome: &str) -> f64 {
    let name = "mptcp_redundant_copies_received_total";
    metrics.sum(name, &[("outcome", outcome)])
}

/// Counts the segments that got no copy, by reason: busy, budget, mtu, no-peer,
/// no-timestamps, kernel.
pub(crate) fn dropped(metrics: &Metrics, reason: &str) -> f64 {
    let name = "mptcp_redundant_copies_dropped_total";
    metrics.sum(name, &[("reason", reason)])
}

/// Counts the refused datagrams, by reason: unproven, malformed, fragment,
/// not-tcp, foreign, kernel.
pub(crate) fn refused(metrics: &Metrics, reason: &str) -> f64 {
    let name = "mptcp_redundant_refused_total";
    metrics.sum(name, &[("reason", reason)])
}

/// Counts the bytes of payload that only a copy delivered.
pub(crate) fn rescued(metrics: &Metrics) -> f64 {
    metrics.sum("mptcp_redundant_rescued_bytes_total", &[])
}

/// Counts the hellos by result: sent, answered, verified, refused, malformed.
pub(crate) fn hellos(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("mptcp_redundant_hellos_total", &[("result", result)])
}
