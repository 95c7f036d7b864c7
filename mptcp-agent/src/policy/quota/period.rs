//! The periods of data plans: a day, a week or a month of the local time zone.
//!
//! Periods begin at midnight of the time zone of the host (`TZ`, else
//! /etc/localtime, else UTC), because providers bill by the local calendar. Where
//! a clock change skips midnight, the day begins with its first moment.
//!
//! Pure: the time and the time zone are arguments.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// The days, from Monday on, as users write them.
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// The last day of a month that every month has.
const LAST_DAY: i8 = 28;

/// How often a quota is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// At midnight.
    Day,
    /// At the beginning of this day of the week.
    Week(Weekday),
    /// At the beginning of this day of the month, 1 to 28.
    Month(i8),
}

/// One period, in seconds since 1970 (UTC). Its end belongs to the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first second.
    pub start: i64,
    /// The first second of the next period.
    pub end: i64,
}

impl Span {
    /// Returns whether the time, in seconds since 1970, is in this period.
    pub fn contains(&self, second: i64) -> bool {
        (self.start..self.end).contains(&second)
    }
}

impl Every {
    /// Reads `day`, `week` or `month`. A week begins on Monday, and a month on
    /// its first day, unless [`Every::reset_at`] says otherwise.
    pub(super) fn named(text: &str) -> Option<Self> {
        match text {
            "day" => Some(Self::Day),
            "week" => Some(Self::Week(Weekday::Monday)),
            "month" => Some(Self::Month(1)),
            _ => None,
        }
    }

    /// Returns the same kind of period with another beginning.
    ///
    /// # Errors
    /// One line: it is no day of such a period.
    pub(super) fn reset_at(self, day: &str) -> Result<Self, String> {
        match self {
            Self::Day => Err(format!(
                "`reset:{day}` has no meaning for a day, which begins at midnight: leave it out"
            )),
            Self::Week(_) => {
                let found = WEEKDAYS.into_iter().find(|(name, _)| *name == day);
                found.map(|(_, day)| Self::Week(day)).ok_or_else(|| {
                    format!(
                        "`reset:{day}` is no day of a week: expected monday, tuesday, wednesday, \
                         thursday, friday, saturday or sunday"
                    )
                })
            }
            Self::Month(_) => {
                let plain = day.bytes().all(|byte| byte.is_ascii_digit());
                let number = plain.then(|| day.parse().ok()).flatten();
                let number = number.filter(|day| (1..=LAST_DAY).contains(day));
                number.map(Self::Month).ok_or_else(|| {
                    format!(
                        "`reset:{day}` is no day that every month has: expected 1 to {LAST_DAY}"
                    )
                })
            }
        }
    }

    /// Returns the name of the kind of period.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week(_) => "week",
            Self::Month(_) => "month",
        }
    }

    /// Returns the period that contains `now`.
    pub fn span(self, now: Timestamp, zone: &TimeZone) -> Span {
        let second = now.as_second();
        self.try_span(now, zone)
            .filter(|span| span.contains(second))
            // The calendar ends with the year 9999.
            .unwrap_or(Span {
                start: second,
                end: i64::MAX,
            })
    }

    fn try_span(self, now: Timestamp, zone: &TimeZone) -> Option<Span> {
        let today = zone.to_datetime(now).date();
        let (first, next) = match self {
            Self::Day => (today, today.tomorrow().ok()?),
            Self::Week(day) => {
                let first = today.checked_sub(today.weekday().since(day).days()).ok()?;
                (first, first.checked_add(7.days()).ok()?)
            }
            Self::Month(day) => {
                let this = Date::new(today.year(), today.month(), day).ok()?;
                let first = match today >= this {
                    true => this,
                    false => this.checked_sub(1.month()).ok()?,
                };
                (first, first.checked_add(1.month()).ok()?)
            }
        };
        // Without a midnight on this date, this is the first moment after it.
        let begins = |date: Date| zone.to_timestamp(date.at(0, 0, 0, 0)).ok();
        Some(Span {
            start: begins(first)?.as_second(),
            end: begins(next)?.as_second(),
        })
    }
}

