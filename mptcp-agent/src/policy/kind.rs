//! The traits by which each policy describes itself, so that no other code
//! needs to know which policy it is.

use std::fmt;
use std::path::Path;

use mptcp_api::policy::{Invalid, PolicySettings, Setting, Weighted};

use super::{Bounds, Redundant, Weights};

/// A policy whose settings are checked.
pub trait Kind: fmt::Debug + fmt::Display {
    /// Returns what the policy acts with, as named in metrics.
    fn backend(&self) -> &'static str;

    /// Returns what the programs do with connections: bits of
    /// `abi::capability`.
    fn capabilities(&self) -> u32;

    /// Returns the weights, which are all equal if the policy has none.
    fn weights(&self) -> Weights {
        Weights::EQUAL
    }

    /// Returns the rank of a path that has this weight, 1 being the preferred
    /// one; `None` if the policy ranks no paths.
    fn rank(&self, _weight: u16) -> Option<u16> {
        None
    }

    /// Returns the setting by which the user names paths.
    fn names_paths_by(&self) -> Setting {
        Weighted::WEIGHTS
    }

    /// Returns the settings of copies, if the policy copies segments. Copies
    /// need an agent at the other end, too.
    fn copies(&self) -> Option<&Redundant> {
        None
    }

    /// Returns the bounds beyond which paths are left out.
    fn bounds(&self) -> &Bounds {
        static NONE: Bounds = Bounds::NONE;
        &NONE
    }

    /// Returns the same to be set; `None` if the policy cannot leave paths out.
    fn bounds_mut(&mut self) -> Option<&mut Bounds> {
        None
    }

    /// Returns what the policy needs of the host.
    fn needs(&self) -> Needs<'_> {
        Needs::default()
    }
}

/// A policy that is made of its settings.
pub trait Checked: Kind + Sized {
    /// Its settings, as users give them.
    type Settings: PolicySettings + Default;

    /// Describes the policy in one line, for a help text.
    const SUMMARY: &'static str;

    /// Checks the settings, and takes defaults for those that were not given.
    ///
    /// # Errors
    /// A value makes no sense, or values do not go together.
    fn check(settings: &Self::Settings) -> Result<Self, Invalid>;

    /// Returns the settings in full, without relying on defaults.
    fn settings(&self) -> Self::Settings;
}

/// The demands of a policy on the host, which may take long to meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs<'a> {
    /// A file with a key.
    pub key_file: Option<&'a Path>,
    /// The kernel's means of bringing back a path that was held out.
    pub holds_out: Option<HoldsOut>,
}

/// Says in an error why paths are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldsOut {
    /// The part of the policy that asks for it.
    pub what: &'static str,
    /// The advice for the user.
    pub instead: &'static str,
}
