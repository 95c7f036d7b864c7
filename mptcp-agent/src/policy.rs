//! The policy: what the agent does with connections, checked as a whole.
//!
//! Each policy has a file. It says what its settings mean, what it needs of the
//! host, how the programs are told (capabilities and weights), and how it
//! describes itself. The only list of policies is that of `policies!` below;
//! everybody else asks [`Policy`], and never for its name.
//!
//! Pure but for [`provide`]: settings go in, a [`Policy`] or one clear error
//! comes out.

mod choice;
mod default;
mod key;
mod kind;
mod lasting;
mod provided;
mod rate;
mod redundant;
pub mod selector;
mod weighted;
mod weights;

use std::fmt;

use mptcp_api::policy::{Given, Invalid, PolicySettings as _, Settings};
use mptcp_common::abi::capability;

use default::Observe;
use kind::{Checked, Kind, Needs};

pub use choice::Choice;
pub use key::Key;
pub use lasting::lasting;
pub use provided::{Provided, provide};
pub use rate::Rate;
pub use redundant::Redundant;
pub use weighted::{Weighted, WeightedMode, WeightedScope};
pub use weights::{UNLISTED_WEIGHT, Weight, Weights};

/// Makes [`Policy`] of the list of policies.
macro_rules! policies {
    ($($(#[$doc:meta])* $variant:ident($kind:ty),)+) => {
        /// The policy: what the agent does with connections.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Policy {
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

            /// Checks the settings of the policy that was chosen.
            fn check(settings: &Settings) -> Result<Self, Invalid> {
                match settings {
                    $(Settings::$variant(settings) => {
                        <$kind>::check(settings).map(Self::$variant)
                    })+
                }
            }

            /// Returns the settings in full, without relying on defaults.
            pub fn settings(&self) -> Settings {
                match self {
                    $(Self::$variant(kind) => Settings::$variant(kind.settings()),)+
                }
            }

            fn kind(&self) -> &dyn Kind {
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
    /// Copy segments to other paths.
    Redundant(Redundant),
}

impl Policy {
    /// Returns the policy that the settings ask for.
    ///
    /// # Errors
    /// There is no such policy, a setting is that of another policy, or a value
    /// is wrong.
    pub fn new(given: Given) -> Result<Self, Invalid> {
        Self::check(&given.try_into()?)
    }

    /// Returns the policy's name, as in `--policy` and in metrics.
    pub fn name(&self) -> &'static str {
        self.settings().name()
    }

    /// Returns the settings in full, as they are sent to clients.
    pub fn given(&self) -> Given {
        self.settings().into()
    }

    /// Returns what the policy acts with, as named in metrics.
    pub fn backend(&self) -> &'static str {
        self.kind().backend()
    }

    /// Returns what the programs do with connections: bits of [`capability`].
    pub fn capabilities(&self) -> u32 {
        self.kind().capabilities()
    }

    /// Returns whether paths have shares, which the policy enforces with caps.
    pub fn caps(&self) -> bool {
        self.capabilities() & capability::CAPS != 0
    }

    /// Returns the weights, which are all equal if the policy has none.
    pub fn weights(&self) -> Weights {
        self.kind().weights()
    }

    /// Returns the settings of copies, if the policy copies segments. Copies
    /// need an agent at the other end, too.
    pub fn copies(&self) -> Option<&Redundant> {
        self.kind().copies()
    }

    /// Returns what the policy needs of the host.
    fn needs(&self) -> Needs<'_> {
        self.kind().needs()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Default(Observe)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())
    }
}

#[cfg(test)]
mod tests;
