//! The policy: what the agent does with connections, checked as a whole.
//!
//! Each policy has a file. It says what its settings mean, what it needs of the
//! host, how the programs are told (capabilities and weights), and how it
//! describes itself. The only list of policies is that of `policies!` below;
//! everybody else asks [`Policy`], and never for its name.
//!
//! Pure but for [`provide`]: settings go in, a [`Policy`] or one clear error
//! comes out.

mod aggregate;
mod choice;
mod decimal;
mod default;
mod key;
mod kind;
mod lasting;
mod leave_out;
mod limits;
mod overflow;
mod provided;
mod quota;
mod rate;
mod redundant;
pub mod selector;
mod weighted;
mod weights;

use std::fmt;

use mptcp_api::policy::{Given, Invalid, PolicySettings as _, Setting, Settings, Shared};
use mptcp_common::abi::capability;

use aggregate::Aggregate;
use default::Observe;
use kind::{Checked, HoldsOut, Kind, Needs};
use overflow::Overflow;

pub use choice::Choice;
pub use key::Key;
pub use lasting::lasting;
pub use leave_out::{Bound, Bounds, PathBound};
pub use limits::{Limit, Limits};
pub use provided::{Provided, provide};
pub use quota::{Action, Count, Direction, Quota, Quotas, Span};
pub use rate::Rate;
pub use redundant::Redundant;
pub use weighted::{Thin, Weighted, WeightedMode, WeightedScope};
pub use weights::{MAX_SELECTORS, UNLISTED_WEIGHT, Weight, Weights};

