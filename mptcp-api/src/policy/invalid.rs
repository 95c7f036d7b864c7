//! Mistakes in settings.

use std::path::PathBuf;

use super::Setting;

/// A setting that cannot be, and why. The text is made by whoever shows it,
/// since only they know what the user calls the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting.
    pub setting: Setting,
    /// Why it cannot be.
    pub problem: Problem,
}

/// Why a setting cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value is none of the names that there are.
    NotOneOf {
        /// The value.
        given: String,
        /// The names.
        expected: Vec<&'static str>,
    },
    /// The number is too small or too large.
    OutOfRange {
        /// The number.
        given: u32,
        /// The least number that can be.
        least: u32,
        /// The largest number that can be.
        largest: u32,
    },
    /// The value cannot be read; the text quotes it and says what is expected.
    Unreadable(String),
    /// The path is not absolute.
    Relative(PathBuf),
    /// Two values of the setting are about the same path, which is this one.
    SamePath(String),
    /// The setting names this path more than once.
    Twice(String),
    /// The policy cannot do without the setting, which was not given; the text
    /// says what is expected.
    Missing(&'static str),
    /// The setting as a whole makes no sense; the text says why without naming
    /// it.
    Senseless(String),
    /// The setting is that of another policy.
    NoEffect {
        /// The policy that was chosen, in words.
        under: &'static str,
        /// The policy that has the setting.
        of: &'static str,
    },
}

impl Invalid {
    /// Says in one line what is wrong. `name` returns what the user calls a
    /// setting.
    pub fn describe(&self, name: impl FnOnce(Setting) -> String) -> String {
        let name = name(self.setting);
        match &self.problem {
            Problem::NotOneOf { given, expected } => {
                let expected = expected.join(", ");
                format!("{name} is `{given}`: expected one of {expected}")
            }
            Problem::OutOfRange {
                given,
                least,
                largest,
            } => format!("{name} is {given}: expected {least} to {largest}"),
            Problem::Unreadable(why) => format!("{name}: {why}"),
            Problem::Relative(path) => format!(
                "{name} {} is relative: expected an absolute path",
                path.display()
            ),
            Problem::SamePath(path) => {
                format!("two {name} name the same path, `{path}`: give each path one weight")
            }
            Problem::Twice(path) => {
                format!("{name} names the path `{path}` more than once: name each path once")
            }
            Problem::Missing(expected) => format!("{name} is missing: expected {expected}"),
            Problem::Senseless(why) => why.clone(),
            Problem::NoEffect { under, of } => format!(
                "{name} has no effect under policy {under}: choose policy {of}, or leave {name} \
                 out"
            ),
        }
    }

    /// Says in one line what is wrong, to whoever gave the settings as JSON.
    pub fn in_fields(&self) -> String {
        self.describe(|setting| format!("`{}`", setting.field()))
    }
}
