//! The redundant policy: sends every segment on more than one path.

use std::fmt;
use std::path::PathBuf;

use mptcp_api::policy::{Invalid, Problem, Redundant as Settings, Setting};
use mptcp_common::abi::capability;
use mptcp_common::abi::redundant::{DEFAULT_PORT, MAX_COPIES};

use super::Rate;
use super::kind::{Checked, Kind, Needs};

/// The settings of the redundant policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redundant {
    /// How often each segment is sent, the original included: 2 to 4.
    pub copies: u32,
    /// UDP port, 1 to 65535.
    pub port: u16,
    /// File with the key that peers share.
    pub key: Option<PathBuf>,
    /// Bytes per second of copies on each path. `None`: copies yield to the
    /// path's own subflows.
    pub budget: Option<Rate>,
}

impl Default for Redundant {
    fn default() -> Self {
        Self {
            copies: 2,
            port: DEFAULT_PORT,
            key: None,
            budget: None,
        }
    }
}

/// Checks a number, if it was given.
fn check_range(
    setting: Setting,
    given: Option<u32>,
    (least, largest): (u32, u32),
) -> Result<(), Invalid> {
    match given {
        Some(given) if !(least..=largest).contains(&given) => Err(Invalid {
            setting,
            problem: Problem::OutOfRange {
                given,
                least,
                largest,
            },
        }),
        _ => Ok(()),
    }
}

impl Checked for Redundant {
    type Settings = Settings;

    const SUMMARY: &'static str =
        "Send every segment on more than one path; wants an agent at both ends";

    fn check(settings: &Settings) -> Result<Self, Invalid> {
        let Settings {
            redundant_copies,
            redundant_port,
            redundant_key,
            redundant_budget,
        } = settings;
        check_range(Settings::COPIES, *redundant_copies, (2, MAX_COPIES))?;
        let port = redundant_port.map(u32::from);
        check_range(Settings::PORT, port, (1, u16::MAX.into()))?;
        if let Some(key) = redundant_key
            && !key.is_absolute()
        {
            return Err(Invalid {
                setting: Settings::KEY,
                problem: Problem::Relative(key.clone()),
            });
        }
        let default = Self::default();
        let budget = redundant_budget.as_deref().map(str::parse).transpose();
        Ok(Self {
            copies: redundant_copies.unwrap_or(default.copies),
            port: redundant_port.unwrap_or(default.port),
            key: redundant_key.clone(),
            budget: budget.map_err(|why| Invalid {
                setting: Settings::BUDGET,
                problem: Problem::Unreadable(why),
            })?,
        })
    }

    fn settings(&self) -> Settings {
        // JSON text is always UTF-8.
        let key = self.key.as_ref().map(|key| key.to_string_lossy());
        Settings {
            redundant_copies: Some(self.copies),
            redundant_port: Some(self.port),
            redundant_key: key.map(|key| key.as_ref().into()),
            redundant_budget: self.budget.map(|budget| budget.to_string()),
        }
    }
}

impl Kind for Redundant {
    fn backend(&self) -> &'static str {
        "copies"
    }

    fn capabilities(&self) -> u32 {
        capability::COPIES
    }

    fn copies(&self) -> Option<&Redundant> {
        Some(self)
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            key_file: self.key.as_deref(),
            ..Needs::default()
        }
    }
}

impl fmt::Display for Redundant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redundant ({} copies)", self.copies)
    }
}
