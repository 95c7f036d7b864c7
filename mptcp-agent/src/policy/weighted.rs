//! The weighted policy: shares bytes out by the paths' weights.

use std::fmt;

use mptcp_api::policy::{Invalid, Problem, Weighted as Settings};
use mptcp_common::abi::capability;

use super::kind::{Checked, HoldsOut, Kind, Needs};
use super::weights::{UNLISTED_WEIGHT, Weight, Weights};
use super::{Bounds, Choice, choice};
use crate::policy::selector::Selector;

/// How strictly the weights hold.
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

/// The connections whose bytes follow the weights together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightedScope {
    /// All connections of the policy.
    Host,
    /// Each connection by itself.
    Connection,
}

impl Choice for WeightedScope {
    const ALL: &'static [Self] = &[Self::Host, Self::Connection];

    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Connection => "connection",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Host => "The bytes of all connections together follow the weights",
            Self::Connection => "The bytes of each connection follow the weights",
        }
    }
}

/// The treatment of connections that are too thin to be steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thin {
    /// The kernel's scheduler uses all their paths.
    Free,
    /// Each uses one path, so that the host's ratio holds for them as well.
    Place,
}

impl Choice for Thin {
    const ALL: &'static [Self] = &[Self::Free, Self::Place];

    fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Place => "place",
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Free => "The kernel's scheduler uses all their paths",
            Self::Place => "Each uses one path, and all together follow the weights",
        }
    }
}

/// Steers by weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// How strictly the weights hold.
    pub mode: WeightedMode,
    /// The connections whose bytes follow the weights together.
    pub scope: WeightedScope,
    /// The treatment of thin connections.
    pub thin: Thin,
    /// The weights.
    pub weights: Weights,
    /// The bounds beyond which paths are left out.
    pub bounds: Bounds,
}

impl Checked for Weighted {
    type Settings = Settings;

    const SUMMARY: &'static str = "Share bytes out by the paths' weights";

    fn check(settings: &Settings) -> Result<Self, Invalid> {
        let mode = settings.weighted_mode.as_deref();
        let mode = mode.map(|mode| choice::read(Settings::MODE, mode));
        let scope = settings.weighted_scope.as_deref();
        let scope = scope.map(|scope| choice::read(Settings::SCOPE, scope));
        let thin = settings.thin.as_deref();
        let thin = thin.map(|thin| choice::read(Settings::THIN, thin));
        let (scope, thin) = (scope.transpose()?, thin.transpose()?);
        let scope = scope.unwrap_or(WeightedScope::Host);
        let thin = thin.unwrap_or(Thin::Free);
        if thin == Thin::Place && scope == WeightedScope::Connection {
            return Err(Invalid {
                setting: Settings::THIN,
                problem: Problem::Unreadable(
                    "`place` needs the scope `host`: thin connections are placed so that the \
                     host's ratio holds"
                        .to_owned(),
                ),
            });
        }
        let wrong = |problem| Invalid {
            setting: Settings::WEIGHTS,
            problem,
        };
        let weights = settings.weights.iter().map(|weight| weight.parse());
        let weights: Result<Vec<Weight>, String> = weights.collect();
        let weights = weights.map_err(|why| wrong(Problem::Unreadable(why)))?;
        Ok(Self {
            mode: mode.transpose()?.unwrap_or(WeightedMode::Strict),
            scope,
            thin,
            weights: Weights::new(&weights).map_err(wrong)?,
            bounds: Bounds::NONE,
        })
    }

    fn settings(&self) -> Settings {
        let Weights { listed, unlisted } = &self.weights;
        let unlisted = (*unlisted != UNLISTED_WEIGHT).then_some(Weight {
            selector: Selector::Default,
            weight: *unlisted,
        });
        let weights = listed.iter().chain(&unlisted);
        Settings {
            weighted_mode: Some(self.mode.name().to_owned()),
            weighted_scope: Some(self.scope.name().to_owned()),
            thin: Some(self.thin.name().to_owned()),
            weights: weights.map(Weight::to_string).collect(),
        }
    }
}

impl Kind for Weighted {
    fn backend(&self) -> &'static str {
        "pacing"
    }

    fn capabilities(&self) -> u32 {
        let mode = match self.mode {
            WeightedMode::Strict => 0,
            WeightedMode::Spill => capability::SPILLS,
        };
        let scope = match self.scope {
            WeightedScope::Host => capability::HOST,
            WeightedScope::Connection => 0,
        };
        let thin = match self.thin {
            Thin::Free => 0,
            Thin::Place => capability::PLACES,
        };
        capability::CAPS | mode | scope | thin
    }

    fn weights(&self) -> Weights {
        self.weights.clone()
    }

    fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn bounds_mut(&mut self) -> Option<&mut Bounds> {
        Some(&mut self.bounds)
    }

    fn needs(&self) -> Needs<'_> {
        let standby = self.weights.has_standby().then_some(HoldsOut {
            what: "a weight of 0 (standby)",
            instead: "give the path a weight above 0",
        });
        let place = (self.thin == Thin::Place).then_some(HoldsOut {
            what: "placing thin connections",
            instead: "leave them free",
        });
        Needs {
            holds_out: standby.or(place),
            ..Needs::default()
        }
    }
}

impl fmt::Display for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            WeightedScope::Host => "",
            WeightedScope::Connection => ", each connection",
        };
        let thin = match self.thin {
            Thin::Free => "",
            Thin::Place => ", thin ones placed",
        };
        write!(f, "weighted ({}{scope}{thin})", self.mode.name())
    }
}
