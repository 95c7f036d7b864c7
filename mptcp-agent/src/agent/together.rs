//! The default policy and the rules taken together: what the programs are told,
//! and how segments are copied.

use anyhow::{Result, ensure};
use mptcp_common::abi;

use super::change::Side;
use crate::kernel::Policies;
use crate::policy::{Key, Policy, Provided, Redundant};
use crate::rules::{self, Rules};
use crate::state::paths::PathTable;

/// The default policy and the rules that a change puts in force together.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The default policy.
    pub default: Provided,
    /// The rules, and the policies that they choose.
    pub rules: rules::Provided,
}

/// How segments are copied, if a policy does so.
pub type Copying<'a> = Option<(&'a Redundant, &'a Key)>;

/// Returns how segments are copied under a default policy and rules: there is one
/// way for the host.
pub fn copying<'a>(policy: &'a Policy, key: &'a Key, rules: &'a rules::Provided) -> Copying<'a> {
    let default = policy.copies().map(|settings| (settings, key));
    let named = || rules.rules.copies().map(|settings| (settings, &rules.key));
    default.or_else(named)
}

/// Checks that the default policy copies in the same way as those of the rules,
/// if both do.
///
/// # Errors
/// They do not.
pub fn check_copying(default: &Provided, rules: &rules::Provided) -> Result<()> {
    let (Some(one), Some(other)) = (default.policy.copies(), rules.rules.copies()) else {
        return Ok(());
    };
    ensure!(
        one == other && default.key == rules.key,
        "a policy of the rules copies segments with other redundant settings than the default \
         policy, and a host has one of each: give both the same, or change the rules first"
    );
    Ok(())
}

/// Returns what the programs are told of all policies and rules.
pub fn encode(side: &impl Side, default: &Policy, rules: &Rules, table: &PathTable) -> Policies {
    policies(table, default, rules, side.encode(rules))
}

/// Returns what the programs are told of all policies, and of the rules, which
/// are `encoded` already.
pub fn policies(
    table: &PathTable,
    default: &Policy,
    rules: &Rules,
    encoded: Vec<abi::rule::Rule>,
) -> Policies {
    let mut policies = Policies::new(table, default.capabilities(), encoded);
    for named in rules.named() {
        let weights = table.weights_under(&named.policy.weights());
        policies.add(named.index, named.policy.capabilities(), weights);
    }
    policies
}
