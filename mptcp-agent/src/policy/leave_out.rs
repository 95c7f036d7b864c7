//! Bounds of a path's loss and round trip. A path that passes one is left out.
//!
//! ```text
//!   --leave-out SELECTOR=loss:5%            lost: more than 5 % of its segments
//!   --leave-out SELECTOR=rtt:300ms          slow: a round trip above 300 ms
//!   --leave-out SELECTOR=loss:5%,rtt:300ms  either
//!   --leave-out SELECTOR=none               neither, though `default` has bounds
//! ```
//!
//! [`crate::state::fitness`] tells when a bound counts as passed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mptcp_api::policy::{Invalid, LeaveOut, Problem};

use super::Weights;
use crate::policy::selector::Selector;

/// Thousandths of a percent in one.
const PARTS: u32 = 100_000;

/// The least and the largest bound of the loss, in thousandths of a percent.
const LOSS: std::ops::RangeInclusive<u32> = 100..=50_000;

/// The least and the largest bound of the round trip, in milliseconds.
const RTT_MS: std::ops::RangeInclusive<u64> = 1..=60_000;

/// Reports a bound that cannot be read.
const FORMS: &str = "expected loss:5% (0.1% to 50%), rtt:300ms (1ms to 60s), both with a comma \
                     between, or none";

/// The bounds of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The largest part of its segments that may be lost, in thousandths of a
    /// percent; `None` if it has no such bound.
    loss: Option<u32>,
    /// The longest round trip, in whole milliseconds; `None` if it has no such
    /// bound.
    rtt: Option<Duration>,
}

impl Bound {
    /// Returns the largest part of its segments that may be lost, 0 to 1.
    pub fn loss(&self) -> Option<f64> {
        self.loss.map(|parts| f64::from(parts) / f64::from(PARTS))
    }

    /// Returns the longest round trip, in seconds.
    pub fn rtt_seconds(&self) -> Option<f64> {
        self.rtt.map(|rtt| rtt.as_secs_f64())
    }

    /// Returns whether there is no bound that could be passed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loss = self.loss.map(|parts| {
            let (whole, rest) = (parts / 1000, parts % 1000);
            let text = format!("loss:{whole}.{rest:03}");
            format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
        });
        let rtt = self.rtt.map(|rtt| format!("rtt:{}ms", rtt.as_millis()));
        let texts: Vec<String> = loss.into_iter().chain(rtt).collect();
        match texts.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&texts.join(",")),
        }
    }
}

impl FromStr for Bound {
    type Err = String;

    /// Reads the right side of `SELECTOR=BOUNDS`.
    ///
    /// # Errors
    /// One line that says what is wrong and what is expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| format!("`{part}` is no bound: {FORMS}");
        if text == "none" {
            return Ok(Self::default());
        }
        let mut bound = Self::default();
        for part in text.split(',') {
            let (kind, value) = part.split_once(':').ok_or_else(|| wrong(part))?;
            let twice = match kind {
                "loss" => {
                    let loss = loss(value).ok_or_else(|| wrong(part))?;
                    bound.loss.replace(loss).is_some()
                }
                "rtt" => {
                    let rtt = rtt(value).ok_or_else(|| wrong(part))?;
                    bound.rtt.replace(rtt).is_some()
                }
                _ => return Err(wrong(part)),
            };
            if twice {
                return Err(format!("`{text}` has two bounds of {kind}: {FORMS}"));
            }
        }
        Ok(bound)
    }
}

/// Reads a part such as `5%` or `0.25%`, in thousandths of a percent.
fn loss(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    if rest.len() > 3 {
        return None;
    }
    let parts = digits(whole)?.checked_mul(1000)?;
    let parts = parts.checked_add(digits(&format!("{rest:0<3}"))?)?;
    let parts = u32::try_from(parts).ok()?;
    (!rest.is_empty() && LOSS.contains(&parts)).then_some(parts)
}

/// Reads a time such as `300ms` or `2s`.
fn rtt(text: &str) -> Option<Duration> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let ms = digits(number)?.checked_mul(unit_ms)?;
    RTT_MS.contains(&ms).then(|| Duration::from_millis(ms))
}

