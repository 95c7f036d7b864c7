//! The time zone of the host.

use jiff::tz::TimeZone;

/// Returns the time zone that `TZ` or /etc/localtime names, else UTC.
pub fn local() -> TimeZone {
    let zone = TimeZone::system();
    match zone.is_unknown() {
        true => TimeZone::UTC,
        false => zone,
    }
}

/// Names a time zone for people.
pub fn name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        // It was given by its rules, or by a file elsewhere.
        None => "of TZ or /etc/localtime".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_always_has_a_time_zone() {
        assert!(!local().is_unknown());
        assert_eq!(name(&TimeZone::UTC), "UTC");
        let rules = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3");
        assert!(rules.is_ok_and(|zone| name(&zone).contains("TZ")));
    }
}
