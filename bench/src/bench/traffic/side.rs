//! A pair of hosts with an agent on the one that sends, or without an agent.

use std::path::Path as FilePath;

use anyhow::{Context as _, Result};
use mptcp_lab::Agent;

use super::policy::Policy;
use crate::bench::cpu;
use crate::bench::measure::Rig;
use crate::bench::plan::Links;

/// The host that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The host that connects.
    Client,
    /// The host that listens.
    Server,
}

/// The pair of hosts.
pub struct Side {
    // The agent ends before its host does.
    agent: Option<Agent>,
    /// The hosts and their links.
    pub rig: Rig,
}

impl Side {
    /// Makes the hosts and links, and starts the agent.
    ///
    /// # Errors
    /// The agent refuses its arguments, or does not start; the error contains its
    /// output.
    pub fn new(binary: &FilePath, links: &Links, sender: Sender, policy: Policy) -> Result<Self> {
        let rig = Rig::new(links)?;
        let host = match sender {
            Sender::Client => &rig.net.client,
            Sender::Server => &rig.net.server,
        };
        let start = |args: Vec<String>| Agent::start(host, binary, &args);
        let agent = policy.args(links).map(start).transpose()?;
        Ok(Self { agent, rig })
    }

    /// Returns the CPU seconds so far of both hosts with their kernel, and of the agent.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let agent = self.agent.as_ref().map(cpu::agent_seconds).transpose()?;
        Ok(cpu::own_seconds() + agent.unwrap_or_default())
    }

    /// Ends the agent; an error if it has failed.
    pub fn end(self) -> Result<()> {
        let stop = |agent: Agent| agent.stop().context("the agent did not end well");
        self.agent.map_or(Ok(()), stop)
    }
}
