//! A bulk transfer whose subflows must survive all that happens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::traffic::{Bulk, Server, Transfer};

use crate::bench::measure::Rig;

/// Longer than any row takes.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// How long a little progress may take.
const PROGRESS: Duration = Duration::from_secs(20);
/// The size of a little progress, in bytes: more than is in flight on the
/// slowest links.
const LITTLE: u64 = 300_000;

/// Both ends of a subflow. A subflow that is opened again has another port.
type Ends = (SocketAddr, SocketAddr);

/// The transfer.
pub struct Load {
    /// The server that receives.
    pub sink: Server,
    /// The transfer from the client.
    pub transfer: Transfer,
    subflows: BTreeSet<Ends>,
}

impl Load {
    /// Starts the transfer over all links of `rig`, as fast as possible or at a
    /// rate in Mbit/s.
    ///
    /// # Errors
    /// A link does not join.
    pub fn start(rig: &Rig, rate_mbit: Option<f64>) -> Result<Self> {
        let mut bulk = Bulk::upload_for(FOR_EVER);
        if let Some(rate_mbit) = rate_mbit {
            bulk = bulk.rate_mbit(rate_mbit);
        }
        let (sink, transfer) = rig.start(bulk)?;
        let subflows = established(&transfer.subflows()?);
        Ok(Self {
            sink,
            transfer,
            subflows,
        })
    }

    /// Returns how many subflows have gone since the last call, or since the start.
    ///
    /// # Errors
    /// The whole connection has gone.
    pub fn lost(&mut self) -> Result<usize> {
        let now = established(&self.transfer.subflows()?);
        let lost = self.subflows.difference(&now).count();
        self.subflows = now;
        Ok(lost)
    }

    /// Waits until the application has sent a little more.
    ///
    /// # Errors
    /// No progress is made in time.
    pub fn goes_on(&self) -> Result<()> {
        self.transfer
            .wait_for_progress(LITTLE, PROGRESS)
            .context("the bulk transfer does not go on")
    }

    /// Returns how many subflows have a cap, according to the kernel.
    ///
    /// # Errors
    /// The connection has gone.
    pub fn capped(&self) -> Result<usize> {
        let none = u64::MAX;
        let capped = |one: &&SubflowInfo| one.max_pacing_rate_bytes_per_sec != none;
        Ok(self.transfer.subflows()?.iter().filter(capped).count())
    }

    /// Returns the size of the longest queue of unsent data, in bytes.
    ///
    /// # Errors
    /// The connection has gone.
    pub fn longest_queue(&self) -> Result<u32> {
        let queues = self.transfer.subflows()?;
        Ok(queues
            .iter()
            .map(|one| one.notsent_bytes)
            .max()
            .unwrap_or(0))
    }
}

fn established(subflows: &[SubflowInfo]) -> BTreeSet<Ends> {
    let established = subflows.iter().filter(|one| one.established);
    established.map(|one| (one.local, one.remote)).collect()
}
