//! What the user asks for, checked as a whole.
//!
//! Pure: the arguments go in, a [`Policy`] or one clear line comes out.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use mptcp_common::abi::{MAX_PATHS, mode};

use crate::selector::Selector;

/// Paths that selectors can name; the index of the unknown path is taken.
pub const MAX_SELECTORS: usize = MAX_PATHS - 1;

/// What a path weighs of which the user said nothing.
pub const UNLISTED_WEIGHT: u16 = 1;

/// `--policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// Observe only; lift what an earlier agent may have left
    Default,
    /// Share each connection's bytes out by the paths' weights
    Weighted,
}

/// `--weighted-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightedMode {
    /// Acked bytes follow the weights, at the highest rate that allows it
    Strict,
    /// The weights hold until a path is full; then the others may take more
    Spill,
}

/// One `--weight SELECTOR=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Which path.
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

/// Which path weighs how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// In the user's order; no two name the same path, none is `default`.
    pub listed: Vec<Weight>,
    /// What every other path weighs.
    pub unlisted: u16,
}

impl Weights {
    /// Whether a path is to carry nothing while another can.
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

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Observe only.
    Default,
    /// Steer by weights.
    Weighted(WeightedMode, Weights),
}

impl Policy {
    /// Checks the arguments against each other.
    ///
    /// # Errors
    /// Arguments that the policy has no use for, or wrong weights.
    pub fn new(
        name: PolicyName,
        mode: Option<WeightedMode>,
        weights: &[Weight],
    ) -> Result<Self, String> {
        match name {
            PolicyName::Default if !weights.is_empty() => Err(
                "--weight has no effect under --policy default, which only observes: add \
                     --policy weighted, or leave --weight out"
                    .to_owned(),
            ),
            PolicyName::Default if mode.is_some() => Err(
                "--weighted-mode has no effect under --policy default, which only observes: \
                     add --policy weighted, or leave it out"
                    .to_owned(),
            ),
            PolicyName::Default => Ok(Self::Default),
            PolicyName::Weighted => {
                let mode = mode.unwrap_or(WeightedMode::Strict);
                Ok(Self::Weighted(mode, Weights::new(weights)?))
            }
        }
    }

    /// The policy's name, as in `--policy` and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Weighted(..) => "weighted",
        }
    }

    /// What the policy acts with, as in metrics.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Default => "none",
            Self::Weighted(..) => "pacing",
        }
    }

    /// One of [`mode`].
    pub fn mode(&self) -> u32 {
        match self {
            Self::Default => mode::DEFAULT,
            Self::Weighted(WeightedMode::Strict, _) => mode::STRICT,
            Self::Weighted(WeightedMode::Spill, _) => mode::SPILL,
        }
    }

    /// The weights; all equal where the policy has none.
    pub fn weights(&self) -> Weights {
        match self {
            Self::Default => Weights::EQUAL,
            Self::Weighted(_, weights) => weights.clone(),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Weighted(WeightedMode::Strict, _) => f.write_str("weighted (strict)"),
            Self::Weighted(WeightedMode::Spill, _) => f.write_str("weighted (spill)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn weights(given: &[&str]) -> Result<Weights, String> {
        let given: Vec<Weight> = given.iter().map(|text| text.parse().unwrap()).collect();
        Weights::new(&given)
    }

    #[test]
    fn a_weight_is_a_selector_and_a_number() {
        for (text, selector, weight) in [
            ("eth0=4", "eth0", 4),
            ("eth0=0", "eth0", 0),
            ("a=b=65535", "a=b", 65535),
            ("fd00::/64=1", "fd00::/64", 1),
            ("id:2=7", "id:2", 7),
            ("default=0", "default", 0),
        ] {
            let parsed: Weight = text.parse().unwrap();
            assert_eq!(
                (parsed.selector.to_string().as_str(), parsed.weight),
                (selector, weight)
            );
        }
        for (text, reason) in [
            ("eth0", "no weight"),
            ("eth0=", "0 (standby) to 65535"),
            ("eth0=-1", "0 (standby) to 65535"),
            ("eth0=+1", "0 (standby) to 65535"),
            ("eth0=1.5", "0 (standby) to 65535"),
            ("eth0=65536", "0 (standby) to 65535"),
            ("=1", "missing"),
            ("10.0.0.1/24=1", "10.0.0.0/24"),
        ] {
            let error = text.parse::<Weight>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn weights_are_checked_as_a_whole() {
        assert_eq!(weights(&[]), Ok(Weights::EQUAL));
        let mixed = weights(&["eth0=4", "default=0", "wwan0=0"]).unwrap();
        assert_eq!((mixed.listed.len(), mixed.unlisted), (2, 0));
        // Standby beside unlisted paths, which weigh 1.
        assert!(weights(&["wwan0=0"]).is_ok());

        for (given, reason) in [
            (&["eth0=1", "eth0=2"][..], "same path, `eth0`"),
            (&["10.0.0.1=1", "10.0.0.1/32=1"], "same path, `10.0.0.1`"),
            (
                &["::ffff:10.0.0.1=1", "10.0.0.1=1"],
                "same path, `10.0.0.1`",
            ),
            (&["id:1=1", "id:01=1"], "same path, `id:1`"),
            (
                &["default=1", "eth0=1", "default=1"],
                "same path, `default`",
            ),
            (&["default=0"], "all weights are 0"),
            (&["eth0=0", "default=0"], "all weights are 0"),
        ] {
            let error = weights(given).unwrap_err();
            assert!(error.contains(reason), "{given:?}: {error}");
        }
    }

    #[test]
    fn as_many_selectors_as_there_are_indices() {
        let many =
            |count: usize| -> Vec<String> { (0..count).map(|n| format!("id:{n}=1")).collect() };
        let texts = |many: &[String]| weights(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(texts(&many(MAX_SELECTORS)).is_ok());
        assert!(
            texts(&many(MAX_SELECTORS + 1))
                .unwrap_err()
                .contains("63 fit")
        );
    }

    #[test]
    fn the_default_policy_takes_no_weights() {
        let weight: Weight = "eth0=1".parse().unwrap();
        let error = Policy::new(PolicyName::Default, None, &[weight]).unwrap_err();
        assert!(error.contains("--policy weighted"), "{error}");
        let spill = Some(WeightedMode::Spill);
        assert!(Policy::new(PolicyName::Default, spill, &[]).is_err());

        let policy = Policy::new(PolicyName::Weighted, spill, &[]).unwrap();
        assert_eq!(
            (policy.mode(), policy.to_string().as_str()),
            (mode::SPILL, "weighted (spill)")
        );
        let policy = Policy::new(PolicyName::Weighted, None, &[]).unwrap();
        assert_eq!((policy.mode(), policy.backend()), (mode::STRICT, "pacing"));
    }
}
