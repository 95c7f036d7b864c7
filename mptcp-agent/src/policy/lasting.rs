//! How long a policy may last.

use std::time::Duration;

/// The longest time that a policy may be set for, in seconds: a year.
const LONGEST: u64 = 365 * 24 * 60 * 60;

/// Returns the time after which the previous policy comes back.
///
/// # Errors
/// The time is 0, or longer than a year.
pub fn lasting(seconds: Option<u64>) -> Result<Option<Duration>, String> {
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=LONGEST) => Ok(Some(Duration::from_secs(seconds))),
        Some(seconds) => Err(format!(
            "{seconds} seconds is no time for a policy to last: expected 1 to {LONGEST} (a year)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_lasts_from_a_second_to_a_year() {
        assert_eq!(lasting(None), Ok(None));
        assert_eq!(lasting(Some(1)), Ok(Some(Duration::from_secs(1))));
        assert!(lasting(Some(LONGEST)).is_ok());
        assert!(lasting(Some(0)).is_err());
        assert!(lasting(Some(u64::MAX)).is_err());
    }
}
