//! Bounds beyond which a path is left out, which several policies have.

use serde::{Deserialize, Serialize};

use super::Setting;

/// The bounds of paths. They are settings beside those of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaveOut {
    /// The bounds of each path, as `SELECTOR=loss:5%,rtt:300ms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
}

impl LeaveOut {
    /// Names [`LeaveOut::leave_out`].
    pub const BOUNDS: Setting = Setting("leave_out");

    /// The policies that have this setting, as an error names them.
    pub const OF: &str = "weighted, overflow or aggregate";

    /// Returns the setting, and the texts of its values.
    pub(super) fn values(&self) -> (Setting, Vec<String>) {
        (Self::BOUNDS, self.leave_out.clone())
    }
}
