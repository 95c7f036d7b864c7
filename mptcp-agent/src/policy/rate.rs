//! Rates, as users write them.

use std::fmt;
use std::str::FromStr;

use mptcp_common::bucket;

use super::decimal;

/// The least rate, in bytes per second. With less, no full-size segment would
/// be copied for seconds.
const LEAST: u64 = 1_000;

/// The largest rate, in bytes per second: 34 Gbit/s. The programs' token bucket
/// multiplies in 64 bits, so a rate has to stay below 2^32.
const LARGEST: u64 = 4_250_000_000;

const _: () = assert!(LARGEST <= bucket::LARGEST_RATE);

/// The least limit of a path, in bytes per second. A subflow is never paced
/// slower than a third of this.
const LEAST_LIMIT: u64 = 12_500;

/// A rate of copies, or the limit of a path.
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
        let (digits, unit) = split(text).ok_or_else(wrong)?;
        let bits: Option<u64> = digits.parse().ok();
        bits.and_then(|number| number.checked_mul(unit))
            .and_then(|bits| Self::of_bits(bits, LEAST))
            .ok_or_else(wrong)
    }
}

impl Rate {
    /// Reads the limit of a path: a number, which may have a point, and its unit.
    ///
    /// # Errors
    /// One line that says what is expected.
    pub fn limit(text: &str) -> Result<Self, String> {
        limit_bits(text)
            .and_then(|bits| Self::of_bits(bits, LEAST_LIMIT))
            .ok_or_else(|| {
                format!(
                    "`{text}` is not a limit: expected a number of bit/s with or without kbit, \
                     mbit or gbit, from 100kbit to 34gbit, as in 20mbit or 2.5mbit; or `none`"
                )
            })
    }

    fn of_bits(bits: u64, least: u64) -> Option<Self> {
        let bytes_per_sec = bits / 8;
        (least..=LARGEST)
            .contains(&bytes_per_sec)
            .then_some(Self { bytes_per_sec })
    }
}

/// Splits a rate into its number and the bit/s of its unit.
fn split(text: &str) -> Option<(&str, u64)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return None,
    };
    Some((digits, unit))
}

/// Reads a rate whose number may have a point; returns bit/s.
fn limit_bits(text: &str) -> Option<u64> {
    let (digits, unit) = split(text)?;
    // Nine digits are those of a gbit.
    decimal::times(digits, unit, 9)
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
            ("34gbit", LARGEST),
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
    fn a_limit_may_have_a_point() {
        for (text, bytes, shown) in [
            ("20mbit", 2_500_000, "20mbit"),
            ("2.5mbit", 312_500, "2500kbit"),
            ("0.1MBIT", 12_500, "100kbit"),
            ("500kbit", 62_500, "500kbit"),
            ("100000", 12_500, "100kbit"),
            ("1.000000008gbit", 125_000_001, "1000000008bit"),
            ("34gbit", LARGEST, "34gbit"),
        ] {
            let limit = Rate::limit(text).unwrap();
            assert_eq!(limit.bytes_per_sec, bytes, "{text}");
            assert_eq!(limit.to_string(), shown);
            assert_eq!(Rate::limit(shown), Ok(limit), "{text}");
        }
        for text in [
            "",
            "mbit",
            ".5mbit",
            "5.mbit",
            "2.5.1mbit",
            "-1mbit",
            "+1mbit",
            "1.+5mbit",
            "2,5mbit",
            "99kbit",
            "34.1gbit",
            "1.0000000001gbit",
            "99999999999999999999mbit",
            "18446744073709551615gbit",
            "None",
        ] {
            let error = Rate::limit(text).unwrap_err();
            assert!(error.contains("100kbit to 34gbit"), "{text}: {error}");
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
}
