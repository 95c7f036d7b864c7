//! The default policy. It has no settings.

use serde::{Deserialize, Serialize};

use super::PolicySettings;

/// The settings of the default policy, of which there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observe {}

impl PolicySettings for Observe {
    fn name(&self) -> &'static str {
        "default"
    }

    fn in_words(&self) -> &'static str {
        "default, which only observes"
    }
}
