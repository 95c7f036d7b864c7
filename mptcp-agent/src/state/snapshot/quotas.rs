//! The data plans of paths, and the file that keeps what was used.

use std::path::PathBuf;

use crate::state::accounts::Standing;

/// All quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// In the user's order.
    pub standings: Vec<Standing>,
    /// The file.
    pub saving: Saving,
}

impl Quotas {
    /// Returns the quota of the path that has this label.
    pub fn of(&self, label: &str) -> Option<&Standing> {
        let mut standings = self.standings.iter();
        standings.find(|one| one.quota.selector.to_string() == label)
    }
}

/// The file that keeps what was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saving {
    /// Its path.
    pub file: PathBuf,
    /// Whether the last save has succeeded.
    pub saved: bool,
    /// Why it has not.
    pub failure: Option<String>,
    /// How many files the agent has set aside at its start, because it could not
    /// read them.
    pub set_aside: u32,
}
