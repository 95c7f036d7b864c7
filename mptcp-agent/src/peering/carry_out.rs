//! The operator's rules and policies, then those that carry out wishes: for each
//! peer a weighted policy that names paths by the peer's addresses, and a rule for
//! connections with these.

use std::net::IpAddr;

use mptcp_api::policy::{Given, Weighted};
use mptcp_api::rule::{Rule, RuleSet};

use super::Wanted;
use crate::policy::Policy;
use crate::policy::selector::Selector;
use crate::rules::Rules;

/// Returns what a peer's policy and rule are called.
fn name(wanted: &Wanted) -> String {
    let first = wanted.weights.first();
    let first = first.map_or_else(String::new, |(address, _)| address.to_string());
    // A name may have no colon.
    format!("peer-{}", first.replace(':', "-"))
}

/// Returns the rules of the operator, and after them those of the wishes.
pub fn set(own: &Rules, wanted: &[Wanted]) -> RuleSet {
    let mut set = RuleSet {
        policies: own
            .named()
            .iter()
            .map(|named| (named.name.clone(), named.policy.given()))
            .collect(),
        rules: own.rules().iter().map(|rule| rule.given.clone()).collect(),
    };
    for wanted in wanted {
        let name = name(wanted);
        let given = |is: bool, name: &str| is.then(|| name.to_owned());
        let weights = wanted.weights.iter();
        let policy = Given {
            weighted: Weighted {
                weighted_mode: given(wanted.manner.spill, "spill"),
                weighted_scope: given(wanted.manner.per_connection, "connection"),
                thin: None,
                weights: weights
                    .map(|(address, weight)| format!("remote:{address}={weight}"))
                    .collect(),
            },
            ..Given::named("weighted")
        };
        let dst = wanted
            .weights
            .iter()
            .map(|(address, _)| address.to_string());
        set.rules.push(Rule {
            name: Some(name.clone()),
            policy: name.clone(),
            dst: dst.collect(),
            ..Rule::default()
        });
        set.policies.insert(name, policy);
    }
    set
}

/// Says why a wish cannot be carried out beside the operator's own settings, if
/// so: the operator names paths in a way that comes before the peer's addresses,
/// or has said something of paths that would no longer hold.
pub fn conflict(default: &Policy, own: &Rules, wanted: &Wanted) -> Option<String> {
    let addresses = || wanted.weights.iter().map(|(address, _)| *address);
    let name = name(wanted);
    if own.named().iter().any(|named| named.name == name)
        || own
            .rules()
            .iter()
            .any(|rule| rule.given.name.as_ref() == Some(&name))
    {
        return Some(format!(
            "this host has a policy or a rule `{name}` of its own"
        ));
    }
    let policies = || {
        own.named()
            .iter()
            .map(|named| &named.policy)
            .chain([default])
    };
    for policy in policies() {
        if !policy.limits().is_empty() || !policy.quotas().is_empty() || policy.bounds().act() {
            return Some(
                "this host's own policy has limits, quotas or bounds of paths, which would not \
                 hold on paths that are named by a peer's addresses"
                    .to_owned(),
            );
        }
    }
    let ruled = own.rules().iter().map(|rule| rule.policy);
    let ruled: Vec<u32> = ruled.collect();
    let under_rules = |policy: &Policy| {
        let named = own.named().iter();
        let mut named = named.filter(|named| ruled.contains(&named.index));
        named.any(|named| &named.policy == policy) || (ruled.contains(&0) && policy == default)
    };
    for policy in policies() {
        for weight in policy.weights().listed {
            let selector = weight.selector;
            if let Some(why) = before(&selector) {
                return Some(why);
            }
            let same = |address: IpAddr| selector == Selector::Remote(address.into());
            if under_rules(policy) && !addresses().any(same) {
                return Some(format!(
                    "this host's own rules choose a policy that names paths (`{selector}`), which \
                     would not hold on paths that are named by a peer's addresses"
                ));
            }
        }
    }
    None
}

/// Says that subflows which a selector fits would not be on a path that is named
/// by an address of the peer, if so. (The peer's addresses are the longest
/// prefixes that there are.)
fn before(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Prefix(_) | Selector::LocalId(_) | Selector::RemoteId(_) => Some(format!(
            "this host names paths by `{selector}`, which comes before a peer's addresses"
        )),
        Selector::Remote(_) | Selector::Device(_) | Selector::RemotePort(_) | Selector::Default => {
            None
        }
    }
}

#[cfg(test)]
mod tests;
