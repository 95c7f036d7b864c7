//! The aggregate policy: as much as the paths give together, without weights.
//!
//! So far the programs leave its connections to the kernel's scheduler, which
//! no measured limit of ours was better than: see docs/policies.md.

use std::fmt;

use mptcp_api::policy::{Aggregate as Settings, Invalid};

use super::kind::{Checked, Kind};

/// Uses all that the paths give together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate;

impl Checked for Aggregate {
    type Settings = Settings;

    const SUMMARY: &'static str = "As much as the paths give together; so far the kernel decides";

    fn check(Settings {}: &Settings) -> Result<Self, Invalid> {
        Ok(Self)
    }

    fn settings(&self) -> Settings {
        Settings {}
    }
}

impl Kind for Aggregate {
    fn backend(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> u32 {
        0
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aggregate")
    }
}
