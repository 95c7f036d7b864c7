//! Shows what each path carries, and how.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use mptcp_common::abi::{PathStats, redundant::CopyStats};

use crate::net::devices::{Device, Present};
use crate::state::fitness::{Fitness, Judge};
use crate::state::paths::PathTable;
use crate::state::rates::{Choices, History, Rates};
use crate::state::reach::{Down, Reach};

/// One path. Paths with the same label are one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    /// Its index, the lowest if several share the label.
    pub index: u32,
    /// Its device, or the selector that named it.
    pub label: String,
    /// Whether the user named it, or it ever carried a subflow and still
    /// exists. A path that only copies use does not count.
    pub counts: bool,
    /// The traffic that it carried, and other totals.
    pub stats: PathStats,
    /// Its copies; `None` if copies cannot use it, and have not.
    pub copies: Option<CopyStats>,
    /// Why it is down, if it is known to be.
    pub down: Option<Down>,
    /// The weight that the user gave it.
    pub weight: u16,
    /// The weight that it has now: another one while a path is left out.
    pub present_weight: u32,
    /// Whether it is left out; `None` if it has no bounds.
    pub fitness: Option<Fitness>,
    /// The most that the host may send over it, bytes per second.
    pub limit: Option<u64>,
    /// Whether the user named it.
    pub listed: bool,
    /// Whether it can be used now: its device exists, or its selector is
    /// listed.
    pub present: bool,
    /// Its part of all recently acked bytes, 0 to 1; `None` without traffic.
    pub share: Option<f64>,
    /// Its rates over the last ten seconds.
    pub rates: Rates,
    /// The packet scheduler's choices during that time.
    pub choices: Choices,
    /// The device, if the path is one.
    pub device: Option<String>,
    /// Whether the device has a carrier; `None` without a device that exists.
    pub carrier: Option<bool>,
    /// The addresses of the device; `None` without a device that exists.
    pub addresses: Option<Vec<IpAddr>>,
}

/// The copies of all paths.
#[derive(Clone, Copy, Debug)]
pub struct Copies<'a> {
    /// Totals, by index of the path.
    pub stats: &'a [CopyStats],
    /// The paths whose device has the programs that copies need.
    pub attached: &'a BTreeSet<u32>,
}

/// Everything that [`Path`] is made of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Labels, weights, and the paths of devices.
    pub table: &'a PathTable,
    /// The devices that exist.
    pub present: &'a Present,
    /// Totals, by index of the path.
    pub stats: &'a [PathStats],
    /// Shares and rates of the last ten seconds.
    pub history: &'a History,
    /// The signs by which each path is known to reach somebody or nobody.
    pub reach: &'a Reach,
    /// The judge of paths, which knows those that are left out, and why.
    pub judge: &'a Judge,
    /// The time.
    pub now: Instant,
    /// Copies, under the redundant policy only.
    pub copies: Option<Copies<'a>>,
}