/// Reads digits only: `u64::from_str` would also take `+2`.
fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The bounds of one path: `SELECTOR=BOUNDS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathBound {
    selector: Selector,
    bound: Bound,
}

impl fmt::Display for PathBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.selector, self.bound)
    }
}

impl FromStr for PathBound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // From the right: `=` is allowed in a device's name.
        let (selector, bound) = text.rsplit_once('=').ok_or_else(|| {
            format!("`{text}` has no bound: write SELECTOR=BOUNDS, as in eth0=loss:5%,rtt:300ms")
        })?;
        let bound = bound.parse()?;
        let selector = selector.parse()?;
        Ok(Self { selector, bound })
    }
}

/// The bounds of all paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// In the user's order; no two name the same path. That of
    /// [`Selector::Default`] holds for every path that no other one names.
    listed: Vec<PathBound>,
}

impl Bounds {
    /// No path has bounds.
    pub const NONE: Self = Self { listed: Vec::new() };

    /// Checks bounds, each by itself and against the paths that `weights` names.
    ///
    /// # Errors
    /// A bound cannot be read, a path has two, or a selector names no path.
    pub fn new(given: &LeaveOut, weights: &Weights) -> Result<Self, Invalid> {
        let wrong = |problem| Invalid {
            setting: LeaveOut::BOUNDS,
            problem,
        };
        let mut bounds = Self::NONE;
        for text in &given.leave_out {
            let one: PathBound = text
                .parse()
                .map_err(|why| wrong(Problem::Unreadable(why)))?;
            let selector = &one.selector;
            let same = |other: &PathBound| other.selector == *selector;
            if bounds.listed.iter().any(same) {
                return Err(wrong(Problem::Twice(selector.to_string())));
            }
            let is_path = match selector {
                Selector::Device(_) | Selector::Default => true,
                other => weights.listed.iter().any(|path| path.selector == *other),
            };
            if !is_path {
                return Err(wrong(Problem::Unreadable(format!(
                    "`{selector}` is no path of its own yet: name it by a weight or a preference \
                     as well, or name its device"
                ))));
            }
            bounds.listed.push(one);
        }
        Ok(bounds)
    }

    /// Returns the setting, as users write it.
    pub fn setting(&self) -> LeaveOut {
        LeaveOut {
            leave_out: self.listed.iter().map(PathBound::to_string).collect(),
        }
    }

    /// Returns whether any path has a bound, so that it may be left out.
    pub fn act(&self) -> bool {
        self.listed.iter().any(|one| !one.bound.is_none())
    }

    /// Returns the bounds of the path that has this label.
    pub fn of(&self, label: &str) -> Bound {
        let named = |one: &&PathBound| one.selector.to_string() == label;
        let default = |one: &&PathBound| one.selector == Selector::Default;
        let mut listed = self.listed.iter();
        let found = listed.find(named);
        let found = found.or_else(|| self.listed.iter().find(default));
        found.map_or_else(Bound::default, |one| one.bound)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use mptcp_common::abi::capability;
    use serde_json::json;

    use super::*;
    use crate::policy::{Policy, Weight};

    fn bounds(given: &[&str], weights: &[&str]) -> Result<Bounds, String> {
        let weights: Vec<Weight> = weights.iter().map(|text| text.parse().unwrap()).collect();
        let given = LeaveOut {
            leave_out: given.iter().map(ToString::to_string).collect(),
        };
        let done = Bounds::new(&given, &Weights::new(&weights).unwrap());
        done.map_err(|error| error.in_fields())
    }

    #[test]
    fn accepted_with_its_canonical_spelling() {
        for (text, canonical) in [
            ("eth0=loss:5%", "eth0=loss:5%"),
            ("eth0=loss:0.1%", "eth0=loss:0.1%"),
            ("eth0=loss:2.50%", "eth0=loss:2.5%"),
            ("eth0=loss:10%", "eth0=loss:10%"),
            ("eth0=loss:50%", "eth0=loss:50%"),
            ("eth0=rtt:1ms", "eth0=rtt:1ms"),
            ("eth0=rtt:60s", "eth0=rtt:60000ms"),
            ("eth0=rtt:300ms,loss:5%", "eth0=loss:5%,rtt:300ms"),
            ("a=b=loss:5%", "a=b=loss:5%"),
            ("fd00:0::/64=rtt:2s", "fd00::/64=rtt:2000ms"),
            ("default=loss:1.234%", "default=loss:1.234%"),
            ("eth0=none", "eth0=none"),
        ] {
            let parsed: PathBound = text.parse().unwrap();
            assert_eq!(parsed.to_string(), canonical);
            assert_eq!(canonical.parse::<PathBound>(), Ok(parsed));
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        for (text, reason) in [
            ("eth0", "`eth0` has no bound: write SELECTOR=BOUNDS"),
            ("eth0=", "`` is no bound: expected loss:5%"),
            ("eth0=loss", "`loss` is no bound"),
            ("eth0=loss:", "`loss:` is no bound"),
            ("eth0=loss:5", "`loss:5` is no bound"),
            ("eth0=loss:%", "`loss:%` is no bound"),
            ("eth0=loss:.5%", "`loss:.5%` is no bound"),
            ("eth0=loss:5.%", "`loss:5.%` is no bound"),
            ("eth0=loss:0%", "0.1% to 50%"),
            ("eth0=loss:0.0999%", "0.1% to 50%"),
            ("eth0=loss:50.001%", "0.1% to 50%"),
            ("eth0=loss:99999999999999999999%", "0.1% to 50%"),
            ("eth0=loss:18446744073709551615%", "0.1% to 50%"),
            ("eth0=loss:-5%", "`loss:-5%` is no bound"),
            ("eth0=loss:+5%", "`loss:+5%` is no bound"),
            ("eth0=rtt:300", "`rtt:300` is no bound"),
            ("eth0=rtt:0ms", "1ms to 60s"),
            ("eth0=rtt:1.5s", "`rtt:1.5s` is no bound"),
            ("eth0=rtt:61s", "1ms to 60s"),
            ("eth0=rtt:18446744073709551615s", "1ms to 60s"),
            ("eth0=loss:5%,loss:6%", "two bounds of loss"),
            ("eth0=loss:5%,", "`` is no bound"),
            ("eth0=loss:5%,none", "`none` is no bound"),
            ("eth0=delay:5ms", "`delay:5ms` is no bound"),
            ("=loss:5%", "a selector is missing"),
            ("10.0.0.1/24=loss:5%", "10.0.0.0/24"),
        ] {
            let error = text.parse::<PathBound>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn bounds_are_checked_as_a_whole() {
        assert_eq!(bounds(&[], &[]), Ok(Bounds::NONE));
        let one = |label: &str| bounds(&[&format!("{label}=loss:5%")], &["id:2=1"]);
        for label in ["eth0", "default", "id:2", "id:02"] {
            assert!(one(label).unwrap().act(), "{label}");
        }
        for label in ["id:3", "10.0.0.0/24", "remote-id:2"] {
            let error = one(label).unwrap_err();
            assert!(error.contains("is no path of its own yet"), "{error}");
            assert!(error.starts_with("`leave_out`: "), "{error}");
        }
        let error = bounds(&["eth0=none", "eth0=loss:5%"], &[]).unwrap_err();
        assert!(
            error.contains("names the path `eth0` more than once"),
            "{error}"
        );
        assert!(!bounds(&["eth0=none"], &[]).unwrap().act());
    }

    #[test]
    fn the_path_of_the_name_comes_before_the_default() {
        let bounds = bounds(&["default=loss:5%", "eth0=none", "eth1=rtt:1s"], &[]).unwrap();
        assert_eq!(bounds.of("eth0"), Bound::default());
        assert_eq!(bounds.of("eth1").rtt_seconds(), Some(1.0));
        assert_eq!(bounds.of("eth1").loss(), None);
        assert_eq!(bounds.of("wwan0").loss(), Some(0.05));
        let setting = bounds.setting().leave_out;
        assert_eq!(setting, ["default=loss:5%", "eth0=none", "eth1=rtt:1000ms"]);
    }

    fn read(settings: serde_json::Value) -> Result<Policy, Invalid> {
        Policy::new(serde_json::from_value(settings).unwrap())
    }

    #[test]
    fn bounds_make_a_policy_hold_paths_out() {
        for (name, given, with) in [
            ("weighted", json!({}), capability::CAPS | capability::HOST),
            (
                "overflow",
                json!({"prefer": ["eth0"]}),
                capability::OVERFLOWS,
            ),
            ("aggregate", json!({}), capability::OVERFLOWS),
        ] {
            let policy = |bounds: &[&str]| {
                let mut given = given.clone();
                (given["name"], given["leave_out"]) = (json!(name), json!(bounds));
                read(given).unwrap()
            };
            let bound = policy(&["wwan0=loss:5%"]);
            assert_eq!(bound.capabilities(), with, "{name}");
            assert!(bound.judges() && bound.needs().holds_out.is_some());
            assert_eq!(bound.backend(), "pacing");
            let none = policy(&["wwan0=none"]);
            assert_eq!(none.capabilities(), policy(&[]).capabilities());
            assert_eq!(none.needs(), policy(&[]).needs());
            assert_eq!(Policy::new(bound.given()).unwrap(), bound);
            assert_ne!(bound, none);
        }
        let aggregate = read(json!({"name": "aggregate", "leave_out": ["wwan0=none"]})).unwrap();
        assert_eq!((aggregate.capabilities(), aggregate.backend()), (0, "none"));
        assert_eq!(aggregate.rank(1), None);
        assert_eq!(*Policy::default().bounds(), Bounds::NONE);
    }
}
