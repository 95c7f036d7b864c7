//! The default policy and the rules taken together: what the programs are told,
//! and how segments are copied.

use anyhow::{Result, ensure};
use mptcp_common::abi;

use super::change::Side;
use crate::kernel::Policies;
use crate::peering::Peering;
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

/// Returns the port and the key of the channel to other agents, and whether
/// segments are copied over it; `None` if nothing needs one.
pub fn channel<'a>(
    copying: Copying<'a>,
    peering: Option<&'a Peering>,
) -> Option<(&'a Redundant, &'a Key, bool)> {
    let copying = copying.map(|(settings, key)| (settings, key, true));
    let wishes = || peering.map(|peering| (&peering.settings.channel, &peering.key, false));
    copying.or_else(wishes)
}

/// Checks that the default policy copies in the same way as those of the rules,
/// if both do, and that both do over the channel of wishes, if there is one.
///
/// # Errors
/// They do not.
pub fn check_copying(
    default: &Provided,
    rules: &rules::Provided,
    peering: Option<&Peering>,
) -> Result<()> {
    let copying = copying(&default.policy, &default.key, rules);
    if let (Some(peering), Some((settings, key))) = (peering, copying) {
        let channel = &peering.settings.channel;
        ensure!(
            (settings.port, key) == (channel.port, &peering.key),
            "the redundant policy has another port or key than --ask-peer and \
             --accept-peer-policy, and a host has one of each: give it --redundant-port {} and \
             the same --redundant-key",
            channel.port
        );
    }
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
