//! Converts the rules to what the control socket shows.

use mptcp_api::schema::{NamedPolicy, RuleCounts, RuleView, RulesView};
use mptcp_common::abi::rule::RuleStats;

use crate::policy::Policy;
use crate::state::snapshot::Rules;

/// Converts the rules, and the policies that they choose; `default` is the one
/// that connections have which no rule matches.
pub fn rules(rules: &Rules, default: &Policy) -> RulesView {
    let missing = |rule: &crate::rules::Rule| {
        let cgroup = rule.cgroup();
        cgroup.is_some_and(|path| rules.missing_cgroups.iter().any(|missing| missing == path))
    };
    let all = rules.rules.rules().iter();
    let views = all.map(|rule| RuleView {
        number: rule.number as u64,
        rule: rule.given.clone(),
        cgroup_missing: missing(rule),
        counts: counts(rules.counted.get(rule.number)),
    });
    let policies = rules.connections().into_iter().map(|(name, connections)| {
        let named = rules.rules.named().iter().find(|named| named.name == name);
        let policy = named.map_or(default, |named| &named.policy);
        NamedPolicy {
            name: name.to_owned(),
            policy: policy.given(),
            backend: policy.backend().to_owned(),
            connections,
        }
    });
    RulesView {
        policies: policies.collect(),
        rules: views.collect(),
        unmatched: counts(rules.counted.first()),
    }
}

fn counts(stats: Option<&RuleStats>) -> RuleCounts {
    let stats = stats.copied().unwrap_or_default();
    RuleCounts {
        connections: stats.live,
        connections_opened: stats.opened,
        sent_bytes: stats.sent_bytes,
        acked_bytes: stats.acked_bytes,
        received_bytes: stats.received_bytes,
    }
}
