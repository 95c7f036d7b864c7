//! Amounts of data, as users write them: `50GB` (decimal), `20GiB` (binary).

use std::fmt;
use std::str::FromStr;

use crate::policy::decimal;

/// The least quota. The agent reads counters once a second, so less would be
/// spent before it is seen.
const LEAST: u64 = 1_000_000;

/// The largest quota, 1000 TB.
const LARGEST: u64 = 1_000_000_000_000_000;

/// The units, the largest one first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// An amount of data in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(u64);

impl Amount {
    /// Returns the amount in bytes, from 1,000,000 to 10^15.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Amount {
    type Err = String;

    /// Reads a number, which may have a point, and its unit. The case of the unit
    /// matters, because `Gb` means gigabit to most people.
    ///
    /// # Errors
    /// One line that says what is expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = read(text).filter(|bytes| (LEAST..=LARGEST).contains(bytes));
        bytes.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no amount of data: expected a number of MB, GB or TB (decimal), or \
                 of MiB, GiB or TiB (binary), from 1MB to 1000TB, as in 50GB or 1.5TB"
            )
        })
    }
}

/// Reads an amount of any size, in bytes.
fn read(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (digits, unit) = text.split_at(end);
    let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    decimal::times(digits, unit, 6)
}

impl fmt::Display for Amount {
    /// Writes the amount in the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &(&str, u64)| self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.into_iter().find(fits).unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gb_is_decimal_and_gib_is_binary() {
        for (text, bytes, canonical) in [
            ("50GB", 50_000_000_000, "50GB"),
            ("50GiB", 53_687_091_200, "50GiB"),
            ("1.5TB", 1_500_000_000_000, "1500GB"),
            ("0.5GiB", 536_870_912, "512MiB"),
            ("1MB", 1_000_000, "1MB"),
            ("1MiB", 1_048_576, "1MiB"),
            ("1000TB", LARGEST, "1000TB"),
            ("1024GiB", 1 << 40, "1TiB"),
            ("1500kB", 1_500_000, "1500kB"),
            ("1234567B", 1_234_567, "1234567B"),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.bytes(), bytes, "{text}");
            assert_eq!(amount.to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_amount_is_told_in_one_line() {
        for text in [
            "",
            "50",
            "GB",
            "50gb",
            "50Gb",
            "50G",
            "50 GB",
            "-1GB",
            "+1GB",
            ".5GB",
            "5.GB",
            "1.2.3GB",
            "0GB",
            "999kB",
            "1000.000001TB",
            "99999999999999999999GB",
            "1e3GB",
            "1.0000001GB",
            "nanGB",
        ] {
            let error = text.parse::<Amount>().unwrap_err();
            assert!(error.contains(&format!("`{text}` is no amount")), "{error}");
            assert!(!error.contains('\n'));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(bytes in LEAST..=LARGEST) {
            let text = Amount(bytes).to_string();
            prop_assert_eq!(text.parse::<Amount>(), Ok(Amount(bytes)));
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,16}") {
            let _ = text.parse::<Amount>();
        }
    }
}