impl fmt::Display for Every {
    /// Writes `month,reset:15`, and the reset only if it is not the usual one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Day | Self::Week(Weekday::Monday) | Self::Month(1) => Ok(()),
            Self::Week(day) => {
                let found = WEEKDAYS.iter().find(|(_, other)| other == day);
                write!(f, ",reset:{}", found.map_or("monday", |(name, _)| name))
            }
            Self::Month(day) => write!(f, ",reset:{day}"),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    /// Reads what [`Every`] is shown as.
    ///
    /// # Errors
    /// One line that says what is wrong.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, reset) = match text.split_once(",reset:") {
            Some((kind, reset)) => (kind, Some(reset)),
            None => (text, None),
        };
        let every = Self::named(kind)
            .ok_or_else(|| format!("`{kind}` is no period: expected day, week or month"))?;
        reset.map_or(Ok(every), |day| every.reset_at(day))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    /// Its clocks went forward at midnight.
    const SANTIAGO: &str = "<-04>4<-03>,M9.1.6/24,M4.1.6/24";

    fn zone(posix: &str) -> TimeZone {
        TimeZone::posix(posix).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Returns the period around `now`, in UTC.
    fn span(every: &str, now: &str, zone: &TimeZone) -> (String, String) {
        let span = every.parse::<Every>().unwrap().span(at(now), zone);
        let text = |second| Timestamp::from_second(second).unwrap().to_string();
        (text(span.start), text(span.end))
    }

    #[test]
    fn periods_begin_at_midnight() {
        let utc = TimeZone::UTC;
        for (every, now, start, end) in [
            ("day", "2026-11-27T18:00:00Z", "2026-11-27", "2026-11-28"),
            ("day", "2026-12-31T23:59:59.9Z", "2026-12-31", "2027-01-01"),
            ("day", "2027-01-01T00:00:00Z", "2027-01-01", "2027-01-02"),
            // A Friday.
            ("week", "2026-11-27T18:00:00Z", "2026-11-23", "2026-11-30"),
            (
                "week,reset:friday",
                "2026-11-27T00:00:00Z",
                "2026-11-27",
                "2026-12-04",
            ),
            (
                "week,reset:saturday",
                "2026-11-27T23:59:59Z",
                "2026-11-21",
                "2026-11-28",
            ),
            (
                "week,reset:sunday",
                "2027-01-01T01:00:00Z",
                "2026-12-27",
                "2027-01-03",
            ),
            ("month", "2026-11-27T18:00:00Z", "2026-11-01", "2026-12-01"),
            ("month", "2026-12-01T00:00:00Z", "2026-12-01", "2027-01-01"),
            (
                "month,reset:15",
                "2026-11-14T23:59:59Z",
                "2026-10-15",
                "2026-11-15",
            ),
            (
                "month,reset:15",
                "2026-11-15T00:00:00Z",
                "2026-11-15",
                "2026-12-15",
            ),
            (
                "month,reset:15",
                "2027-01-03T00:00:00Z",
                "2026-12-15",
                "2027-01-15",
            ),
            // The ends of months, and leap years.
            (
                "month,reset:28",
                "2026-03-01T00:00:00Z",
                "2026-02-28",
                "2026-03-28",
            ),
            (
                "month,reset:28",
                "2026-02-27T00:00:00Z",
                "2026-01-28",
                "2026-02-28",
            ),
            (
                "month,reset:28",
                "2028-02-29T12:00:00Z",
                "2028-02-28",
                "2028-03-28",
            ),
            ("month", "2028-02-29T12:00:00Z", "2028-02-01", "2028-03-01"),
            ("month", "2026-01-31T12:00:00Z", "2026-01-01", "2026-02-01"),
            ("day", "2028-02-28T12:00:00Z", "2028-02-28", "2028-02-29"),
            ("day", "2100-02-28T12:00:00Z", "2100-02-28", "2100-03-01"),
            ("week", "2028-02-29T12:00:00Z", "2028-02-28", "2028-03-06"),
        ] {
            let midnight = |date: &str| format!("{date}T00:00:00Z");
            let expected = (midnight(start), midnight(end));
            assert_eq!(span(every, now, &utc), expected, "{every} {now}");
        }
    }

    #[test]
    fn days_of_clock_changes_are_shorter_or_longer() {
        let text = |(one, other): (&str, &str)| (one.to_owned(), other.to_owned());
        for (every, now, expected) in [
            // 23 hours.
            (
                "day",
                "2026-03-29T12:00:00Z",
                ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ),
            // 25 hours, of which one comes twice.
            (
                "day",
                "2026-10-25T00:30:00Z",
                ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ),
            (
                "day",
                "2026-10-25T01:30:00Z",
                ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ),
            (
                "month",
                "2026-10-31T23:30:00Z",
                ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
            ),
            (
                "month",
                "2026-10-31T22:30:00Z",
                ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            ),
        ] {
            assert_eq!(span(every, now, &zone(BERLIN)), text(expected), "{now}");
        }
        // On 2026-09-06, 00:00 is 01:00; the night before, 23:59 is at 03:59 UTC.
        let santiago = zone(SANTIAGO);
        let day = ("2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z");
        assert_eq!(span("day", "2026-09-06T04:00:00Z", &santiago), text(day));
        let before = ("2026-09-05T04:00:00Z", "2026-09-06T04:00:00Z");
        assert_eq!(span("day", "2026-09-06T03:59:59Z", &santiago), text(before));
        // On 2026-04-04, the hour from 23:00 on comes twice.
        let long = ("2026-04-04T03:00:00Z", "2026-04-05T04:00:00Z");
        for now in ["2026-04-05T02:30:00Z", "2026-04-05T03:30:00Z"] {
            assert_eq!(span("day", now, &santiago), text(long), "{now}");
        }
    }

    #[test]
    fn at_the_end_of_the_calendar_there_is_no_next_period() {
        let now = Timestamp::MAX;
        let span = Every::Month(1).span(now, &TimeZone::UTC);
        assert_eq!((span.start, span.end), (now.as_second(), i64::MAX));
    }

    #[test]
    fn what_is_no_period_is_told_in_one_line() {
        for (text, reason) in [
            ("year", "`year` is no period: expected day, week or month"),
            ("", "`` is no period"),
            ("Month", "`Month` is no period"),
            ("day,reset:1", "no meaning for a day"),
            ("week,reset:1", "is no day of a week: expected monday"),
            ("week,reset:Fri", "is no day of a week"),
            ("month,reset:0", "expected 1 to 28"),
            ("month,reset:29", "expected 1 to 28"),
            ("month,reset:+5", "expected 1 to 28"),
            ("month,reset:monday", "expected 1 to 28"),
            ("month,reset:", "expected 1 to 28"),
            ("month,reset:999", "expected 1 to 28"),
        ] {
            let error = text.parse::<Every>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        /// Periods follow each other without a gap, whatever the clocks do.
        #[test]
        fn each_moment_is_in_one_period(
            second in 0_i64..8_000_000_000,
            posix in prop::sample::select(vec!["UTC0", BERLIN, SANTIAGO, "<+1245>-12:45"]),
            every in prop::sample::select(vec![
                "day", "week", "week,reset:sunday", "month", "month,reset:28"
            ]),
        ) {
            let (zone, every): (_, Every) = (zone(posix), every.parse().unwrap());
            let around = |second| every.span(Timestamp::from_second(second).unwrap(), &zone);
            let span = around(second);
            prop_assert!(span.contains(second));
            prop_assert!(span.end - span.start >= 23 * 3600);
            prop_assert!(span.end - span.start <= 31 * 24 * 3600 + 3600);
            prop_assert_eq!(around(span.start), span);
            prop_assert_eq!(around(span.end - 1), span);
            prop_assert_eq!(around(span.end).start, span.end);
            prop_assert_eq!(every.to_string().parse::<Every>(), Ok(every));
        }
    }
}
