//! The limits of paths: what the host may send over a path at most, under every
//! policy.

use std::fmt;
use std::str::FromStr;

use mptcp_api::policy::{Invalid, Problem, Shared};

use super::selector::Selector;
use super::weights::{MAX_SELECTORS, Weight};
use super::{Rate, Weights};

/// The word that takes a limit away.
const NONE: &str = "none";

/// The limit of one path: `SELECTOR=RATE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The path.
    pub selector: Selector,
    /// The limit; `None`: the path has none.
    pub rate: Option<Rate>,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "{}={rate}", self.selector),
            None => write!(f, "{}={NONE}", self.selector),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // From the right: `=` is allowed in a device's name.
        let (selector, rate) = text.rsplit_once('=').ok_or_else(|| {
            format!("`{text}` has no limit: write SELECTOR=RATE, as in wwan0=20mbit")
        })?;
        let rate = match rate {
            NONE => None,
            rate => Some(Rate::limit(rate)?),
        };
        Ok(Self {
            selector: selector.parse()?,
            rate,
        })
    }
}

/// The limits of all paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In the user's order; no two name the same path, none is `default`.
    listed: Vec<Limit>,
    /// The limit of every other path.
    unlisted: Option<Rate>,
}

impl Limits {
    /// Checks the limits, and that there are indices for the paths that they and
    /// `weights` name.
    ///
    /// # Errors
    /// A limit cannot be read, two are about the same path, or there are too many
    /// selectors.
    pub fn check(settings: &Shared, weights: &Weights) -> Result<Self, Invalid> {
        let wrong = |problem| Invalid {
            setting: Shared::LIMITS,
            problem,
        };
        let mut limits = Self::default();
        let mut seen = Vec::new();
        for text in &settings.limits {
            let limit: Limit = text
                .parse()
                .map_err(|why| wrong(Problem::Unreadable(why)))?;
            if seen.contains(&limit.selector) {
                return Err(wrong(Problem::Twice(limit.selector.to_string())));
            }
            seen.push(limit.selector.clone());
            match limit.selector {
                Selector::Default => limits.unlisted = limit.rate,
                _ => limits.listed.push(limit),
            }
        }
        let count = limits.name_paths(weights.clone()).listed.len();
        if count > MAX_SELECTORS {
            return Err(wrong(Problem::Senseless(format!(
                "{count} selectors are too many, with and without a limit: {MAX_SELECTORS} fit; \
                 a prefix can stand for many addresses"
            ))));
        }
        Ok(limits)
    }

    /// Returns the settings, in the form that [`Limits::check`] reads.
    pub fn settings(&self) -> Vec<String> {
        let unlisted = self.unlisted.map(|rate| Limit {
            selector: Selector::Default,
            rate: Some(rate),
        });
        let limits = self.listed.iter().chain(&unlisted);
        limits.map(Limit::to_string).collect()
    }

    /// Returns whether no path has a limit.
    pub fn is_empty(&self) -> bool {
        self.unlisted.is_none() && self.listed.iter().all(|limit| limit.rate.is_none())
    }

    /// Returns whether a limit names this path.
    pub fn names(&self, selector: &Selector) -> bool {
        self.listed.iter().any(|limit| limit.selector == *selector)
    }

    /// Returns the limit of the path that this selector names.
    pub fn of(&self, selector: &Selector) -> Option<Rate> {
        let mut listed = self.listed.iter();
        match listed.find(|limit| limit.selector == *selector) {
            Some(limit) => limit.rate,
            None => self.unlisted,
        }
    }

    /// Adds the paths that only a limit names to `weights`, with the weight of
    /// paths that are not listed.
    pub fn name_paths(&self, mut weights: Weights) -> Weights {
        for Limit { selector, .. } in &self.listed {
            if !weights.listed.iter().any(|one| one.selector == *selector) {
                weights.listed.push(Weight {
                    selector: selector.clone(),
                    weight: weights.unlisted,
                });
            }
        }
        weights
    }
}

impl fmt::Display for Limits {
    /// Writes `, p2 at most 20mbit` for each limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Limit { selector, rate } in &self.listed {
            if let Some(rate) = rate {
                write!(f, ", {selector} at most {rate}")?;
            }
        }
        match self.unlisted {
            Some(rate) => write!(f, ", other paths at most {rate} each"),
            None => Ok(()),
        }
    }
}
