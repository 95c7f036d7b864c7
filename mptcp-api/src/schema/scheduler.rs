//! What the kernel's scheduler does with a path, in numbers.

use serde::{Deserialize, Serialize};

/// Totals of the scheduler's decisions on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathScheduler {
    /// Decisions that chose the path.
    pub chosen: u64,
    /// Decisions for the path that sent nothing, since its send queue was full.
    pub blocked: u64,
    /// How often one of its subflows took part in a choice.
    pub eligible: u64,
    /// How often one was passed over as a backup.
    pub backup: u64,
    /// How often one was passed over, since the kernel found it unable to carry
    /// data.
    pub stale: u64,
    /// How often one was passed over, since it was not established or closing.
    pub inactive: u64,
    /// How often one was passed over, since the agent holds it out.
    pub standby: u64,
}
