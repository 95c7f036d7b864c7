//! The policies that are compared, and the agent's arguments for each.

use std::fmt;

use mptcp_lab::agent;

use crate::bench::plan::{Links, ratio};

/// The policy that an agent applies, or no agent at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// No agent: the default scheduler.
    Default,
    /// The default scheduler once more: how it differs from itself is noise.
    Again,
    /// The weights always hold, for all connections of the host together.
    Strict(&'static [u16]),
    /// The weights hold until a path is full.
    Spill(&'static [u16]),
    /// Each path carries only what does not fit on those before it.
    Overflow,
    /// As much as the paths give together.
    Aggregate,
}

impl Policy {
    /// Returns the agent's arguments; `None` for no agent.
    pub fn args(self, links: &Links) -> Option<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        match self {
            Self::Default | Self::Again => None,
            Self::Strict(weights) => Some(host_args(links, weights)),
            Self::Spill(weights) => {
                let mut args = host_args(links, weights);
                args.extend(["--weighted-mode", "spill"].map(str::to_owned));
                Some(args)
            }
            Self::Overflow => {
                let mut args: Vec<String> = words(&["--policy", "overflow"]);
                for path in &links.paths {
                    args.extend(["--prefer", path.name()].map(str::to_owned));
                }
                Some(args)
            }
            Self::Aggregate => Some(words(&["--policy", "aggregate"])),
        }
    }

    /// Returns whether an agent steers: such a row has a verdict.
    pub fn steers(self) -> bool {
        !matches!(self, Self::Default | Self::Again)
    }

    /// Returns whether the policy promises a ratio.
    pub fn is_strict(self) -> bool {
        matches!(self, Self::Strict(_))
    }

    /// Returns the weights, if the policy has any.
    pub fn weights(self) -> Option<&'static [u16]> {
        match self {
            Self::Strict(weights) | Self::Spill(weights) => Some(weights),
            Self::Default | Self::Again | Self::Overflow | Self::Aggregate => None,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Default => "default".to_owned(),
            Self::Again => "again".to_owned(),
            Self::Strict(weights) => format!("strict {}", ratio(weights)),
            Self::Spill(weights) => format!("spill {}", ratio(weights)),
            Self::Overflow => "overflow".to_owned(),
            Self::Aggregate => "aggregate".to_owned(),
        };
        f.pad(&text)
    }
}

/// Returns the arguments for weights that hold for the host.
fn host_args(links: &Links, weights: &[u16]) -> Vec<String> {
    let mut args = agent::weighted_args(&links.with(weights));
    args.extend(["--weighted-scope", "host"].map(str::to_owned));
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan;

    #[test]
    fn each_policy_has_its_arguments() {
        let args = |policy: Policy| policy.args(&plan::near()).map(|args| args.join(" "));
        assert_eq!(args(Policy::Default), None);
        assert_eq!(args(Policy::Again), None);
        let all = [
            (
                Policy::Strict(&[4, 1]),
                "--policy weighted --weight p1=4 --weight p2=1 --weighted-scope host",
            ),
            (
                Policy::Spill(&[2, 1]),
                "--policy weighted --weight p1=2 --weight p2=1 --weighted-scope host --weighted-mode spill",
            ),
            (
                Policy::Overflow,
                "--policy overflow --prefer p1 --prefer p2",
            ),
            (Policy::Aggregate, "--policy aggregate"),
        ];
        for (policy, expected) in all {
            assert_eq!(args(policy).as_deref(), Some(expected));
        }
    }
}
