//! Settings that take one of a few named values.

use mptcp_api::policy::{Invalid, Problem, Setting};

/// A setting with a few named values.
pub trait Choice: Copy + Eq + Send + Sync + 'static {
    /// Every value, in the order in which it is shown.
    const ALL: &'static [Self];

    /// Returns the value's name, as the user writes it.
    fn name(self) -> &'static str;

    /// Describes the value in one line, for a help text.
    fn summary(self) -> &'static str;

    /// Returns the value of this name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name)
    }
}

/// Returns the value of the name that was given.
///
/// # Errors
/// There is no such value.
pub fn read<T: Choice>(setting: Setting, name: &str) -> Result<T, Invalid> {
    T::named(name).ok_or_else(|| Invalid {
        setting,
        problem: Problem::NotOneOf {
            given: name.to_owned(),
            expected: T::ALL.iter().map(|value| value.name()).collect(),
        },
    })
}
