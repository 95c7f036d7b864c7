//! What holds for a path under a policy: its limit, its bounds, and whether it is
//! on standby.

use std::collections::BTreeMap;

use mptcp_api::config::At;
use mptcp_api::policy::{Given, LeaveOut, Overflow, Setting, Shared, Weighted};

use super::paths::{Named, Paths};
use super::source::{Origin, Source, Wrong};
use crate::cli::flag;
use crate::policy::selector::Selector;
use crate::policy::{Limit, PathBound, UNLISTED_WEIGHT, Weight};

/// Where the limit and the bounds of each path come from, by setting and label.
pub type Origins = BTreeMap<(Setting, String), Origin>;

/// Adds the limit and the bounds of each path to the default policy. Those that
/// flags give are in `given` already, and take precedence.
///
/// # Errors
/// A value cannot be read.
pub fn add(source: Source<'_>, paths: &Paths<'_>, given: &mut Given) -> Result<Origins, Wrong> {
    let mut origins = Origins::new();
    let limited = selectors(&given.shared.limits);
    let bounded = selectors(&given.leave_out.leave_out);
    for (setting, selectors) in [(Shared::LIMITS, &limited), (LeaveOut::BOUNDS, &bounded)] {
        for selector in selectors {
            let flag = Origin::Flag(flag(setting));
            origins.insert((setting, selector.to_string()), flag);
        }
    }
    for path in paths.iter() {
        let Named {
            selector, entry, ..
        } = path;
        if let Some(limit) = &entry.limit {
            let text = format!("{selector}={}", **limit);
            let limit_of: Limit = checked(source, "limit", limit, &text)?;
            if !limited.contains(selector) {
                given.shared.limits.push(limit_of.to_string());
                let origin = source.origin(limit.start());
                origins.insert((Shared::LIMITS, selector.to_string()), origin);
            }
        }
        if let Some(bound) = &entry.leave_out {
            let text = format!("{selector}={}", **bound);
            let bound_of: PathBound = checked(source, "leave-out", bound, &text)?;
            if given.takes(LeaveOut::BOUNDS) && !bounded.contains(selector) {
                given.leave_out.leave_out.push(bound_of.to_string());
                let origin = source.origin(bound.start());
                origins.insert((LeaveOut::BOUNDS, selector.to_string()), origin);
            }
        }
    }
    for path in paths.iter().filter(|path| path.entry.leave_out.is_some()) {
        name_by_weight(given, &path.selector);
    }
    Ok(origins)
}

/// Puts the paths on standby that the file says are. `by_flag` tells that flags
/// give the weights: then those count.
///
/// # Errors
/// The file gives such a path a weight above 0.
pub fn add_standby(
    source: Source<'_>,
    paths: &Paths<'_>,
    given: &mut Given,
    by_flag: bool,
) -> Result<(), Wrong> {
    let mut standby = paths.iter().filter(|path| is_standby(path));
    standby.try_for_each(|path| stand_by(source, given, path, by_flag))
}

/// Returns whether the path carries data only while no other can.
pub fn is_standby(path: &Named<'_>) -> bool {
    path.entry.standby.as_ref().is_some_and(|standby| **standby)
}

/// Returns the selectors of texts such as `SELECTOR=VALUE`.
fn selectors(texts: &[String]) -> Vec<Selector> {
    let selectors = texts.iter().filter_map(|text| text.rsplit_once('='));
    selectors
        .filter_map(|(selector, _)| selector.parse().ok())
        .collect()
}

/// Reads `text`, which was made of `value`.
fn checked<T: std::str::FromStr<Err = String>>(
    source: Source<'_>,
    key: &str,
    value: &At<String>,
    text: &str,
) -> Result<T, Wrong> {
    let read = text.parse();
    read.map_err(|why| source.wrong(value.start(), &format!("{key}: {why}")))
}

/// Puts a path on standby: gives it the weight 0, or the last rank. Policies that
/// have neither use it as the others.
fn stand_by(
    source: Source<'_>,
    given: &mut Given,
    path: &Named<'_>,
    by_flag: bool,
) -> Result<(), Wrong> {
    let selector = &path.selector;
    if given.takes(Weighted::WEIGHTS) {
        let weights = given.weighted.weights.iter();
        let mut weights = weights.filter_map(|text| text.parse::<Weight>().ok());
        match weights.find(|weight| weight.selector == *selector) {
            None => given.weighted.weights.push(format!("{selector}=0")),
            Some(weight) if weight.weight > 0 && !by_flag => {
                let why = format!(
                    "path \"{}\" is on standby, but its weight is {}: leave one of them out",
                    **path.name, weight.weight
                );
                let start = path.entry.standby.as_ref().map_or(0, At::start);
                return Err(source.wrong(start, &why));
            }
            Some(_) => {}
        }
    } else if given.takes(Overflow::PREFER) {
        let prefer = &mut given.overflow.prefer;
        let is_named = |prefer: &[String], selector: &Selector| {
            let mut named = prefer.iter().filter_map(|text| text.parse().ok());
            named.any(|named: Selector| named == *selector)
        };
        // Without any preference the policy is wrong, and stays so.
        if !prefer.is_empty() && !is_named(prefer, selector) {
            if !is_named(prefer, &Selector::Default) {
                prefer.push(Selector::Default.to_string());
            }
            prefer.push(selector.to_string());
        }
    }
    Ok(())
}

/// Gives a path that has bounds a weight, as only a weight makes a path of a
/// selector other than a device: that of paths which are not listed.
fn name_by_weight(given: &mut Given, selector: &Selector) {
    let is_path = matches!(selector, Selector::Device(_) | Selector::Default);
    if is_path || !given.takes(Weighted::WEIGHTS) {
        return;
    }
    let weights = given.weighted.weights.iter();
    let weights: Vec<Weight> = weights.filter_map(|text| text.parse().ok()).collect();
    let weight_of = |selector: &Selector| {
        let mut weights = weights.iter();
        weights.find(|weight| weight.selector == *selector)
    };
    if weight_of(selector).is_none() {
        let rest = weight_of(&Selector::Default);
        let weight = rest.map_or(UNLISTED_WEIGHT, |rest| rest.weight);
        given.weighted.weights.push(format!("{selector}={weight}"));
    }
}
