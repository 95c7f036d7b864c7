//! The rules in force: the cgroups that they name, and what each rule's
//! connections have done.

use std::collections::BTreeMap;

use std::os::fd::AsFd as _;

use anyhow::Result;
use mptcp_common::abi::rule::RuleStats;
use mptcp_common::abi::sweep;

use super::Agent;
use crate::host::Cgroup;
use crate::rules::{self, Rules};
use crate::state::snapshot;

/// The cgroups that rules name.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The root of the hierarchy; `None` if none can be reached.
    root: Option<Cgroup>,
    /// The ids that the programs were told last.
    told: BTreeMap<String, u64>,
}

impl Cgroups {
    /// Opens the root of the hierarchy.
    pub(super) fn new() -> Self {
        Self {
            root: Cgroup::open(None).ok(),
            told: BTreeMap::new(),
        }
    }

    /// Returns the ids of those that exist.
    pub(super) fn ids(&self, rules: &Rules) -> BTreeMap<String, u64> {
        let root = self.root.as_ref();
        root.map_or_else(BTreeMap::new, |root| rules::cgroups(rules, root.as_fd()))
    }
}

/// The totals of each rule's connections since the rule is in force. The programs
/// count by index, and an index may have been another rule's before.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// The totals that each rule had under earlier indices, by number of the rule.
    carried: Vec<RuleStats>,
    /// The totals of the index when the rule came there.
    base: Vec<RuleStats>,
}

impl Counters {
    /// Starts at `now`, the programs' totals by number of the rule.
    pub(super) fn new(now: Vec<RuleStats>) -> Self {
        Self {
            carried: Vec::new(),
            base: now,
        }
    }

    /// Returns what the connections of the rule of this `number` have done (0:
    /// those that no rule matches).
    fn shown(&self, number: usize, now: &[RuleStats]) -> RuleStats {
        let at = |list: &[RuleStats]| list.get(number).copied().unwrap_or_default();
        let (carried, base, now) = (at(&self.carried), at(&self.base), at(now));
        RuleStats {
            live: now.live,
            ..carried.plus(&now).minus(&base)
        }
    }

    /// Follows a change of the rules. A rule that stays keeps its counters, though
    /// its number may be another.
    fn follow(&mut self, before: &Rules, after: &Rules, now: Vec<RuleStats>) {
        let same = |rule: &rules::Rule| {
            let old = before.rules().iter();
            let mut old = old.filter(|old| old.given == rule.given);
            old.next().map(|old| self.shown(old.number, &now))
        };
        let unmatched = self.shown(0, &now);
        let rules = after.rules().iter();
        let rules = rules.map(|rule| same(rule).unwrap_or_default());
        self.carried = [unmatched].into_iter().chain(rules).collect();
        self.base = now;
    }
}

impl Agent {
    /// Takes `rules` for those in force.
    pub(super) fn hold_rules(&mut self, rules: rules::Provided) {
        match self.kernel.rule_stats() {
            Ok(now) => self.counters.follow(&self.rules.rules, &rules.rules, now),
            Err(error) => tracing::debug!("the counters of rules are not exact: {error:#}"),
        }
        self.cgroups.told = self.cgroups.ids(&rules.rules);
        self.rules = rules;
    }

    /// Tells the programs of cgroups that rules name and that have come or gone.
    pub(super) fn follow_rule_cgroups(&mut self) {
        let ids = self.cgroups.ids(&self.rules.rules);
        if ids == self.cgroups.told {
            return;
        }
        tracing::debug!(?ids, "cgroups that rules name have come or gone");
        // A new generation makes every connection be matched again.
        self.table.supersede(self.table.generation());
        match self.publish_table() {
            Ok(()) => {
                self.cgroups.told = ids;
                self.sweep(sweep::APPLY);
                self.rematch_copies();
            }
            Err(error) => {
                // The next sample tries again.
                self.unpublished = true;
                tracing::error!("cannot publish the cgroups that rules name: {error}");
            }
        }
    }

    /// Lets the user-space side of copies look at every connection's policy
    /// again.
    pub(super) fn rematch_copies(&mut self) {
        if let Some(service) = &mut self.redundant {
            service.look_again(&mut self.kernel);
        }
    }

    /// Returns whether a policy holds paths out: their idle subflows have no
    /// callback of their own.
    pub(super) fn holds_out(&self) -> bool {
        let rules = &self.rules.rules;
        self.policy.overflows()
            || self.policy.caps() && self.table.has_standby()
            || rules
                .any(|policy| policy.overflows() || policy.caps() && policy.weights().has_standby())
    }

    /// Returns the rules with what their connections have done.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(super) fn rules_view(&self) -> Result<snapshot::Rules> {
        let now = self.kernel.rule_stats()?;
        let rules = self.rules.rules.clone();
        let counted = (0..=rules.rules().len()).map(|number| self.counters.shown(number, &now));
        Ok(snapshot::Rules {
            counted: counted.collect(),
            missing_cgroups: {
                let missing = rules.cgroups().into_iter();
                let missing = missing.filter(|path| !self.cgroups.told.contains_key(*path));
                missing.map(str::to_owned).collect()
            },
            rules,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    fn rules(ports: &[u16]) -> Rules {
        let rules: Vec<_> = ports
            .iter()
            .map(|port| json!({"policy": "default", "dport": port}))
            .collect();
        let set = serde_json::from_value(json!({"rules": rules})).unwrap();
        Rules::new(set, &Rules::default()).unwrap()
    }

    fn sent(bytes: &[u64]) -> Vec<RuleStats> {
        let stats = bytes.iter().map(|bytes| RuleStats {
            live: 7,
            sent_bytes: *bytes,
            ..RuleStats::default()
        });
        stats.collect()
    }

    #[test]
    fn a_rule_keeps_its_counters_wherever_it_moves() {
        let (before, after) = (rules(&[1, 2]), rules(&[3, 2, 1]));
        // An earlier agent has counted as well.
        let mut counters = Counters::new(sent(&[100, 100, 100, 100]));
        counters.follow(&Rules::default(), &before, sent(&[100, 100, 100, 100]));
        counters.follow(&before, &after, sent(&[101, 110, 120, 100]));
        let now = sent(&[101, 110, 125, 130]);
        let shown: Vec<u64> = (0..4).map(|n| counters.shown(n, &now).sent_bytes).collect();
        assert_eq!(shown, [1, 0, 25, 40]);
        assert_eq!(counters.shown(1, &now).live, 7);
    }
}
