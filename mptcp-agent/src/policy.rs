//! The policy that the user asks for, checked as a whole.
//!
//! Pure: the arguments go in, a [`Policy`] or one clear line comes out.

mod choice;
mod key;
mod provided;
mod redundant;
pub mod selector;
pub mod settings;

use std::fmt;
use std::str::FromStr;

use mptcp_common::abi::{MAX_PATHS, capability};

pub use choice::Choice;
pub use key::Key;
pub use provided::{Provided, provide};
pub use redundant::{Rate, Redundant, RedundantGiven};

use crate::policy::selector::Selector;

/// How many paths selectors can name. The index of the unknown path is not for
/// them.
pub const MAX_SELECTORS: usize = MAX_PATHS - 1;

/// The weight of a path that the user did not mention.
pub const UNLISTED_WEIGHT: u16 = 1;

/// `--policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// Observe only.
    Default,
    /// Steer by weights.
    Weighted,
    /// Copy segments to other paths.
    Redundant,
}

impl Choice for PolicyName {
    const ALL: &'static [Self] = &[Self::Default, Self::Weighted, Self::Redundant];

    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Weighted => "weighted",
            Self::Redundant => "redundant",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Default => "Observe only; lift what an earlier agent may have left",
            Self::Weighted => "Share each connection's bytes out by the paths' weights",
            Self::Redundant => {
                "Send every segment on more than one path; wants an agent at both ends"
            }
        }
    }
}

/// `--weighted-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightedMode {
    /// Acked bytes follow the weights.
    Strict,
    /// Full paths spill over to the others.
    Spill,
}

impl Choice for WeightedMode {
    const ALL: &'static [Self] = &[Self::Strict, Self::Spill];

    fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Spill => "spill",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Strict => "Acked bytes follow the weights, at the highest rate that allows it",
            Self::Spill => "The weights hold until a path is full; then the others may take more",
        }
    }
}

/// One `--weight SELECTOR=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The path.
    pub selector: Selector,
    /// 0 (standby) to 65535.
    pub weight: u16,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // From the right: `=` is allowed in a device's name.
        let (selector, weight) = text
            .rsplit_once('=')
            .ok_or_else(|| format!("`{text}` has no weight: write SELECTOR=N, as in eth0=4"))?;
        let digits = !weight.is_empty() && weight.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = digits.then(|| weight.parse().ok()).flatten();
        let weight = parsed.ok_or_else(|| {
            format!("`{weight}` is not a weight: expected a whole number from 0 (standby) to 65535")
        })?;
        Ok(Self {
            selector: selector.parse()?,
            weight,
        })
    }
}

/// The weights of all paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// In the user's order; no two name the same path, none is `default`.
    pub listed: Vec<Weight>,
    /// The weight of every other path.
    pub unlisted: u16,
}

impl Weights {
    /// Returns whether a path has weight 0, so that it carries nothing while
    /// another can.
    pub fn has_standby(&self) -> bool {
        self.unlisted == 0 || self.listed.iter().any(|listed| listed.weight == 0)
    }

    /// No selector: every path weighs the same.
    pub const EQUAL: Self = Self {
        listed: Vec::new(),
        unlisted: UNLISTED_WEIGHT,
    };

    /// Checks the weights against each other.
    ///
    /// # Errors
    /// Duplicates, weights that are all 0, more selectors than
    /// [`MAX_SELECTORS`].
    pub fn new(given: &[Weight]) -> Result<Self, String> {
        let mut weights = Self::EQUAL;
        for (position, weight) in given.iter().enumerate() {
            let selector = &weight.selector;
            if given[..position]
                .iter()
                .any(|earlier| earlier.selector == *selector)
            {
                return Err(format!(
                    "two --weight name the same path, `{selector}`: give each path one weight"
                ));
            }
            match selector {
                Selector::Default => weights.unlisted = weight.weight,
                _ => weights.listed.push(weight.clone()),
            }
        }
        let count = weights.listed.len();
        if count > MAX_SELECTORS {
            return Err(format!(
                "{count} selectors are too many: {MAX_SELECTORS} fit; a prefix can stand for \
                 many addresses"
            ));
        }
        if weights.unlisted == 0 && weights.listed.iter().all(|weight| weight.weight == 0) {
            return Err(
                "all weights are 0, so no path would be used: give at least one path, \
                        or default, a weight from 1 to 65535"
                    .to_owned(),
            );
        }
        Ok(weights)
    }
}

