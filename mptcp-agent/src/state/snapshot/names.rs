//! The names of the policies and rules that connections have.

use std::sync::Arc;

use mptcp_common::abi::MAX_POLICIES;

use crate::rules::{DEFAULT_NAME, Rules};

/// The policies and rules that connections can have.
#[derive(Debug)]
pub struct Names {
    /// By index: the name, and whether the controller judges which paths make
    /// progress.
    policies: Vec<(Arc<str>, bool)>,
    /// The names of the rules, in order.
    rules: Vec<Arc<str>>,
}

impl Names {
    /// Takes the names from `rules`. `judged` says whether the default policy is
    /// one under which the controller judges which paths make progress.
    pub fn new(judged: bool, rules: &Rules) -> Self {
        let policies = (0..MAX_POLICIES as u32).map(|index| {
            let judges = rules.policy(index).map(|policy| policy.judges());
            let judges = judges.unwrap_or(judged && index == 0);
            (rules.name(index).into(), judges)
        });
        let rules_of = rules.rules().iter();
        Self {
            policies: policies.collect(),
            rules: rules_of.map(|rule| rule.name().into()).collect(),
        }
    }

    /// Returns the name of the policy at `index`, and whether it is judged.
    pub fn policy(&self, index: u32) -> (Arc<str>, bool) {
        let found = self.policies.get(index as usize).cloned();
        found.unwrap_or_else(|| (DEFAULT_NAME.into(), false))
    }

    /// Returns the name of the rule of this number, the first one being 1.
    pub fn rule(&self, number: u32) -> Option<Arc<str>> {
        self.rules.get((number as usize).checked_sub(1)?).cloned()
    }
}
