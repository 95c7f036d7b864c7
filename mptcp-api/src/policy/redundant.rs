//! Settings of the redundant policy.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{PolicySettings, Setting};

/// The settings of the redundant policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Redundant {
    /// How often each segment is sent, the original included: 2 to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_copies: Option<u32>,
    /// UDP port of copies and hellos, 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_port: Option<u16>,
    /// The absolute path of the file that holds the key, on the agent's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_key: Option<PathBuf>,
    /// The rate that copies may take of each path, such as `40mbit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundant_budget: Option<String>,
}

impl Redundant {
    /// Names [`Redundant::redundant_copies`].
    pub const COPIES: Setting = Setting("redundant_copies");

    /// Names [`Redundant::redundant_port`].
    pub const PORT: Setting = Setting("redundant_port");

    /// Names [`Redundant::redundant_key`].
    pub const KEY: Setting = Setting("redundant_key");

    /// Names [`Redundant::redundant_budget`].
    pub const BUDGET: Setting = Setting("redundant_budget");
}

impl PolicySettings for Redundant {
    fn name(&self) -> &'static str {
        "redundant"
    }

    fn values(&self) -> Vec<(Setting, Vec<String>)> {
        fn texts<T>(value: Option<&T>, text: impl Fn(&T) -> String) -> Vec<String> {
            value.map(text).into_iter().collect()
        }
        vec![
            (
                Self::COPIES,
                texts(self.redundant_copies.as_ref(), u32::to_string),
            ),
            (
                Self::PORT,
                texts(self.redundant_port.as_ref(), u16::to_string),
            ),
            (
                Self::KEY,
                texts(self.redundant_key.as_ref(), |key| key.display().to_string()),
            ),
            (
                Self::BUDGET,
                texts(self.redundant_budget.as_ref(), String::clone),
            ),
        ]
    }

    fn names_a_file(&self) -> bool {
        self.redundant_key.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Redundant;
    use crate::policy::tests::check_names;

    #[test]
    fn every_field_is_a_setting_of_the_same_name() {
        check_names(&Redundant {
            redundant_copies: Some(3),
            redundant_port: Some(9000),
            redundant_key: Some("/etc/key".into()),
            redundant_budget: Some("1mbit".to_owned()),
        });
    }
}
