//! The weights of paths.

use std::fmt;
use std::str::FromStr;

use mptcp_api::policy::Problem;
use mptcp_common::abi::MAX_PATHS;

use super::selector::Selector;

/// How many paths selectors can name. The index of the unknown path is not for
/// them.
pub const MAX_SELECTORS: usize = MAX_PATHS - 1;

/// The weight of a path that the user did not mention.
pub const UNLISTED_WEIGHT: u16 = 1;

/// The weight of one path: `SELECTOR=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The path.
    pub selector: Selector,
    /// 0 (standby) to 65535.
    pub weight: u16,
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.selector, self.weight)
    }
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
    pub fn new(given: &[Weight]) -> Result<Self, Problem> {
        let is_default = |weight: &&Weight| weight.selector == Selector::Default;
        let count = given.len() - given.iter().filter(is_default).count();
        if count > MAX_SELECTORS {
            return Err(Problem::Senseless(format!(
                "{count} selectors are too many: {MAX_SELECTORS} fit; a prefix can stand for \
                 many addresses"
            )));
        }
        let mut weights = Self::EQUAL;
        for (position, weight) in given.iter().enumerate() {
            let selector = &weight.selector;
            if given[..position]
                .iter()
                .any(|earlier| earlier.selector == *selector)
            {
                return Err(Problem::SamePath(selector.to_string()));
            }
            match selector {
                Selector::Default => weights.unlisted = weight.weight,
                _ => weights.listed.push(weight.clone()),
            }
        }
        if weights.unlisted == 0 && weights.listed.iter().all(|weight| weight.weight == 0) {
            return Err(Problem::Senseless(
                "all weights are 0, so no path would be used: give at least one path, or \
                 default, a weight from 1 to 65535"
                    .to_owned(),
            ));
        }
        Ok(weights)
    }
}
