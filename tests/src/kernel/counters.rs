//! The kernel's counters of a network namespace.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::host::Host;

/// The counters of a device. A veth device counts a segment of up to 64 KiB
/// (GSO) as one packet, and its headers once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Bytes received, link-layer headers included.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent, link-layer headers included.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// The counters of /proc/net/snmp (`Ip`, `Tcp`, `Udp`, ...) and of
/// /proc/net/netstat (`TcpExt`, `IpExt`, `MPTcpExt`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Netstat(BTreeMap<String, u64>);

impl Netstat {
    /// Returns a counter's value, such as `get("MPTcpExt", "MPJoinAckRx")`, or 0 if
    /// this kernel lacks the counter.
    pub fn get(&self, group: &str, name: &str) -> u64 {
        self.0.get(&format!("{group}.{name}")).copied().unwrap_or(0)
    }

    /// Returns a counter of the group `MPTcpExt`.
    pub fn mptcp(&self, name: &str) -> u64 {
        self.get("MPTcpExt", name)
    }

    /// Returns how much each counter has grown since `before`, by `group.name`.
    pub fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let change = self.0.iter().filter_map(|(name, &now)| {
            let change = now.saturating_sub(before.0.get(name).copied().unwrap_or(0));
            (change > 0).then(|| (name.clone(), change))
        });
        change.collect()
    }

    /// Parses pairs of lines: `Group: name name ...` and `Group: value value ...`.
    fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let mut counters = BTreeMap::new();
        for pair in lines.chunks_exact(2) {
            let (mut names, values) = (pair[0].split(' '), pair[1].split(' '));
            let group = names.next().unwrap_or_default().trim_end_matches(':');
            for (name, value) in names.zip(values.skip(1)) {
                // Only gauges can be negative, and no test needs those.
                counters.insert(format!("{group}.{name}"), value.parse().unwrap_or(0));
            }
        }
        Self(counters)
    }
}

impl Host {
    /// Reads the namespace's SNMP counters.
    pub fn netstat(&self) -> Result<Netstat> {
        // /proc/net would show the namespace of the process's first thread.
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        let text = self.in_ns(|| Ok(read("snmp")? + &read("netstat")?))?;
        Ok(Netstat::parse(&text))
    }

    /// Counts the open subflows in the namespace, from the kernel's list of TCP
    /// sockets. Plain TCP connections count too, except those over loopback.
    pub fn open_subflows(&self) -> Result<usize> {
        const OPEN: [&str; 5] = ["ESTAB", "FIN-WAIT-1", "CLOSE-WAIT", "LAST-ACK", "CLOSING"];
        let sockets = self.run("ss -HtanO")?;
        let open = |line: &&str| {
            let mut words = line.split_whitespace();
            let is_open = words.next().is_some_and(|state| OPEN.contains(&state));
            // Skip loopback: tests query the agent over it.
            is_open && words.nth(2).is_some_and(|local| !local.starts_with("127."))
        };
        Ok(sockets.lines().filter(open).count())
    }

    /// Reads the counters of the device `name`.
    pub fn device(&self, name: &str) -> Result<DeviceCounters> {
        let text = self.in_ns(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        DeviceCounters::parse(&text, name).with_context(|| format!("no counters for {name}"))
    }
}

impl DeviceCounters {
    fn parse(text: &str, device: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| {
            let (name, counters) = line.split_once(':')?;
            (name.trim() == device).then_some(counters)
        })?;
        let values: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        Some(Self {
            rx_bytes: *values.first()?,
            rx_packets: *values.get(1)?,
            tx_bytes: *values.get(8)?,
            tx_packets: *values.get(9)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstat_pairs_names_with_values() {
        let netstat = Netstat::parse("TcpExt: A B\nTcpExt: 1 -1\nMPTcpExt: C\nMPTcpExt: 7\n");
        assert_eq!(netstat.get("TcpExt", "A"), 1);
        assert_eq!(netstat.get("TcpExt", "B"), 0);
        assert_eq!(netstat.mptcp("C"), 7);
        assert_eq!(netstat.mptcp("absent"), 0);
        let both = Netstat::parse("Tcp: A MaxConn\nTcp: 3 -1\nTcpExt: A\nTcpExt: 1\n");
        assert_eq!((both.get("Tcp", "A"), both.get("TcpExt", "A")), (3, 1));
        let later = Netstat::parse("MPTcpExt: C D\nMPTcpExt: 9 0\n");
        assert_eq!(later.since(&netstat), [("MPTcpExt.C".to_owned(), 2)].into());
    }

    #[test]
    fn device_lines_have_sixteen_numbers() {
        let text = "Inter-| Receive | Transmit\n face |bytes |bytes\n  \
                    p1: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n p11: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n";
        let expected = DeviceCounters {
            rx_bytes: 10,
            rx_packets: 1,
            tx_bytes: 20,
            tx_packets: 2,
        };
        assert_eq!(DeviceCounters::parse(text, "p1"), Some(expected));
        assert_eq!(DeviceCounters::parse(text, "p2"), None);
    }
}
