//! The aggregate policy. It has no settings.

use serde::{Deserialize, Serialize};

use super::PolicySettings;

/// The settings of the aggregate policy, of which there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {}

impl PolicySettings for Aggregate {
    fn name(&self) -> &'static str {
        "aggregate"
    }

    fn leaves_out(&self) -> bool {
        true
    }
}
