//! The rules as clients see them.

use serde::{Deserialize, Serialize};

use crate::policy::Given;
use crate::rule::Rule;

/// The answer to `rules-show` and `rules-set`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RulesView {
    /// The policies that rules can name; the default one comes first.
    pub policies: Vec<NamedPolicy>,
    /// The rules, in order.
    pub rules: Vec<RuleView>,
    /// The connections that no rule matches, which have the default policy.
    pub unmatched: RuleCounts,
}

/// A policy by the name that rules call it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedPolicy {
    /// That name.
    pub name: String,
    /// The policy's settings.
    pub policy: Given,
    /// The backend that it acts with: `none`, `pacing` or `copies`.
    pub backend: String,
    /// Connections that are open and have it.
    pub connections: u64,
}

/// A rule, and what its connections have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its place, the first one being 1.
    pub number: u64,
    /// The rule as it was written.
    pub rule: Rule,
    /// Whether the cgroup that it names is missing now, so that it matches
    /// nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cgroup_missing: bool,
    /// The counts.
    #[serde(flatten)]
    pub counts: RuleCounts,
}

/// Counts of a rule's connections, since the rule or the agent is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounts {
    /// Connections that are open.
    pub connections: u64,
    /// Connections that opened.
    pub connections_opened: u64,
    /// Payload sent, retransmissions included.
    pub sent_bytes: u64,
    /// Payload sent and acknowledged.
    pub acked_bytes: u64,
    /// Payload received.
    pub received_bytes: u64,
}
