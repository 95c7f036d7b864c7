//! The aggregate policy: as much as the paths give together, without weights.
//!
//! So far the programs leave its connections to the kernel's scheduler, which
//! no measured limit of ours was better than: see docs/policies.md. If paths
//! have bounds, the programs rank them: all are of one rank, and nothing is held
//! out but a path that is left out, whose weight is 0.

use std::fmt;

use mptcp_api::policy::{Aggregate as Settings, Invalid};
use mptcp_common::abi::capability;

use super::Bounds;
use super::kind::{Checked, Kind};

/// Uses all that the paths give together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// The bounds beyond which paths are left out.
    bounds: Bounds,
}

impl Checked for Aggregate {
    type Settings = Settings;

    const SUMMARY: &'static str = "As much as the paths give together; so far the kernel decides";

    fn check(Settings {}: &Settings) -> Result<Self, Invalid> {
        Ok(Self::default())
    }

    fn settings(&self) -> Settings {
        Settings {}
    }
}

impl Kind for Aggregate {
    fn backend(&self) -> &'static str {
        if self.bounds.act() { "pacing" } else { "none" }
    }

    fn capabilities(&self) -> u32 {
        if self.bounds.act() {
            capability::OVERFLOWS
        } else {
            0
        }
    }

    fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn bounds_mut(&mut self) -> Option<&mut Bounds> {
        Some(&mut self.bounds)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aggregate")
    }
}