impl Sources<'_> {
    /// Returns the paths that count ([`Path::counts`]), and those that copies
    /// can use, or have used and that still exist.
    pub fn paths(&self) -> Vec<Path> {
        let shares = self.history.shares();
        let mut paths: Vec<Path> = Vec::new();
        for (index, stats) in (0..).zip(self.stats) {
            let counts = self.counts(index, stats);
            let copies = self.copies(index);
            if !counts && copies.is_none() {
                continue;
            }
            let share = shares
                .as_ref()
                .and_then(|shares| shares.get(index as usize));
            let path = if counts {
                Path {
                    counts,
                    stats: *stats,
                    share: share.copied(),
                    copies,
                    ..self.describe(index)
                }
            } else {
                Path {
                    copies,
                    ..self.describe(index)
                }
            };
            match paths.iter_mut().find(|known| known.label == path.label) {
                Some(known) => known.join(path),
                None => paths.push(path),
            }
        }
        paths
    }

    fn counts(&self, index: u32, stats: &PathStats) -> bool {
        let used = *stats != PathStats::default();
        let there = self.table.is_present(index) || stats.live != 0;
        self.table.is_listed(index) || used && there
    }

    fn copies(&self, index: u32) -> Option<CopyStats> {
        let copies = self.copies?;
        let stats = copies
            .stats
            .get(index as usize)
            .copied()
            .unwrap_or_default();
        let used = stats != CopyStats::default() && self.table.is_present(index);
        (used || copies.attached.contains(&index)).then_some(stats)
    }

    fn describe(&self, index: u32) -> Path {
        let name = self.table.device(index);
        let mut devices = self.present.values();
        let device: Option<&Device> = devices.find(|device| Some(device.name.as_str()) == name);
        Path {
            index,
            label: self.table.label(index).to_owned(),
            down: self
                .reach
                .down(index, self.table.label(index), name, self.present),
            weight: self.table.weight(index),
            present_weight: self.table.present_weight(index),
            fitness: self.judge.fitness(index, self.now),
            limit: self.table.limit(index),
            listed: self.table.is_listed(index),
            present: self.table.is_present(index),
            rates: self.history.rates(index),
            choices: self.history.choices(index),
            device: name.map(str::to_owned),
            carrier: device.map(|device| device.carrier),
            addresses: device.map(|device| device.addresses.clone()),
            ..Path::default()
        }
    }
}

impl Path {
    /// Returns whether the user named it or it is in use.
    pub fn is_listed_or_used(&self) -> bool {
        self.listed || self.stats.live != 0
    }

