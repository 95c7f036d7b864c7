//! Adds up what many connections carry, by path and by connection.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::kernel::SubflowInfo;

/// Acknowledged bytes over all readings so far. If a subflow goes, it keeps what
/// it had at the last reading.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// The bytes of each path, in the order of the addresses.
    pub paths: Vec<u64>,
    /// The bytes of each connection.
    pub connections: Vec<u64>,
    /// The last count of each subflow, by its connection and its two ends.
    last: HashMap<(usize, SocketAddr, SocketAddr), u64>,
}

impl Totals {
    /// Adds what has been acknowledged since the last reading. `connections` are the
    /// subflows of each connection, always in the same order; `addresses` are the
    /// local addresses of the paths.
    pub fn read(&mut self, connections: &[Vec<SubflowInfo>], addresses: &[IpAddr]) {
        self.paths.resize(addresses.len(), 0);
        self.connections.resize(connections.len(), 0);
        for (number, subflows) in connections.iter().enumerate() {
            for subflow in subflows {
                let key = (number, subflow.local, subflow.remote);
                let last = self.last.insert(key, subflow.bytes_acked).unwrap_or(0);
                let more = subflow.bytes_acked.saturating_sub(last);
                self.connections[number] += more;
                let path = addresses.iter().position(|one| *one == subflow.local.ip());
                if let Some(path) = path {
                    self.paths[path] += more;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subflow(local: &str, bytes_acked: u64) -> SubflowInfo {
        SubflowInfo {
            local: local.parse().expect("an address"),
            remote: "10.77.1.2:80".parse().expect("an address"),
            established: true,
            bytes_sent: 0,
            bytes_acked,
            bytes_received: 0,
            bytes_retrans: 0,
            notsent_bytes: 0,
            srtt_us: 0,
            min_rtt_us: 0,
            pacing_rate_bytes_per_sec: 0,
            max_pacing_rate_bytes_per_sec: 0,
            delivery_rate_bytes_per_sec: 0,
            cwnd_segments: 0,
            retransmissions: 0,
        }
    }

    #[test]
    fn a_subflow_that_is_gone_keeps_its_bytes() {
        let addresses = ["10.77.1.1", "10.77.2.1"].map(|one| one.parse().expect("an address"));
        let mut totals = Totals::default();
        let first = subflow("10.77.1.1:1", 100);
        totals.read(
            &[
                vec![first, subflow("10.77.2.1:2", 50)],
                vec![subflow("10.77.1.1:3", 7)],
            ],
            &addresses,
        );
        assert_eq!(totals.paths, [107, 50]);
        assert_eq!(totals.connections, [150, 7]);
        // The second path's subflow is replaced by another.
        totals.read(
            &[
                vec![subflow("10.77.1.1:1", 130), subflow("10.77.2.1:4", 5)],
                vec![],
            ],
            &addresses,
        );
        assert_eq!(totals.paths, [137, 55]);
        assert_eq!(totals.connections, [185, 7]);
    }
}
