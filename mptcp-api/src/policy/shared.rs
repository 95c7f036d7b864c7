//! Settings that every policy has.

use serde::{Deserialize, Serialize};

use super::Setting;

/// The settings that hold under every policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// The limit of each path, as `SELECTOR=RATE`, or `SELECTOR=none`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// The data plan of each path that has one, as `SELECTOR=50GB/month,reset:15`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<String>,
}

impl Shared {
    /// Names [`Shared::limits`].
    pub const LIMITS: Setting = Setting("limits");

    /// Names [`Shared::quotas`].
    pub const QUOTAS: Setting = Setting("quotas");

    /// Returns every setting, and the texts of its values.
    pub fn values(&self) -> Vec<(Setting, Vec<String>)> {
        vec![
            (Self::LIMITS, self.limits.clone()),
            (Self::QUOTAS, self.quotas.clone()),
        ]
    }
}
