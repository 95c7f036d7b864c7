//! What a scrape renders: plain values, read from the kernel and the agent.

use std::time::Duration;

use mptcp_common::abi::{PathStats, Totals};

use super::RedundantRows;
use crate::paths::PathTable;

/// Everything that one scrape says.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The policy's name.
    pub policy: &'static str,
    /// What it acts with; `none` if it only observes.
    pub backend: &'static str,
    /// Whether weights have a meaning.
    pub weighted: bool,
    /// Whether the programs outlive the agent, and lift what it set.
    pub outlived: bool,
    /// Whether sockets of every cgroup are seen.
    pub sees_all_cgroups: bool,
    /// Listed ids and prefixes that no subflow has, beside unlisted ones that
    /// joined.
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
    /// What it took to collect all this.
    pub scrape_duration: Duration,
}

/// One path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathRow {
    /// Its index, the lowest if several share the label.
    pub index: u32,
    /// Its device, or the selector that named it.
    pub label: String,
    /// What it carried.
    pub stats: PathStats,
    /// Its weight.
    pub weight: u16,
    /// Whether the user named it.
    pub listed: bool,
    /// Its part of all acked bytes of late, 0 to 1; none without traffic.
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
    /// For how long, if the kernel measures that.
    pub run_time: Option<Duration>,
}

impl PathRow {
    /// The paths that are worth a series: those that the user named, and those
    /// that ever carried a subflow and are still there. `stats` and `shares`
    /// are by index. What shares a label is one path.
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
