//! One of the two pairs of hosts.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY_V4, Behaviour, Exchange, Latencies, RequestResponse, Server};
use mptcp_lab::{Agent, Direction, Lab, Path, TwoHosts, wait};

use super::{INTERVAL, LATE};

/// How long joins, and the agents' first hellos, may take.
const READY: Duration = Duration::from_secs(20);
/// The size of a request and of its response, in bytes.
const SIZE: usize = 200;

/// Two hosts, both with or without an agent, and requests between them.
pub struct Side {
    // The agents end before their hosts do.
    agents: Vec<Agent>,
    load: Option<Load>,
    net: TwoHosts,
    _lab: Lab,
}

/// The running requests.
struct Load {
    exchange: Exchange,
    _echo: Server,
    before: Recovery,
    /// The first response that counts.
    start: u64,
    /// The first response that has not been looked at.
    next: u64,
    last: Duration,
}

/// The results of the requests so far.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// How many requests were answered.
    pub responses: u64,
    /// How long the last request took, or has been waiting for its response.
    pub last: Duration,
    /// How long the slowest request took.
    pub worst: Duration,
    /// Requests that took more than [`LATE`] longer than the median.
    pub late: usize,
    /// Retransmission timeouts of both hosts.
    pub timeouts: u64,
    /// Copies sent by both hosts.
    pub sent: f64,
    /// Copies that arrived before their original.
    pub first: f64,
    /// Bytes of payload that these copies delivered.
    pub rescued: f64,
}

impl Side {
    /// Makes a pair of hosts under the default scheduler.
    pub fn left_alone() -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(["p1", "p2"].map(|name| Path::new(name).rate_mbit(50.0)))?;
        Ok(Self {
            agents: Vec::new(),
            load: None,
            net,
            _lab: lab,
        })
    }

    /// Makes a pair of hosts with an agent on both.
    pub fn redundant(binary: &FilePath) -> Result<Self> {
        let mut side = Self::left_alone()?;
        for host in [&side.net.client, &side.net.server] {
            side.agents.push(Agent::redundant(host, binary, &[])?);
        }
        Ok(side)
    }

    /// Opens a connection, starts requests and waits until all paths and agents are
    /// ready.
    pub fn begin(&mut self) -> Result<()> {
        let net = &self.net;
        let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
        let load = RequestResponse::new(SIZE, INTERVAL, usize::MAX);
        let exchange = load.start(&net.client, echo.at(net.server_addr()))?;
        exchange.wait_for_subflows(net.links.len(), READY)?;
        for agent in &self.agents {
            wait::try_until("the agents to find each other", READY, || {
                let metrics = agent.scrape().map_err(|error| format!("{error:#}"))?;
                match metrics.sum("mptcp_redundant_peers", &[("state", "proven")]) {
                    proven if proven >= net.links.len() as f64 => Ok(()),
                    proven => Err(format!("{proven} links")),
                }
            })?;
        }
        let start = exchange.responses();
        self.load = Some(Load {
            before: self.recovery()?,
            next: start,
            start,
            exchange,
            _echo: echo,
            last: Duration::ZERO,
        });
        Ok(())
    }

    /// Cuts a path, or restores it.
    pub fn cut(&self, path: usize, on: bool) -> Result<()> {
        self.net.links[path].blackhole(Direction::Both, on)
    }

    /// Returns the longest that a request took, or has waited, since the last call.
    pub fn tick(&mut self) -> Duration {
        let Some(load) = &mut self.load else {
            return Duration::ZERO;
        };
        let fresh = load.exchange.latencies_from(load.next);
        load.next += fresh.len() as u64;
        let waiting = load.exchange.waiting().unwrap_or_default();
        load.last = waiting.max(fresh.last().copied().unwrap_or_default());
        fresh.into_iter().max().unwrap_or_default().max(waiting)
    }

    /// Returns the results of all requests so far.
    pub fn state(&self) -> Result<State> {
        let load = self.load.as_ref().context("no load")?;
        let all = Latencies::new(load.exchange.latencies_from(load.start));
        let limit = all.p50() + LATE;
        let waiting = load.exchange.waiting().unwrap_or_default();
        let late = all.samples.iter().filter(|one| **one > limit).count();
        let mut state = State {
            responses: all.samples.len() as u64,
            last: load.last,
            worst: all.max().max(waiting),
            late: late + usize::from(waiting > limit),
            timeouts: (self.recovery()? - load.before).timeouts,
            ..State::default()
        };
        for agent in &self.agents {
            let metrics = agent.scrape()?;
            state.sent += metrics.sum("mptcp_redundant_copies_sent_total", &[]);
            state.first += metrics.sum(
                "mptcp_redundant_copies_received_total",
                &[("outcome", "first")],
            );
            state.rescued += metrics.sum("mptcp_redundant_rescued_bytes_total", &[]);
        }
        Ok(state)
    }

    /// Ends the requests, then the agents.
    pub fn end(mut self) -> Result<()> {
        if let Some(load) = self.load.take() {
            load.exchange.stop()?;
        }
        self.agents.drain(..).try_for_each(Agent::stop)
    }

    fn recovery(&self) -> Result<Recovery> {
        Recovery::of_hosts(&[&self.net.client, &self.net.server])
    }
}
