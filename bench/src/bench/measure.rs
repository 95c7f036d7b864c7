//! Measures one transfer in windows.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mptcp_lab::share::{Sample, Window};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Lab, TwoHosts};

use super::plan::{Links, Load, Row};

/// The time at the start of a transfer that is not measured.
pub const SETTLE: Duration = Duration::from_secs(2);
/// The length of a window.
pub const WINDOW: Duration = Duration::from_secs(5);
/// How long joins may take.
const JOINS: Duration = Duration::from_secs(10);

/// A lab with the links of a row.
pub struct Rig {
    _lab: Lab,
    /// Its hosts.
    pub net: TwoHosts,
    /// Whether paths of both address families are among them.
    pub dual_stack: bool,
}

/// A transfer's windows, one after the other.
pub struct Measured {
    /// The windows, at least one.
    pub windows: Vec<Window>,
    /// All windows as one.
    pub whole: Window,
}

impl Rig {
    /// Makes the hosts and links.
    pub fn new(links: &Links) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(links.paths.iter().cloned())?;
        if links.dual_stack {
            // The client then learns the server's addresses of the other family.
            net.signal_other_family()?;
        }
        Ok(Self {
            _lab: lab,
            net,
            dual_stack: links.dual_stack,
        })
    }

    /// Starts a transfer from the client to a sink, and waits until every path
    /// has joined it.
    pub fn start(&self, mut bulk: Bulk) -> Result<(Server, Transfer)> {
        let net = &self.net;
        let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
        if self.dual_stack {
            bulk = bulk.dual_stack();
        }
        let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
        transfer
            .wait_for_subflows(net.links.len(), JOINS)
            .context("not every path has joined")?;
        Ok((sink, transfer))
    }

    /// Sends the row's load from the client. After [`SETTLE`], measures `count`
    /// windows of this length.
    pub fn transfer(&self, row: &Row, count: u32, length: Duration) -> Result<Measured> {
        let net = &self.net;
        let duration = SETTLE + length * count;
        // The transfer is stopped after the last sample.
        let mut bulk = Bulk::upload_for(duration * 2).congestion(row.congestion);
        if row.load == Load::Partial {
            bulk = bulk.rate_mbit(row.best_mbit()?);
        }
        let start = Instant::now();
        let (sink, transfer) = self.start(bulk)?;
        let mut samples = Vec::new();
        for edge in 0..=count {
            let due = start + SETTLE + length * edge;
            sleep(due.saturating_duration_since(Instant::now()));
            samples.push(Sample::take(&transfer, &sink, &net.links)?);
        }
        transfer.stop()?;
        let windows = samples.windows(2).map(|pair| pair[1].since(&pair[0]));
        Ok(Measured {
            windows: windows.collect::<Result<_>>()?,
            whole: samples[samples.len() - 1].since(&samples[0])?,
        })
    }
}