    /// Adds a path with the same label and a higher index.
    fn join(&mut self, other: Self) {
        let copies = match (self.copies, &other.copies) {
            (Some(one), Some(other)) => Some(one.plus(other)),
            (one, other) => one.or(*other),
        };
        if other.counts && !self.counts {
            *self = other;
        } else if other.counts {
            self.stats = self.stats.plus(&other.stats);
            self.choices = self.choices.plus(&other.choices);
            self.share = self.share.zip(other.share).map(|(one, other)| one + other);
        }
        self.copies = copies;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use mptcp_common::abi::MAX_PATHS;

    use super::*;
    use crate::policy::Weights;
    use crate::state::paths::Devices;

    fn table(weights: &[&str], devices: &[(u32, &str)]) -> PathTable {
        let given: Vec<_> = weights.iter().map(|text| text.parse().unwrap()).collect();
        let mut table = PathTable::new(&Weights::new(&given).unwrap());
        table.set_devices(names(devices));
        table
    }

    fn names(devices: &[(u32, &str)]) -> Devices {
        devices
            .iter()
            .map(|&(ifindex, name)| (ifindex, name.to_owned()))
            .collect()
    }

    fn carried(acked_bytes: u64, live: u64) -> PathStats {
        PathStats {
            acked_bytes,
            live,
            opened: [1, 2],
            ..PathStats::default()
        }
    }

    /// Returns the paths without copies. `before` are the totals one second
    /// earlier.
    fn paths(table: &PathTable, stats: &[PathStats], before: &[PathStats]) -> Vec<Path> {
        let mut history = History::default();
        history.push(0, before.to_vec());
        history.push(1_000_000_000, stats.to_vec());
        let sources = Sources {
            table,
            present: &Present::new(),
            stats,
            history: &history,
            reach: &Reach::default(),
            judge: &Judge::default(),
            now: Instant::now(),
            copies: None,
        };
        sources.paths()
    }

    #[test]
    fn an_unlisted_path_counts_once_it_has_carried_something() {
        let mut stats = vec![PathStats::default(); MAX_PATHS];
        // lo never had a subflow.
        assert_eq!(paths(&table(&[], &[(1, "lo")]), &stats, &stats), []);
        stats[2] = carried(1, 1);
        stats[3] = carried(1, 0);
        let table = table(&["eth0=3"], &[(1, "eth1"), (2, "eth2"), (3, "eth3")]);
        let paths = paths(&table, &stats, &stats);
        let labels: Vec<&str> = paths.iter().map(|path| path.label.as_str()).collect();
        assert_eq!(labels, ["eth0", "eth1", "eth2"]);
        let listed: Vec<bool> = paths.iter().map(|path| path.listed).collect();
        assert_eq!(listed, [true, false, false]);
    }

    #[test]
    fn a_vanished_device_does_not_count_until_it_is_back() {
        let mut stats = vec![PathStats::default(); MAX_PATHS];
        stats[1] = carried(5, 0);
        let mut table = table(&[], &[(3, "wwan0")]);
        let count = |table: &PathTable, stats: &[PathStats]| paths(table, stats, stats).len();
        assert_eq!(count(&table, &stats), 1);
        table.set_devices(names(&[]));
        assert_eq!(count(&table, &stats), 0);
        // The path still counts while its last subflow is open.
        stats[1].live = 1;
        assert_eq!(count(&table, &stats), 1);
        stats[1].live = 0;
        table.set_devices(names(&[(4, "wwan0")]));
        assert_eq!(count(&table, &stats), 1);
    }

    #[test]
    fn what_shares_a_label_is_summed() {
        let mut stats = vec![PathStats::default(); MAX_PATHS];
        stats[0] = carried(5, 1);
        stats[1] = carried(7, 2);
        let mut before = stats.clone();
        (before[0].acked_bytes, before[1].acked_bytes) = (4, 4);
        // This device has the same name as the label of index 0.
        let table = table(&[], &[(3, "unknown")]);
        let rows = paths(&table, &stats, &before);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].stats.acked_bytes, rows[0].stats.live), (12, 3));
        assert_eq!((rows[0].stats.opened, rows[0].share), ([2, 4], Some(1.0)));
    }

    #[test]
    fn copies_count_where_programs_are_or_where_there_were_any() {
        let mut copies = vec![CopyStats::default(); 5];
        copies[2].sent = 5;
        copies[3].sent = 7;
        let devices = [(1, "eth0"), (2, "eth1"), (3, "eth2"), (4, "eth3")];
        let mut table = table(&[], &devices);
        let attached = BTreeSet::from([1]);
        let mut stats = vec![PathStats::default(); MAX_PATHS];
        stats[2] = carried(1, 1);
        let sent = |table: &PathTable| -> Vec<(String, bool, u64)> {
            let sources = Sources {
                table,
                present: &Present::new(),
                stats: &stats,
                history: &History::default(),
                reach: &Reach::default(),
                judge: &Judge::default(),
                now: Instant::now(),
                copies: Some(Copies {
                    stats: &copies,
                    attached: &attached,
                }),
            };
            let rows = sources.paths().into_iter();
            rows.filter_map(|row| Some((row.label, row.counts, row.copies?.sent)))
                .collect()
        };
        let row = |label: &str, counts, sent| (label.to_owned(), counts, sent);
        let expected = [
            row("eth0", false, 0),
            row("eth1", true, 5),
            row("eth2", false, 7),
        ];
        assert_eq!(sent(&table), expected);
        table.set_devices(names(&[(1, "eth0"), (2, "eth1")]));
        assert_eq!(sent(&table), expected[..2]);
    }

    #[test]
    fn a_device_lends_its_path_its_addresses_and_its_carrier() {
        let table = table(&["eth0=3", "eth1=1"], &[(1, "eth0")]);
        let present = Present::from([(
            1,
            Device {
                name: "eth0".to_owned(),
                carrier: true,
                addresses: vec![[10, 0, 0, 1].into()],
                ..Device::default()
            },
        )]);
        let sources = Sources {
            table: &table,
            present: &present,
            stats: &[PathStats::default(); MAX_PATHS],
            history: &History::default(),
            reach: &Reach::default(),
            judge: &Judge::default(),
            now: Instant::now(),
            copies: None,
        };
        let [eth0, eth1] = sources.paths().try_into().unwrap();
        assert_eq!((eth0.carrier, eth1.carrier), (Some(true), None));
        assert_eq!(eth0.addresses, Some(vec![[10, 0, 0, 1].into()]));
        assert_eq!(
            (eth0.present, eth1.present, eth1.addresses),
            (true, false, None)
        );
    }
}
