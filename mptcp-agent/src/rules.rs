//! Policies beside the default one, and the rules that say which connections
//! have them.
//!
//! ```text
//!   RuleSet   as someone has written it                       (mptcp-api)
//!   Rules     checked as a whole; each policy has its index in the kernel's table
//!   explain   which rule a connection would match, and why no other does
//! ```
//!
//! The programs compare a connection with the rules themselves
//! (`mptcp_common::rule`); a test holds both against each other.
//!
//! Pure but for `provide` and [`cgroups`], which look at the host.

mod check;
mod dscp;
mod explain;
mod provide;
pub mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mptcp_api::rule::RuleSet;
use mptcp_common::abi::{self, DEFAULT_POLICY, MAX_POLICIES, rule::MAX_RULES};

pub use check::Rule;
pub use explain::{Candidate, Explained, explain};
pub use provide::{Provided, cgroups, provide};

use crate::policy::{Policy, Redundant, Weight, Weights};

/// The name in rules of the policy that `--policy` and `policy set` set.
pub const DEFAULT_NAME: &str = "default";

/// The longest name of a policy or a rule, bytes.
const LONGEST_NAME: usize = 64;

/// How many policies there can be beside the default one.
const MAX_NAMED: usize = MAX_POLICIES - 1;

/// A policy beside the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name in rules.
    pub name: String,
    /// Its index in map `POLICIES`.
    pub index: u32,
    /// The policy.
    pub policy: Policy,
}

/// The policies beside the default one, and all rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    named: Vec<Named>,
    rules: Vec<Rule>,
}

/// A mistake in rules, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The place.
    pub place: Place,
    /// The mistake, in one line.
    pub why: String,
}

/// A part of a [`RuleSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The set as a whole.
    Whole,
    /// The policy of this name.
    Policy(String),
    /// A rule, and maybe one key of it.
    Rule {
        /// Its number, the first one being 1.
        number: usize,
        /// The key, as it is written.
        key: Option<&'static str>,
    },
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Whole => {}
            Place::Policy(name) => write!(f, "policy `{name}`: ")?,
            Place::Rule { number, key } => {
                write!(f, "rule {number}: ")?;
                if let Some(key) = key {
                    write!(f, "{key}: ")?;
                }
            }
        }
        f.write_str(&self.why)
    }
}

impl Rules {
    /// Checks what someone has written. A policy that `before` has under the same
    /// name keeps its index.
    ///
    /// # Errors
    /// Something is wrong; the error says what and where.
    pub fn new(given: RuleSet, before: &Self) -> Result<Self, Invalid> {
        let whole = |why| Invalid {
            place: Place::Whole,
            why,
        };
        let (policies, rules) = (given.policies.len(), given.rules.len());
        if policies > MAX_NAMED {
            return Err(whole(format!(
                "{policies} policies are too many: {MAX_NAMED} fit beside the default one"
            )));
        }
        if rules > MAX_RULES {
            return Err(whole(format!(
                "{rules} rules are too many: {MAX_RULES} fit; a rule can list up to 8 prefixes or \
                 ports"
            )));
        }
        let named = named(&given, before)?;
        let mut checked = Vec::with_capacity(rules);
        let mut names = BTreeSet::new();
        for (number, rule) in (1..).zip(&given.rules) {
            let place = |key| Place::Rule { number, key };
            if let Some(name) = &rule.name {
                check_name(name).map_err(|why| Invalid {
                    place: place(Some("name")),
                    why,
                })?;
                if !names.insert(name) {
                    return Err(Invalid {
                        place: place(Some("name")),
                        why: format!("`{name}` is the name of an earlier rule as well"),
                    });
                }
            }
            let policy = index(&named, &rule.policy).ok_or_else(|| Invalid {
                place: place(Some("policy")),
                why: not_known(&named, &rule.policy),
            })?;
            let rule = Rule::check(rule, number, policy).map_err(|(key, why)| Invalid {
                place: place(Some(key)),
                why,
            })?;
            checked.push(rule);
        }
        Ok(Self {
            named,
            rules: checked,
        })
    }

    /// Gives each policy the index that `before` has for its name.
    pub fn follow(mut self, before: &Self) -> Self {
        let names = self.named.iter().map(|named| &named.name);
        let indices = indices(names, before);
        for (named, index) in self.named.iter_mut().zip(&indices) {
            named.index = *index;
        }
        for rule in &mut self.rules {
            let named = &self.named;
            rule.policy = index(named, &rule.given.policy).unwrap_or(DEFAULT_POLICY);
        }
        self
    }

    /// Returns the rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the policies beside the default one.
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// Returns what rules call the policy at `index`.
    pub fn name(&self, index: u32) -> &str {
        let named = self.named.iter().find(|named| named.index == index);
        named.map_or(DEFAULT_NAME, |named| &named.name)
    }

    /// Returns the policy at `index`, if it is not the default one.
    pub fn policy(&self, index: u32) -> Option<&Policy> {
        let named = self.named.iter().find(|named| named.index == index);
        named.map(|named| &named.policy)
    }

    /// Returns the settings of copies, if one of these policies copies segments.
    pub fn copies(&self) -> Option<&Redundant> {
        self.named.iter().find_map(|named| named.policy.copies())
    }

