//! Figures about the peers and the devices, for the snapshot and the metrics.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Service;
use crate::kernel::monotonic_ns as now_ns;
use crate::redundancy::output::peers;
use crate::state::snapshot;

impl Service {
    /// Returns the agents at the other ends and the messages with them, in
    /// numbers.
    pub fn peers(&self) -> snapshot::Peers {
        let dropped = |count: &AtomicU64| count.load(Ordering::Relaxed);
        peers(
            &self.peers.counts(now_ns()),
            dropped(&self.dropped.malformed),
            dropped(&self.dropped.too_many),
        )
    }

    /// Returns the ifindex of each device by which an agent at the other end was
    /// heard that is silent there now, though it answers by another device.
    pub fn silent_devices(&self) -> BTreeSet<u32> {
        self.peers.silent_devices(now_ns())
    }

    /// Returns the indices of the paths whose device has the programs that
    /// copies need.
    pub fn attached_paths(&self) -> BTreeSet<u32> {
        self.ports.attached_paths()
    }
}
