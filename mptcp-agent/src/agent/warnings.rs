//! Warns of weights that do not do what the user meant. Each warning is given
//! once.
//!
//! The ids of a host's addresses change when its endpoints are deleted and
//! added again. The weights that the agent at the other end has for the old ids
//! then match nothing. That agent sees this as joined subflows that belong to
//! no listed path, while a listed id or prefix has no subflow.

use std::collections::{BTreeMap, BTreeSet};

use mptcp_api::policy::Shared;
use mptcp_common::abi::{Event, PathStats, Totals, subflow_flag};

use super::Agent;
use crate::cli;
use crate::state::events::Change;
use crate::state::paths::PathTable;

/// Remembers which warnings the user has had, so that each is given once.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    unmatched: Unmatched,
    /// Standby paths with a subflow that could not be held out.
    locked: BTreeSet<String>,
    /// Whether the lack of indices was reported.
    crowded: bool,
}

/// How many samples in a row a label must stay unmatched. After fewer, its
/// subflows may just be opening.
const PATIENCE: u32 = 5;

/// For how many samples in a row each label has been unmatched.
#[derive(Debug, Default)]
struct Unmatched(BTreeMap<String, u32>);

impl Unmatched {
    /// Takes note of the labels that are unmatched now, and returns those to
    /// warn of. A label is returned once, until it has been matched again.
    fn note(&mut self, labels: &[&str]) -> Vec<String> {
        self.0.retain(|label, _| labels.contains(&label.as_str()));
        let mut lasting = Vec::new();
        for &label in labels {
            let samples = self.0.entry(label.to_owned()).or_default();
            *samples = samples.saturating_add(1);
            if *samples == PATIENCE {
                lasting.push(label.to_owned());
            }
        }
        lasting
    }
}

impl Agent {
    /// Warns of weights whose device does not exist yet, and of ids that no
    /// first subflow can have.
    pub(super) fn warn_if_missing(&self) {
        for name in self.table.missing() {
            let (flag, setting) = (self.flag_of(name), self.policy.named_by(name));
            let holds = match setting {
                Shared::LIMITS => "the limit holds",
                Shared::QUOTAS => "the quota counts",
                _ if self.policy.overflows() => "it takes its rank",
                _ => "the weight holds",
            };
            tracing::warn!("{flag} {name}: there is no device {name} now; {holds} once it appears");
        }
        for label in self.table.never_first() {
            let flag = self.flag_of(label);
            tracing::info!(
                "{flag} {label}: a connection's first subflow has id 0 at both ends, whatever \
                 endpoint its address belongs to, and no {flag} names it: id:0, its address or \
                 its device would"
            );
        }
    }

    /// Warns once of devices that have no index.
    pub(super) fn warn_if_crowded(&mut self) {
        let unplaced = self.table.unplaced().count();
        if unplaced > 0 && !self.warnings.crowded {
            self.warnings.crowded = true;
            tracing::warn!(
                unplaced,
                "more devices than paths that can be told apart: the rest share path `unknown`"
            );
        }
    }

    /// Warns once of each standby path whose subflows cannot be held out.
    pub(super) fn warn_if_locked(&mut self, event: &Event, change: Change) {
        let opened = matches!(change, Change::Opened | Change::Joined);
        let locked = event.tuple.flags & subflow_flag::LOCKED != 0;
        let weight = self.table.weight(event.path);
        let held_out = match self.policy.rank(weight) {
            Some(rank) => rank > 1,
            None => self.table.present_weight(event.path) == 0,
        };
        if !opened || !locked || !held_out {
            return;
        }
        let label = self.table.label(event.path).to_owned();
        if self.warnings.locked.insert(label.clone()) {
            let setting = match self.policy.rank(weight) {
                Some(rank) => format!("path {label}, rank {rank}"),
                None if self.is_spent(&label) => format!("--quota {label}"),
                None if weight > 0 => format!("--leave-out {label}"),
                None => format!("--weight {label}=0"),
            };
            tracing::warn!(
                "{setting}: the route of its subflows locks the congestion control \
                 (congctl lock), so that one that was held out could not be brought back: they \
                 are not held out, and carry like any other"
            );
        }
    }

    /// Tells the task that manages endpoints which paths no open subflow belongs
    /// to, while there are connections.
    pub(super) fn note_unused(&self, stats: &[PathStats], totals: &Totals) {
        let used: BTreeSet<&str> = (0..)
            .zip(stats)
            .filter(|(_, stats)| stats.live != 0)
            .map(|(index, _)| self.table.label(index))
            .collect();
        let is_unused = |label: &str| totals.connections != 0 && !used.contains(label);
        self.wanted
            .send_if_modified(|wanted| wanted.note_unused(is_unused));
    }

    /// Returns the flag by which the user has named the path with this label.
    fn flag_of(&self, label: &str) -> String {
        cli::flag(self.policy.named_by(label))
    }

    /// Takes a sample, and warns once of each label that stays unmatched.
    pub(super) fn warn_if_unmatched(&mut self, stats: &[PathStats], totals: &Totals) {
        let labels = unmatched(&self.table, stats, totals);
        let lasting = self.warnings.unmatched.note(&labels);
        for label in lasting {
            let flag = self.flag_of(&label);
            tracing::warn!(
                "{flag} {label}: no open subflow has it, and subflows that joined belong to no \
                 {flag}; the ids or addresses of an end may have changed (`mptcp-agent \
                 connections` shows them)"
            );
        }
    }
}

/// Returns what [`PathTable::unmatched`] finds.
pub(super) fn unmatched<'a>(
    table: &'a PathTable,
    stats: &[PathStats],
    totals: &Totals,
) -> Vec<&'a str> {
    let live = |path: u32| stats.get(path as usize).map_or(0, |stats| stats.live);
    table.unmatched(live, totals.connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_hears_once_of_what_lasts() {
        let mut unmatched = Unmatched::default();
        let new = |unmatched: &mut Unmatched, labels: &[&str]| unmatched.note(labels);
        for _ in 1..PATIENCE {
            assert!(new(&mut unmatched, &["id:1", "id:2"]).is_empty());
        }
        // One of them is matched just in time.
        assert_eq!(new(&mut unmatched, &["id:1"]), ["id:1"]);
        for _ in 0..2 * PATIENCE {
            assert!(new(&mut unmatched, &["id:1"]).is_empty());
        }
        assert!(new(&mut unmatched, &[]).is_empty());
        for _ in 1..PATIENCE {
            assert!(new(&mut unmatched, &["id:1"]).is_empty());
        }
        assert_eq!(new(&mut unmatched, &["id:1"]), ["id:1"]);
    }
}
