//! Settings of a path under a policy: its limit, its quota, its bounds, and whether it
//! is on standby.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mptcp_api::config::{At, Path};
use mptcp_api::policy::{Given, LeaveOut, Overflow, Setting, Shared, Weighted};

use super::paths::{Named, Paths};
use super::policies::key;
use super::source::{Origin, Source, Wrong};
use crate::cli::flag;
use crate::policy::selector::Selector;
use crate::policy::{Limit, PathBound, Quota, UNLISTED_WEIGHT, Weight};

/// Where the limit, the quota and the bounds of each path come from, by setting
/// and label.
pub type Origins = BTreeMap<(Setting, String), Origin>;

/// Adds the limit, the quota and the bounds of each path to the default policy. Those that
/// flags give are in `given` already, and take precedence.
///
/// # Errors
/// A value cannot be read.
pub fn add(source: Source<'_>, paths: &Paths<'_>, given: &mut Given) -> Result<Origins, Wrong> {
    let mut origins = Origins::new();
    let has_bounds = given.takes(LeaveOut::BOUNDS);
    let limits = OfPaths {
        setting: Shared::LIMITS,
        of: |path| path.limit.as_ref(),
        counts: true,
    };
    limits.add::<Limit>(source, paths, &mut given.shared.limits, &mut origins)?;
    let quotas = OfPaths {
        setting: Shared::QUOTAS,
        of: |path| path.quota.as_ref(),
        counts: true,
    };
    quotas.add::<Quota>(source, paths, &mut given.shared.quotas, &mut origins)?;
    let bounds = OfPaths {
        setting: LeaveOut::BOUNDS,
        of: |path| path.leave_out.as_ref(),
        counts: has_bounds,
    };
    let texts = &mut given.leave_out.leave_out;
    bounds.add::<PathBound>(source, paths, texts, &mut origins)?;
    for path in paths.iter().filter(|path| path.entry.leave_out.is_some()) {
        name_by_weight(given, &path.selector);
    }
    Ok(origins)
}

/// A setting that each path may have, which a policy lists as `SELECTOR=VALUE`.
struct OfPaths {
    setting: Setting,
    /// Returns what the file says of a path.
    of: fn(&Path) -> Option<&At<String>>,
    /// Whether the policy has the setting. What the file says is checked in any
    /// case.
    counts: bool,
}

impl OfPaths {
    /// Adds what the file says to `texts`, which has what flags say.
    fn add<T: FromStr<Err = String> + fmt::Display>(
        &self,
        source: Source<'_>,
        paths: &Paths<'_>,
        texts: &mut Vec<String>,
        origins: &mut Origins,
    ) -> Result<(), Wrong> {
        let by_flag = selectors(texts);
        for selector in &by_flag {
            let flag = Origin::Flag(flag(self.setting));
            origins.insert((self.setting, selector.to_string()), flag);
        }
        for Named {
            selector, entry, ..
        } in paths.iter()
        {
            let Some(value) = (self.of)(entry) else {
                continue;
            };
            // With an equals sign, a part of it would belong to the selector.
            let read: Result<T, String> = match value.contains('=') {
                true => Err(format!("`{}`: leave the path and `=` out", **value)),
                false => format!("{selector}={}", **value).parse(),
            };
            let read = read.map_err(|why| {
                let why = format!("{}: {why}", key(self.setting));
                source.wrong(value.start(), &why)
            })?;
            if self.counts && !by_flag.contains(selector) {
                texts.push(read.to_string());
                let origin = source.origin(value.start());
                origins.insert((self.setting, selector.to_string()), origin);
            }
        }
        Ok(())
    }
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
