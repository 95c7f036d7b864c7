//! Settings of the weighted policy.

use serde::{Deserialize, Serialize};

use super::{PolicySettings, Setting};

/// The settings of the weighted policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weighted {
    /// How strictly the weights hold: `strict` or `spill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_mode: Option<String>,
    /// The connections whose bytes follow the weights together: `host` or `connection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_scope: Option<String>,
    /// The treatment of connections that are too thin to be steered: `free` or
    /// `place`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thin: Option<String>,
    /// The weight of each path, as `SELECTOR=N`, N from 0 to 65535.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<String>,
}

impl Weighted {
    /// Names [`Weighted::weighted_mode`].
    pub const MODE: Setting = Setting("weighted_mode");

    /// Names [`Weighted::weighted_scope`].
    pub const SCOPE: Setting = Setting("weighted_scope");

    /// Names [`Weighted::thin`].
    pub const THIN: Setting = Setting("thin");

    /// Names [`Weighted::weights`].
    pub const WEIGHTS: Setting = Setting("weights");
}

impl PolicySettings for Weighted {
    fn name(&self) -> &'static str {
        "weighted"
    }

    fn leaves_out(&self) -> bool {
        true
    }

    fn values(&self) -> Vec<(Setting, Vec<String>)> {
        vec![
            (Self::MODE, self.weighted_mode.iter().cloned().collect()),
            (Self::SCOPE, self.weighted_scope.iter().cloned().collect()),
            (Self::THIN, self.thin.iter().cloned().collect()),
            (Self::WEIGHTS, self.weights.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::Weighted;
    use crate::policy::tests::check_names;

    #[test]
    fn every_field_is_a_setting_of_the_same_name() {
        check_names(&Weighted {
            weighted_mode: Some("spill".to_owned()),
            weighted_scope: Some("connection".to_owned()),
            thin: Some("free".to_owned()),
            weights: vec!["eth0=4".to_owned()],
        });
    }
}
