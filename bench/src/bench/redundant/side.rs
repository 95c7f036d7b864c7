//! One of the pairs of hosts that are measured, under the agents or under the
//! default scheduler.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::kernel::Recovery;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::{Agent, Lab, Path, TwoHosts, wait};

use crate::bench::cpu;

/// How long joins, and the agents' first hellos, may take.
const READY: Duration = Duration::from_secs(20);

/// How the connections of a pair of hosts are steered.
#[derive(Clone, Copy)]
pub enum Steering<'a> {
    /// An agent on each host, with these arguments in addition to the policy.
    Agents(&'a FilePath, &'a [&'a str]),
    /// No agent: the default scheduler.
    Default,
}

/// A pair of hosts.
pub struct Side {
    // The agents end before their hosts do.
    agents: Vec<Agent>,
    /// The hosts and their links.
    pub net: TwoHosts,
    _lab: Lab,
}

impl Side {
    /// Makes the hosts, links and agents.
    pub fn new(paths: &[Path], steering: Steering) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(paths.iter().cloned())?;
        let mut agents = Vec::new();
        if let Steering::Agents(binary, more) = steering {
            for host in [&net.client, &net.server] {
                agents.push(Agent::redundant(host, binary, more)?);
            }
        }
        Ok(Self {
            agents,
            net,
            _lab: lab,
        })
    }

    /// Waits until both agents, if any, have proven every link.
    pub fn wait_for_peers(&self) -> Result<()> {
        let links = self.net.links.len() as f64;
        for agent in &self.agents {
            wait::try_until("every link to be proven", READY, || {
                let metrics = agent.scrape().map_err(|error| format!("{error:#}"))?;
                match metrics.sum("mptcp_redundant_peers", &[("state", "proven")]) {
                    proven if proven >= links => Ok(()),
                    proven => Err(format!("{proven} links")),
                }
            })?;
        }
        Ok(())
    }

    /// Returns how much TCP had to repair so far, at both ends together.
    pub fn recovery(&self) -> Result<Recovery> {
        Recovery::of_hosts(&[&self.net.client, &self.net.server])
    }

    /// Returns how many bytes both hosts have sent on all links, including
    /// link-layer headers.
    pub fn wire_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for host in [&self.net.client, &self.net.server] {
            for link in &self.net.links {
                bytes += host.device(&link.name)?.tx_bytes;
            }
        }
        Ok(bytes)
    }

    /// Returns a metric's sum over both agents; 0 without agents.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let scrapes = self.scrapes()?;
        Ok(scrapes
            .iter()
            .fold(0.0, |sum, one| sum + one.sum(name, labels)))
    }

    /// Scrapes the client's agent, then the server's; none without agents.
    pub fn scrapes(&self) -> Result<Vec<Metrics>> {
        self.agents.iter().map(Agent::scrape).collect()
    }

    /// Returns the CPU time of the agents' processes.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.agents.iter().map(cpu::agent_seconds).sum()
    }

    /// Ends the agents; an error if one of them has failed.
    pub fn end(self) -> Result<()> {
        for agent in self.agents {
            agent.stop().context("an agent did not end well")?;
        }
        Ok(())
    }
}
