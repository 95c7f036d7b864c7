//! One of the two pairs of hosts.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::share::{Sample, Window, acked_by_path};
use mptcp_lab::traffic::{ANY_V4, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Lab, Path, TwoHosts};

/// How long joins may take.
const JOINS: Duration = Duration::from_secs(10);
/// A limit that no transfer reaches; the demo stops it earlier.
const LONG: Duration = Duration::from_secs(2 * 3600);

/// Two hosts, with or without an agent on the client, and the load between them.
pub struct Side {
    // The agent ends before its host does.
    agent: Option<Agent>,
    load: Option<Running>,
    /// Acknowledged bytes of the loads that have ended.
    before: Vec<u64>,
    net: TwoHosts,
    _lab: Lab,
}

/// A running load.
struct Running {
    transfer: Transfer,
    sink: Server,
    settled: Sample,
    last: Sample,
}

impl Side {
    /// Makes a pair of hosts under the agent, with weights for devices.
    pub fn steered(paths: &[Path], binary: &FilePath, weights: &[(&str, u16)]) -> Result<Self> {
        let mut side = Self::left_alone(paths)?;
        side.agent = Some(Agent::weighted(&side.net.client, binary, weights)?);
        Ok(side)
    }

    /// Makes a pair of hosts under the default scheduler.
    pub fn left_alone(paths: &[Path]) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(paths.iter().cloned())?;
        Ok(Self {
            agent: None,
            load: None,
            before: vec![0; paths.len()],
            net,
            _lab: lab,
        })
    }

    /// Opens a connection and sends, at a rate or as fast as possible.
    pub fn begin(&mut self, rate_mbit: Option<f64>) -> Result<()> {
        let net = &self.net;
        let sink = Server::spawn(&net.server, ANY_V4, Behaviour::Sink)?;
        let mut bulk = Bulk::upload_for(LONG);
        if let Some(rate) = rate_mbit {
            bulk = bulk.rate_mbit(rate);
        }
        let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
        transfer.wait_for_subflows(net.links.len(), JOINS)?;
        let now = Sample::take(&transfer, &sink, &net.links)?;
        self.load = Some(Running {
            transfer,
            sink,
            settled: now.clone(),
            last: now,
        });
        Ok(())
    }

    /// Returns what happened since the last call.
    pub fn tick(&mut self) -> Result<Window> {
        let load = self.load.as_mut().context("no load")?;
        let now = Sample::take(&load.transfer, &load.sink, &self.net.links)?;
        let window = now.since(&load.last)?;
        load.last = now;
        Ok(window)
    }

    /// Makes the load's summary begin at the last tick.
    pub fn settled(&mut self) {
        if let Some(load) = &mut self.load {
            load.settled = load.last.clone();
        }
    }

    /// Ends the load. Returns what happened from [`Side::settled`] to the last
    /// tick.
    pub fn end(&mut self) -> Result<Window> {
        let load = self.load.take().context("no load")?;
        let report = load.transfer.stop()?;
        let acked = acked_by_path(&report.subflows, &self.net.links);
        for (sum, acked) in self.before.iter_mut().zip(acked) {
            *sum += acked;
        }
        load.last.since(&load.settled)
    }

    /// Returns the acknowledged bytes of each path over all loads, as the kernel
    /// counts them.
    pub fn acked(&self) -> Result<Vec<u64>> {
        let mut sums = self.before.clone();
        if let Some(load) = &self.load {
            let now = acked_by_path(&load.transfer.subflows()?, &self.net.links);
            for (sum, acked) in sums.iter_mut().zip(now) {
                *sum += acked;
            }
        }
        Ok(sums)
    }

    /// Returns the same according to the agent's metrics.
    pub fn acked_by_metrics(&self) -> Result<Vec<u64>> {
        const NAME: &str = "mptcp_path_acked_bytes_total";
        let agent = self.agent.as_ref().context("no agent")?;
        let metrics = agent.scrape()?;
        let of_link = |name: &str| metrics.sum(NAME, &[("path", name)]) as u64;
        let links = self.net.links.iter();
        Ok(links.map(|link| of_link(&link.name)).collect())
    }

    /// Ends the agent.
    pub fn stop(&mut self) -> Result<()> {
        self.agent.take().map_or(Ok(()), Agent::stop)
    }
}
