//! Formats numbers for people.

/// Formats a number of bytes: `512`, `1.50k`, `12.3M`. 1k is 1000 bytes.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, "")
}

/// Formats bytes per second as a bit rate: `40.0 Mbit/s`.
pub fn rate(bytes_per_second: f64) -> String {
    let bits = bytes_per_second * 8.0;
    if bits < 1.0 {
        return "0".to_owned();
    }
    for (unit, name) in [(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")] {
        if bits >= unit {
            return format!("{} {name}", three_digits(bits / unit));
        }
    }
    format!("{bits:.0} bit/s")
}

/// Formats seconds as milliseconds: `0.213 ms`, `30.5 ms`.
pub fn milliseconds(seconds: f64) -> String {
    format!("{} ms", three_digits(seconds * 1e3))
}

/// Formats a fraction of 1 as a percentage: `80.0%`.
pub fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// Formats whole seconds in the two largest units: `2h 5m`, `9m 50s`.
pub fn duration(seconds: f64) -> String {
    // Negative values and NaN become 0.
    let mut left = seconds as u64;
    let mut parts = Vec::new();
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")] {
        if left >= unit || (unit == 1 && parts.is_empty()) {
            parts.push(format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

fn scaled(value: f64, unit: &str) -> String {
    for (factor, prefix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= factor {
            return format!("{}{prefix}{unit}", three_digits(value / factor));
        }
    }
    format!("{value:.0}{unit}")
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        for (shown, expected) in [
            (bytes(0), "0"),
            (bytes(999), "999"),
            (bytes(1_500), "1.50k"),
            (bytes(12_345_678), "12.3M"),
            (bytes(u64::MAX), "18446744T"),
            (rate(0.0), "0"),
            (rate(5_000_000.0), "40.0 Mbit/s"),
            (rate(125.0), "1.00 kbit/s"),
            (rate(10.0), "80 bit/s"),
            (rate(1.25e9), "10.0 Gbit/s"),
            (milliseconds(0.000_213), "0.213 ms"),
            (milliseconds(0.0305), "30.5 ms"),
            (percent(0.8), "80.0%"),
            (duration(0.4), "0s"),
            (duration(590.0), "9m 50s"),
            (duration(7_530.0), "2h 5m"),
            (duration(86_400.0), "1d"),
            (duration(-1.0), "0s"),
            (duration(f64::NAN), "0s"),
        ] {
            assert_eq!(shown, expected);
        }
    }
}
