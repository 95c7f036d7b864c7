//! The choices of the kernel's packet scheduler, and the candidates that it had.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The choices, path by path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Whether choices can be seen: the program on the scheduler's tracepoint is
    /// attached.
    pub observed: bool,
    /// The paths that the user named, and those that have ever been used and still
    /// exist.
    pub paths: Vec<PathChoices>,
}

/// The choices about one path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathChoices {
    /// Its label.
    pub path: String,
    /// Since the agent, or the first of those that handed over to it, was started.
    pub total: Choices,
    /// During the last 10 seconds.
    pub recent: Choices,
}

/// Numbers of choices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// Decisions that chose the path.
    pub decisions: u64,
    /// Decisions for the path that sent nothing, since its send queue was full.
    pub blocked: u64,
    /// Subflows of the path that decisions looked at, by state: `eligible` took part in
    /// the choice; `backup`, `stale`, `inactive` and `standby` were passed over for
    /// that reason.
    pub candidates: BTreeMap<String, u64>,
}