    /// Returns whether the condition holds for one of these policies.
    pub fn any(&self, condition: impl Fn(&Policy) -> bool) -> bool {
        self.named.iter().any(|named| condition(&named.policy))
    }

    /// Adds the paths that only these policies name to `weights`, with the weight
    /// of paths that are not listed.
    pub fn name_paths(&self, mut weights: Weights) -> Weights {
        for named in &self.named {
            for Weight { selector, .. } in named.policy.weights().listed {
                if !weights.listed.iter().any(|one| one.selector == selector) {
                    weights.listed.push(Weight {
                        selector,
                        weight: weights.unlisted,
                    });
                }
            }
        }
        weights
    }

    /// Returns the cgroups that rules name.
    pub fn cgroups(&self) -> BTreeSet<&str> {
        self.rules.iter().filter_map(Rule::cgroup).collect()
    }

    /// Returns what the programs are told of the rules. `cgroups` are the ids of
    /// those that exist.
    pub fn to_kernel(&self, cgroups: &BTreeMap<String, u64>) -> Vec<abi::rule::Rule> {
        let rules = self.rules.iter();
        rules.map(|rule| rule.to_kernel(cgroups)).collect()
    }
}

/// Checks the policies beside the default one.
fn named(given: &RuleSet, before: &Rules) -> Result<Vec<Named>, Invalid> {
    let mut named = Vec::new();
    let indices = indices(given.policies.keys(), before);
    for ((name, settings), index) in given.policies.iter().zip(indices) {
        let wrong = |why| Invalid {
            place: Place::Policy(name.clone()),
            why,
        };
        check_name(name).map_err(wrong)?;
        if name == DEFAULT_NAME {
            return Err(wrong(
                "this is what rules call the policy that --policy sets; give this one another \
                 name"
                    .to_owned(),
            ));
        }
        if !settings.shared.limits.is_empty() {
            return Err(wrong(
                "limits hold for the host under every policy: give them with the default policy"
                    .to_owned(),
            ));
        }
        if !settings.leave_out.leave_out.is_empty() {
            return Err(wrong(
                "paths are left out for the whole host: give their bounds with the default policy"
                    .to_owned(),
            ));
        }
        let policy = Policy::new(settings.clone()).map_err(|error| wrong(error.in_fields()))?;
        named.push(Named {
            name: name.clone(),
            index,
            policy,
        });
    }
    one_way_to_copy(&named)?;
    Ok(named)
}

/// Returns an index for each name: the one that `before` has for it, or a free
/// one, of which there are as many as policies.
fn indices<'a>(names: impl Iterator<Item = &'a String> + Clone, before: &Rules) -> Vec<u32> {
    let kept = |name: &&String| {
        let found = index(&before.named, name);
        found.filter(|index| *index != DEFAULT_POLICY)
    };
    let mut taken: BTreeSet<u32> = names.clone().filter_map(|name| kept(&name)).collect();
    // Prefer indices that no policy has had just now: connections keep theirs
    // until they are matched again.
    let had: BTreeSet<u32> = before.named.iter().map(|named| named.index).collect();
    let all = || 1..MAX_POLICIES as u32;
    let next = |name: &'a String| {
        let index = kept(&name)
            .or_else(|| all().find(|index| !taken.contains(index) && !had.contains(index)))
            .or_else(|| all().find(|index| !taken.contains(index)));
        taken.extend(index);
        index.unwrap_or(DEFAULT_POLICY)
    };
    names.map(next).collect()
}

/// Checks that all policies that copy do so in the same way: there is one UDP
/// port for all, and one set of settings in the kernel.
fn one_way_to_copy(named: &[Named]) -> Result<(), Invalid> {
    let mut copying = named
        .iter()
        .filter_map(|named| Some((named, named.policy.copies()?)));
    let Some((first, settings)) = copying.next() else {
        return Ok(());
    };
    match copying.find(|(_, other)| *other != settings) {
        None => Ok(()),
        Some((other, _)) => Err(Invalid {
            place: Place::Policy(other.name.clone()),
            why: format!(
                "its redundant settings differ from those of policy `{}`: a host has one of each",
                first.name
            ),
        }),
    }
}

/// Returns the index of the policy of this name.
fn index(named: &[Named], name: &str) -> Option<u32> {
    if name == DEFAULT_NAME {
        return Some(DEFAULT_POLICY);
    }
    let found = named.iter().find(|named| named.name == name);
    found.map(|named| named.index)
}

fn not_known(named: &[Named], name: &str) -> String {
    let names = named.iter().map(|named| named.name.as_str());
    let names: Vec<&str> = [DEFAULT_NAME].into_iter().chain(names).collect();
    format!(
        "there is no policy `{}`: expected one of {}",
        name.escape_debug(),
        names.join(", ")
    )
}

/// Checks the name of a policy or a rule, which is shown in tables and metrics.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
        let shown: String = name.chars().take(LONGEST_NAME).collect();
        return Err(format!(
            "`{}` is no name: expected letters, digits, `-`, `_` and `.`, {LONGEST_NAME} bytes at \
             most",
            shown.escape_debug()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