/// Makes [`AnyKind`] of the list of policies, and the list of their names.
macro_rules! policies {
    ($($(#[$doc:meta])* $variant:ident($kind:ty),)+) => {
        /// One of the policies, with its own settings.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum AnyKind {
            $($(#[$doc])* $variant($kind),)+
        }

        impl Policy {
            /// Returns name and summary of each policy there is.
            pub fn names() -> Vec<(&'static str, &'static str)> {
                vec![$((
                    <$kind as Checked>::Settings::default().name(),
                    <$kind>::SUMMARY,
                )),+]
            }
        }

        impl AnyKind {
            /// Checks the settings of the policy that was chosen.
            fn check(settings: &Settings) -> Result<Self, Invalid> {
                match settings {
                    $(Settings::$variant(settings) => {
                        <$kind>::check(settings).map(Self::$variant)
                    })+
                }
            }

            /// Returns the settings in full, without relying on defaults.
            fn settings(&self) -> Settings {
                match self {
                    $(Self::$variant(kind) => Settings::$variant(kind.settings()),)+
                }
            }

            fn kind(&self) -> &dyn Kind {
                match self {
                    $(Self::$variant(kind) => kind,)+
                }
            }

            fn kind_mut(&mut self) -> &mut dyn Kind {
                match self {
                    $(Self::$variant(kind) => kind,)+
                }
            }
        }
    };
}

policies! {
    /// Observe only.
    Default(Observe),
    /// Steer by weights.
    Weighted(Weighted),
    /// Fill one path after the other.
    Overflow(Overflow),
    /// Use all that the paths give together.
    Aggregate(Aggregate),
    /// Copy segments to other paths.
    Redundant(Redundant),
}

/// The policy: what the agent does with connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    kind: AnyKind,
    /// The limits of paths, which hold under every policy.
    limits: Limits,
    /// The quotas of paths, which count under every policy. Only some policies can
    /// make a path standby.
    quotas: Quotas,
}

impl From<AnyKind> for Policy {
    /// Makes a policy without limits and quotas.
    fn from(kind: AnyKind) -> Self {
        Self {
            kind,
            limits: Limits::default(),
            quotas: Quotas::default(),
        }
    }
}

impl Policy {
    /// Returns the policy that the settings ask for.
    ///
    /// # Errors
    /// There is no such policy, a setting is that of another policy, or a value
    /// is wrong.
    pub fn new(given: Given) -> Result<Self, Invalid> {
        let (leave_out, shared) = (given.leave_out.clone(), given.shared.clone());
        let mut kind = AnyKind::check(&given.try_into()?)?;
        let limits = Limits::check(&shared, &kind.kind().weights())?;
        let named = limits.name_paths(kind.kind().weights());
        let holds_out = kind.kind_mut().bounds_mut().is_some();
        let quotas = Quotas::check(&shared, &named, holds_out)?;
        let bounds = Bounds::new(&leave_out, &kind.kind().weights())?;
        // A policy that cannot leave paths out was given no bounds.
        if let Some(own) = kind.kind_mut().bounds_mut() {
            *own = bounds;
        }
        Ok(Self {
            kind,
            limits,
            quotas,
        })
    }

    /// Returns the policy's name, as in `--policy` and in metrics.
    pub fn name(&self) -> &'static str {
        self.kind.settings().name()
    }

    /// Returns the settings in full, as they are sent to clients.
    pub fn given(&self) -> Given {
        let given = self.kind.settings().into();
        Given {
            leave_out: self.bounds().setting(),
            shared: Shared {
                limits: self.limits.settings(),
                quotas: self.quotas.settings(),
            },
            ..given
        }
    }

    /// Returns the bounds beyond which paths are left out.
    pub fn bounds(&self) -> &Bounds {
        self.kind().bounds()
    }

    fn kind(&self) -> &dyn Kind {
        self.kind.kind()
    }

    /// Returns what the policy acts with, as named in metrics.
    pub fn backend(&self) -> &'static str {
        match self.kind().backend() {
            "none" if !self.limits.is_empty() || self.quotas.hold_out() => "pacing",
            backend => backend,
        }
    }

    /// Returns what the programs do with connections: bits of [`capability`].
    pub fn capabilities(&self) -> u32 {
        let capabilities = self.kind().capabilities();
        // A policy without shares and ranks gives all paths one rank, and holds
        // out only those whose quota is spent.
        match self.quotas.hold_out() {
            true if capabilities & capability::CAPS == 0 => capabilities | capability::OVERFLOWS,
            _ => capabilities,
        }
    }

    /// Returns whether paths have shares, which the policy enforces with caps.
    pub fn caps(&self) -> bool {
        self.capabilities() & capability::CAPS != 0
    }

    /// Returns whether paths have ranks, by which the policy holds them out.
    pub fn overflows(&self) -> bool {
        self.capabilities() & capability::OVERFLOWS != 0
    }

    /// Returns whether the programs judge which paths make progress.
    pub fn judges(&self) -> bool {
        self.caps() || self.overflows()
    }

    /// Returns the rank of a path that has this weight, 1 being the preferred
    /// one; `None` if the policy ranks no paths.
    pub fn rank(&self, weight: u16) -> Option<u16> {
        self.kind().rank(weight)
    }

    /// Returns the setting by which the user names paths.
    pub fn names_paths_by(&self) -> Setting {
        self.kind().names_paths_by()
    }

    /// Returns the weights, which are all equal if the policy has none. Paths that
    /// only a limit or a quota names are listed as well.
    pub fn weights(&self) -> Weights {
        let weights = self.limits.name_paths(self.kind().weights());
        self.quotas.name_paths(weights)
    }

    /// Returns the setting by which the user has named the path with this label.
    pub fn named_by(&self, label: &str) -> Setting {
        let weights = self.kind().weights();
        let mut named = weights.listed.iter().map(|one| &one.selector);
        match label.parse() {
            Ok(selector) if named.any(|one| *one == selector) => self.names_paths_by(),
            Ok(selector) if self.limits.names(&selector) => Shared::LIMITS,
            _ if self.quotas.of(label).is_some() => Shared::QUOTAS,
            _ => self.names_paths_by(),
        }
    }

    /// Returns the limits of paths.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the quotas of paths.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Returns the settings of copies, if the policy copies segments. Copies
    /// need an agent at the other end, too.
    pub fn copies(&self) -> Option<&Redundant> {
        self.kind().copies()
    }

    /// Returns what the policy needs of the host.
    fn needs(&self) -> Needs<'_> {
        let needs = self.kind().needs();
        let leaves_out = self.bounds().act().then_some(HoldsOut {
            what: "leaving a path out",
            instead: "give no path a bound",
        });
        let spends = self.quotas.hold_out().then_some(HoldsOut {
            what: "a quota that makes its path standby",
            instead: "give each quota action:warn",
        });
        Needs {
            holds_out: needs.holds_out.or(leaves_out).or(spends),
            ..needs
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        AnyKind::Default(Observe).into()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.kind(), self.limits, self.quotas)
    }
}

#[cfg(test)]
mod tests;
