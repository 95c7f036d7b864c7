//! Data plans, as the control socket and `quota --json` show them.

use serde::{Deserialize, Serialize};

/// The answer to `quota-show` and `quota-reset`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quotas {
    /// The paths that have a quota, in the user's order.
    pub quotas: Vec<NamedQuota>,
    /// The file that keeps what was used.
    pub file: String,
    /// Whether the last save has succeeded.
    pub saved: bool,
    /// Why it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_saved_because: Option<String>,
}

/// The quota of a path that is named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedQuota {
    /// The label of the path.
    pub path: String,
    /// Its quota.
    #[serde(flatten)]
    pub quota: PathQuota,
}

/// The quota of a path. Times are RFC 3339, UTC, in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathQuota {
    /// Bytes used in this period, of the direction that counts.
    pub used_bytes: u64,
    /// Bytes that may be used in a period.
    pub quota_bytes: u64,
    /// Whether that is spent.
    pub spent: bool,
    /// The period: `day`, `week` or `month`, and when it is reset, as in
    /// `--quota`.
    pub period: String,
    /// When this period began.
    pub since: String,
    /// When the next one begins.
    pub until: String,
    /// The traffic that counts: `device` or `connections`.
    pub count: String,
    /// The direction that counts: `both`, `tx` or `rx`.
    pub direction: String,
    /// The consequence when it is spent: `standby` or `warn`.
    pub action: String,
}
