//! The settings of the redundant policy, as the user gives them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use mptcp_common::abi::redundant::DEFAULT_PORT;
use mptcp_common::bucket;

/// How often each segment is sent by default, the original included.
const DEFAULT_COPIES: u32 = 2;

/// The least budget, in bytes per second. With less, no full-size segment would
/// be copied for seconds.
const LEAST_BUDGET: u64 = 1_000;

/// The largest budget, in bytes per second: 34 Gbit/s. The programs' token
/// bucket multiplies in 64 bits, so a rate has to stay below 2^32.
const LARGEST_BUDGET: u64 = 4_250_000_000;

const _: () = assert!(LARGEST_BUDGET <= bucket::LARGEST_RATE);

/// The settings of the redundant policy, as given; `None`: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedundantGiven {
    /// See [`Redundant::copies`].
    pub copies: Option<u32>,
    /// See [`Redundant::port`].
    pub port: Option<u16>,
    /// See [`Redundant::key`].
    pub key: Option<PathBuf>,
    /// See [`Redundant::budget`].
    pub budget: Option<Rate>,
}

impl RedundantGiven {
    /// Returns the argument of the first setting that was given, if any was.
    pub fn given(&self) -> Option<&'static str> {
        [
            ("--redundant-copies", self.copies.is_some()),
            ("--redundant-port", self.port.is_some()),
            ("--redundant-key", self.key.is_some()),
            ("--redundant-budget", self.budget.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

/// A rate of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From 1,000 to 4,250,000,000.
    pub bytes_per_sec: u64,
}

impl FromStr for Rate {
    type Err = String;

    /// Reads a whole number and its unit. Without a unit, it is bit/s. A kbit
    /// is 1000 bit.
    ///
    /// # Errors
    /// One line that says what is expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a rate: expected a whole number of bit/s with or without kbit, \
                 mbit or gbit, from 8kbit to 34gbit"
            )
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "bit" => 1,
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        let bits: Option<u64> = digits.parse().ok();
        bits.and_then(|number| number.checked_mul(unit))
            .map(|bits| bits / 8)
            .filter(|bytes| (LEAST_BUDGET..=LARGEST_BUDGET).contains(bytes))
            .map(|bytes_per_sec| Self { bytes_per_sec })
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    /// Writes the rate in the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bytes_per_sec * 8;
        let units = [
            (1_000_000_000, "gbit"),
            (1_000_000, "mbit"),
            (1_000, "kbit"),
        ];
        match units
            .into_iter()
            .find(|(unit, _)| bits.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", bits / unit),
            None => write!(f, "{bits}bit"),
        }
    }
}

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

impl Redundant {
    /// Takes the settings, and defaults for those that were not given.
    pub fn new(given: &RedundantGiven) -> Self {
        Self {
            copies: given.copies.unwrap_or(DEFAULT_COPIES),
            port: given.port.unwrap_or(DEFAULT_PORT),
            key: given.key.clone(),
            budget: given.budget,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("40mbit", 5_000_000),
            ("500kbit", 62_500),
            ("1gbit", 125_000_000),
            ("8000", 1_000),
            ("8009bit", 1_001),
            ("40Mbit", 5_000_000),
            ("34gbit", LARGEST_BUDGET),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.bytes_per_sec, bytes, "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate), "{text}");
        }
        for text in [
            "",
            "mbit",
            "0",
            "7999",
            "1.5mbit",
            "-1mbit",
            "+8000",
            "40 mbit",
            "40mb",
            "40mbps",
            "34000000008",
            "35gbit",
            "1000gbit",
            "99999999999999999999",
            "18446744073709551615gbit",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("8kbit to 34gbit"), "{text}: {error}");
        }
    }

    #[test]
    fn a_rate_is_shown_in_its_largest_unit() {
        for (text, shown) in [
            ("40000kbit", "40mbit"),
            ("1500mbit", "1500mbit"),
            ("1000mbit", "1gbit"),
            ("8000", "8kbit"),
            ("8008", "8008bit"),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn defaults_and_which_argument_was_given() {
        let none = RedundantGiven::default();
        assert_eq!(none.given(), None);
        let settings = Redundant::new(&none);
        assert_eq!((settings.copies, settings.port), (2, DEFAULT_PORT));
        assert_eq!((settings.key, settings.budget), (None, None));
        let given = RedundantGiven {
            key: Some("/etc/key".into()),
            ..none.clone()
        };
        assert_eq!(given.given(), Some("--redundant-key"));
        let given = RedundantGiven {
            budget: Some("1mbit".parse().unwrap()),
            ..none
        };
        assert_eq!(given.given(), Some("--redundant-budget"));
    }
}
