//! Settings of the overflow policy.

use serde::{Deserialize, Serialize};

use super::{PolicySettings, Setting};

/// The settings of the overflow policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overflow {
    /// The selectors of the paths, the preferred one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
}

impl Overflow {
    /// Names [`Overflow::prefer`].
    pub const PREFER: Setting = Setting("prefer");
}

impl PolicySettings for Overflow {
    fn name(&self) -> &'static str {
        "overflow"
    }

    fn leaves_out(&self) -> bool {
        true
    }

    fn values(&self) -> Vec<(Setting, Vec<String>)> {
        vec![(Self::PREFER, self.prefer.clone())]
    }
}

#[cfg(test)]
mod tests {
    use super::Overflow;
    use crate::policy::tests::check_names;

    #[test]
    fn every_field_is_a_setting_of_the_same_name() {
        check_names(&Overflow {
            prefer: vec!["eth0".to_owned()],
        });
    }
}
