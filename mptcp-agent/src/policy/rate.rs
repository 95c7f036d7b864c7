//! Rates, as users write them.

use std::fmt;
use std::str::FromStr;

use mptcp_common::bucket;

/// The least rate, in bytes per second. With less, no full-size segment would
/// be copied for seconds.
const LEAST: u64 = 1_000;

/// The largest rate, in bytes per second: 34 Gbit/s. The programs' token bucket
/// multiplies in 64 bits, so a rate has to stay below 2^32.
const LARGEST: u64 = 4_250_000_000;

const _: () = assert!(LARGEST <= bucket::LARGEST_RATE);

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
            .filter(|bytes| (LEAST..=LARGEST).contains(bytes))
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
