//! The values that a scrape renders, read from the kernel and the agent.

use std::time::Duration;

use mptcp_common::abi::{PathStats, Totals};

use super::RedundantRows;
use crate::state::paths::PathTable;

/// All values of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The policy's name.
    pub policy: &'static str,
    /// The backend that it acts with; `none` if it only observes.
    pub backend: &'static str,
    /// Whether the policy is weighted, so that weights have a meaning.
    pub weighted: bool,
    /// Whether the programs outlive the agent, and lift its limits if it is
    /// killed.
    pub outlived: bool,
    /// Whether sockets of every cgroup are seen.
    pub sees_all_cgroups: bool,
    /// How often the agent put back something that others had removed or
    /// detached, by what it was.
    pub restored: Vec<(&'static str, u64)>,
    /// Number of ids and prefixes with a weight that no subflow has, while
    /// joined subflows have none with a weight.
    pub unmatched_selectors: usize,
    /// Host-wide totals.
    pub totals: Totals,
    /// The paths that are worth a series.
    pub paths: Vec<PathRow>,
    /// Copies and peers, under the redundant policy.
    pub redundant: Option<RedundantRows>,
    /// The kernel's own counters, by event.
    pub kernel_events: Vec<(&'static str, u64)>,
    /// The programs.
    pub programs: Vec<ProgramRow>,
    /// Subflows whose callbacks were switched on again.
    pub rearmed: u64,
    /// Subflows whose socket was gone without a callback.
    pub reclaimed: u64,
    /// Time that it took to collect all this.
    pub scrape_duration: Duration,
}

/// One path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathRow {
    /// Its index, the lowest if several share the label.
    pub index: u32,
    /// Its device, or the selector that named it.
    pub label: String,
    /// The traffic that it carried, and other totals.
    pub stats: PathStats,
    /// Its weight.
    pub weight: u16,
    /// Whether the user named it.
    pub listed: bool,
    /// Its part of all recently acked bytes, 0 to 1; `None` without traffic.
    pub share: Option<f64>,
}

/// One program.
#[derive(Clone, Debug, Default)]
pub struct ProgramRow {
    /// Its name.
    pub program: &'static str,
    /// Whether it is attached.
    pub attached: bool,
    /// How often it ran.
    pub runs: u64,
    /// For how long it ran, if the kernel measures that.
    pub run_time: Option<Duration>,
}

impl PathRow {
    /// Returns rows for the paths that the user named, and for those that ever
    /// carried a subflow and still exist. `stats` and `shares` are by index.
    /// Paths with the same label share a row.
    pub fn collect(table: &PathTable, stats: &[PathStats], shares: Option<&[f64]>) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for (index, stats) in (0..).zip(stats) {
            let listed = table.is_listed(index);
            let used = *stats != PathStats::default();
            let there = table.is_present(index) || stats.live != 0;
            if !(listed || used && there) {
                continue;
            }
            let label = table.label(index);
            let share = shares.and_then(|shares| shares.get(index as usize).copied());
            match rows.iter_mut().find(|row| row.label == label) {
                Some(row) => {
                    row.stats = row.stats.plus(stats);
                    row.share = row.share.zip(share).map(|(one, other)| one + other);
                }
                None => rows.push(Self {
                    index,
                    label: label.to_owned(),
                    stats: *stats,
                    weight: table.weight(index),
                    listed,
                    share,
                }),
            }
        }
        rows
    }
}
