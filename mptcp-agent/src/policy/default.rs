//! The default policy: observes, and lifts what an earlier agent may have left.

use std::fmt;

use mptcp_api::policy::{Invalid, Observe as Settings};

use super::kind::{Checked, Kind};

/// Observes only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observe;

impl Checked for Observe {
    type Settings = Settings;

    const SUMMARY: &'static str = "Observe only; lift what an earlier agent may have left";

    fn check(Settings {}: &Settings) -> Result<Self, Invalid> {
        Ok(Self)
    }

    fn settings(&self) -> Settings {
        Settings {}
    }
}

impl Kind for Observe {
    fn backend(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> u32 {
        0
    }
}

impl fmt::Display for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("default")
    }
}
