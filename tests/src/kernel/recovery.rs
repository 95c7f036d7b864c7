//! How often TCP reacted to segments that were lost or arrived twice.

use std::ops::{Add, Sub};

use anyhow::Result;

use super::Netstat;
use crate::host::Host;

/// Counters of one namespace, or the difference of two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Retransmission timeouts (`TCPTimeouts`).
    pub timeouts: u64,
    /// Segments sent again for any reason, including tail loss probes
    /// (`RetransSegs`).
    pub retransmitted: u64,
    /// Tail loss probes (`TCPLossProbes`).
    pub probes: u64,
    /// Duplicates that this host reported to other ends (`TCPDSACKOldSent` and
    /// `TCPDSACKOfoSent`).
    pub dsacks_sent: u64,
    /// Duplicates that other ends reported (`TCPDSACKRecv` and `TCPDSACKOfoRecv`).
    pub dsacks_received: u64,
    /// Data sent again on another subflow (`MPTCPRetrans`).
    pub reinjected: u64,
}

impl Recovery {
    /// Picks these counters out of all counters of a namespace.
    pub fn of(counters: &Netstat) -> Self {
        let tcp = |name| counters.get("TcpExt", name);
        Self {
            timeouts: tcp("TCPTimeouts"),
            retransmitted: counters.get("Tcp", "RetransSegs"),
            probes: tcp("TCPLossProbes"),
            dsacks_sent: tcp("TCPDSACKOldSent") + tcp("TCPDSACKOfoSent"),
            dsacks_received: tcp("TCPDSACKRecv") + tcp("TCPDSACKOfoRecv"),
            reinjected: counters.mptcp("MPTCPRetrans"),
        }
    }

    /// Reads the counters of several hosts and adds them up.
    ///
    /// # Errors
    /// The counters of one cannot be read.
    pub fn of_hosts(hosts: &[&Host]) -> Result<Self> {
        hosts.iter().try_fold(Self::default(), |sum, host| {
            Ok(sum + Self::of(&host.netstat()?))
        })
    }

    fn each(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            timeouts: with(self.timeouts, other.timeouts),
            retransmitted: with(self.retransmitted, other.retransmitted),
            probes: with(self.probes, other.probes),
            dsacks_sent: with(self.dsacks_sent, other.dsacks_sent),
            dsacks_received: with(self.dsacks_received, other.dsacks_received),
            reinjected: with(self.reinjected, other.reinjected),
        }
    }
}

impl Add for Recovery {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }
}

impl Sub for Recovery {
    type Output = Self;

    /// Returns how much was added since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }
}