/// The policy: what the agent does with connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Observe only.
    Default,
    /// Steer by weights.
    Weighted(WeightedMode, Weights),
    /// Copy segments to other paths.
    Redundant(Redundant),
}

impl Policy {
    /// Checks the arguments against each other.
    ///
    /// # Errors
    /// An argument was given that the policy has no use for, or weights are
    /// wrong.
    pub fn new(
        name: PolicyName,
        mode: Option<WeightedMode>,
        weights: &[Weight],
        redundant: &RedundantGiven,
    ) -> Result<Self, String> {
        if name != PolicyName::Weighted {
            let useless = if weights.is_empty() {
                mode.map(|_| "--weighted-mode")
            } else {
                Some("--weight")
            };
            refuse(useless, name, "weighted")?;
        }
        if name != PolicyName::Redundant {
            refuse(redundant.given(), name, "redundant")?;
        }
        match name {
            PolicyName::Default => Ok(Self::Default),
            PolicyName::Weighted => {
                let mode = mode.unwrap_or(WeightedMode::Strict);
                Ok(Self::Weighted(mode, Weights::new(weights)?))
            }
            PolicyName::Redundant => Ok(Self::Redundant(Redundant::new(redundant))),
        }
    }

    /// Returns the policy's name, as in `--policy` and in metrics.
    pub fn name(&self) -> &'static str {
        let name = match self {
            Self::Default => PolicyName::Default,
            Self::Weighted(..) => PolicyName::Weighted,
            Self::Redundant(_) => PolicyName::Redundant,
        };
        name.name()
    }

    /// Returns what the policy acts with, as named in metrics.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Default => "none",
            Self::Weighted(..) => "pacing",
            Self::Redundant(_) => "copies",
        }
    }

    /// Returns what the programs do with connections: bits of [`capability`].
    pub fn capabilities(&self) -> u32 {
        match self {
            Self::Default => 0,
            Self::Weighted(WeightedMode::Strict, _) => capability::CAPS,
            Self::Weighted(WeightedMode::Spill, _) => capability::CAPS | capability::SPILLS,
            Self::Redundant(_) => capability::COPIES,
        }
    }

    /// Returns whether paths have shares, which the policy enforces with caps.
    pub fn caps(&self) -> bool {
        self.capabilities() & capability::CAPS != 0
    }

    /// Returns the weights, which are all equal if the policy has none.
    pub fn weights(&self) -> Weights {
        match self {
            Self::Default | Self::Redundant(_) => Weights::EQUAL,
            Self::Weighted(_, weights) => weights.clone(),
        }
    }

    /// Returns the settings of copies, if the policy copies segments. Copies
    /// need an agent at the other end, too.
    pub fn copies(&self) -> Option<&Redundant> {
        match self {
            Self::Redundant(settings) => Some(settings),
            Self::Default | Self::Weighted(..) => None,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Weighted(mode, _) => write!(f, "weighted ({})", mode.name()),
            Self::Redundant(settings) => write!(f, "redundant ({} copies)", settings.copies),
        }
    }
}

/// Refuses `argument`, if there is one: only policy `wanted` has a use for it.
fn refuse(argument: Option<&str>, name: PolicyName, wanted: &str) -> Result<(), String> {
    let Some(argument) = argument else {
        return Ok(());
    };
    let name = match name {
        PolicyName::Default => "default, which only observes",
        other => other.name(),
    };
    Err(format!(
        "{argument} has no effect under policy {name}: choose policy {wanted}, or leave \
         {argument} out"
    ))
}

#[cfg(test)]
mod tests;
