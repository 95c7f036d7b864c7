//! The overflow policy: a path carries only what those before it cannot.
//!
//! ```text
//!   --prefer A --prefer B     A: rank 1, B: rank 2, all others: rank 3
//!   weight in the kernel      A: 3,      B: 2,      all others: 1
//! ```
//!
//! The programs compare weights only: of two paths, that of the larger weight
//! is the preferred one. None is 0, so no path is on standby for good; a path
//! that is left out is told as 0.

use std::fmt;

use mptcp_api::policy::{Invalid, Overflow as Settings, Problem, Setting};
use mptcp_common::abi::capability;

use super::Bounds;
use super::kind::{Checked, HoldsOut, Kind, Needs};
use super::weights::{Weight, Weights};
use crate::policy::selector::Selector;

/// Fills one path after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// The paths, the preferred one first.
    prefer: Vec<Selector>,
    /// The ranks as the programs know them: the larger the weight, the lower the rank.
    weights: Weights,
    /// The bounds beyond which paths are left out.
    bounds: Bounds,
}

impl Checked for Overflow {
    type Settings = Settings;

    const SUMMARY: &'static str = "Fill the preferred path; the next carries what does not fit";

    fn check(settings: &Settings) -> Result<Self, Invalid> {
        let wrong = |problem| Invalid {
            setting: Settings::PREFER,
            problem,
        };
        let selectors = settings.prefer.iter().map(|selector| selector.parse());
        let selectors: Result<Vec<Selector>, String> = selectors.collect();
        let prefer = selectors.map_err(|why| wrong(Problem::Unreadable(why)))?;
        if prefer.is_empty() {
            return Err(wrong(Problem::Missing(
                "at least one path, the preferred one first",
            )));
        }
        let weights = (2..=u16::MAX).zip(prefer.iter().rev());
        let mut weights: Vec<Weight> = weights
            .map(|(weight, selector)| Weight {
                selector: selector.clone(),
                weight,
            })
            .collect();
        weights.reverse();
        let weights = Weights::new(&weights).map_err(|problem| match problem {
            Problem::SamePath(path) => wrong(Problem::Twice(path)),
            other => wrong(other),
        })?;
        Ok(Self {
            prefer,
            weights,
            bounds: Bounds::NONE,
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            prefer: self.prefer.iter().map(Selector::to_string).collect(),
        }
    }
}

impl Kind for Overflow {
    fn backend(&self) -> &'static str {
        "pacing"
    }

    fn capabilities(&self) -> u32 {
        capability::OVERFLOWS
    }

    fn weights(&self) -> Weights {
        self.weights.clone()
    }

    fn rank(&self, weight: u16) -> Option<u16> {
        // There are fewer selectors than indices of paths.
        let ranks = self.prefer.len() as u16 + 2;
        Some(ranks.saturating_sub(weight))
    }

    fn names_paths_by(&self) -> Setting {
        Settings::PREFER
    }

    fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn bounds_mut(&mut self) -> Option<&mut Bounds> {
        Some(&mut self.bounds)
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            holds_out: Some(HoldsOut {
                what: "policy overflow",
                instead: "choose another policy",
            }),
            ..Needs::default()
        }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("overflow (")?;
        for (place, selector) in self.prefer.iter().enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{selector}")?;
        }
        f.write_str(")")
    }
}
