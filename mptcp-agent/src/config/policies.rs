//! `[policy.NAME]`: the settings of a policy, merged with flags.
//!
//! A flag replaces the file's setting of the same name; `weights` and `prefer`
//! are one setting each. Limits and bounds are settings of a path: a flag
//! replaces those of its path only. If `--policy` names another policy than the
//! file, the file's settings of that policy do not count.

use std::collections::BTreeMap;

use mptcp_api::config::{At, Policy as Entry};
use mptcp_api::policy::{Given, Invalid, LeaveOut, Overflow, Redundant, Setting, Shared, Weighted};
use mptcp_common::abi::redundant::MAX_COPIES;

use super::paths::{Named, Paths};
use super::source::{Origin, Source, Wrong};
use crate::cli::{Flags, flag};
use crate::policy::selector::Selector;
use crate::policy::{Limit, PathBound, Policy, UNLISTED_WEIGHT, Weight};

/// Returns the key that the file has for a setting.
pub fn key(setting: Setting) -> &'static str {
    let field = setting.field();
    match setting {
        Setting::NAME => "policy",
        Weighted::MODE => "mode",
        Weighted::SCOPE => "scope",
        LeaveOut::BOUNDS => "leave-out",
        Shared::LIMITS => "limit",
        _ => field.strip_prefix("redundant_").unwrap_or(field),
    }
}

/// Returns where the entry has the value of a setting.
pub fn start_of(entry: &Entry, setting: Setting) -> Option<usize> {
    fn start<T>(value: Option<&At<T>>) -> Option<usize> {
        value.map(At::start)
    }
    match setting {
        Setting::NAME => Some(entry.policy.start()),
        Weighted::WEIGHTS => start(entry.weights.as_ref()),
        Weighted::MODE => start(entry.mode.as_ref()),
        Weighted::SCOPE => start(entry.scope.as_ref()),
        Weighted::THIN => start(entry.thin.as_ref()),
        Overflow::PREFER => start(entry.prefer.as_ref()),
        Redundant::COPIES => start(entry.copies.as_ref()),
        Redundant::PORT => start(entry.port.as_ref()),
        Redundant::KEY => start(entry.key.as_ref()),
        Redundant::BUDGET => start(entry.budget.as_ref()),
        _ => None,
    }
}

/// A policy of the file, or the one that flags make.
#[derive(Debug)]
pub struct Merged {
    /// The policy.
    pub policy: Policy,
    /// Where the policy's own settings come from.
    pub origins: BTreeMap<Setting, Origin>,
    /// Where the limit and the bounds of each path come from, by setting and
    /// label.
    pub of_paths: BTreeMap<(Setting, String), Origin>,
}

/// What a policy is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The file.
    pub source: Source<'a>,
    /// Its paths.
    pub paths: &'a Paths<'a>,
    /// The policy's table, with its name.
    pub entry: Option<(&'a At<String>, &'a Entry)>,
    /// The flags.
    pub flags: &'a Flags,
    /// Whether this is the default policy. Of the flags, others have the limits
    /// only.
    pub is_default: bool,
}

impl Parts<'_> {
    /// Returns what the flags say of this policy.
    fn by_flags(&self) -> Given {
        let given = &self.flags.policy;
        if self.is_default {
            return given.clone();
        }
        Given {
            shared: given.shared.clone(),
            ..Given::default()
        }
    }

    /// Returns whether a flag gives the setting.
    fn has_flag(&self, setting: Setting) -> bool {
        let id = match setting {
            Setting::NAME => "policy",
            _ => setting.field(),
        };
        (self.is_default || setting == Shared::LIMITS) && self.flags.has(id)
    }
}

/// Makes the policy of its table and the flags.
///
/// # Errors
/// A value cannot be, or values do not go together.
pub fn merge(parts: Parts<'_>) -> Result<Merged, Wrong> {
    let Parts {
        source,
        paths,
        entry,
        ..
    } = parts;
    let by_flags = parts.by_flags();
    let by_file = entry
        .map(|(_, entry)| own(source, paths, entry))
        .transpose()?;
    let mut origins = BTreeMap::new();
    for (setting, _) in by_flags
        .values()
        .into_iter()
        .chain([(Setting::NAME, Vec::new())])
    {
        if parts.has_flag(setting) {
            origins.insert(setting, Origin::Flag(flag(setting)));
        } else if let Some(start) = entry.and_then(|(_, entry)| start_of(entry, setting)) {
            origins.insert(setting, source.origin(start));
        }
    }
    let named_by_flag = matches!(origins.get(&Setting::NAME), Some(Origin::Flag(_)));
    let mut given = match by_file {
        Some(file) if !named_by_flag || file.name == by_flags.name => file,
        _ => Given::named(by_flags.name.clone()),
    };
    override_with(&mut given, &by_flags);
    let of_paths = add_paths(parts, &mut given, &by_flags)?;
    let policy = Policy::new(given).map_err(|invalid| wrong(parts, &origins, &invalid))?;
    Ok(Merged {
        policy,
        origins,
        of_paths,
    })
}

/// Reads the settings that stand in the policy's table.
fn own(source: Source<'_>, paths: &Paths<'_>, entry: &Entry) -> Result<Given, Wrong> {
    let text = |value: &Option<At<String>>| value.as_ref().map(|value| value.to_string());
    let mut given = Given::named(entry.policy.as_str());
    given.weighted = Weighted {
        weighted_mode: text(&entry.mode),
        weighted_scope: text(&entry.scope),
        thin: text(&entry.thin),
        weights: weights(source, paths, entry)?,
    };
    if let Some(prefer) = &entry.prefer {
        let prefer = prefer.iter();
        let prefer = prefer.map(|name| Ok(paths.selector(source, name)?.to_string()));
        given.overflow.prefer = prefer.collect::<Result<_, Wrong>>()?;
    }
    let copies = number(
        source,
        "copies",
        entry.copies.as_ref(),
        2..=i64::from(MAX_COPIES),
    )?;
    let port = number(source, "port", entry.port.as_ref(), 1..=65535)?;
    given.redundant = Redundant {
        redundant_copies: copies,
        redundant_port: port,
        redundant_key: text(&entry.key).map(Into::into),
        redundant_budget: text(&entry.budget),
    };
    Ok(given)
}

/// Checks that a number, if it is there, is in `range`.
pub fn number<T: TryFrom<i64>>(
    source: Source<'_>,
    key: &str,
    value: Option<&At<i64>>,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<T>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    let number = Some(**value).filter(|number| range.contains(number));
    match number.and_then(|number| T::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            let (least, largest) = range.into_inner();
            let why = format!("{key} is {}: expected {least} to {largest}", **value);
            Err(source.wrong(value.start(), &why))
        }
    }
}

fn weights(source: Source<'_>, paths: &Paths<'_>, entry: &Entry) -> Result<Vec<String>, Wrong> {
    let Some(weights) = &entry.weights else {
        return Ok(Vec::new());
    };
    let mut weights: Vec<_> = weights.iter().collect();
    weights.sort_by_key(|(name, _)| name.start());
    let weights = weights.into_iter().map(|(name, weight)| {
        let selector = paths.selector(source, name)?;
        let what = format!("the weight of {}", **name);
        let number: Option<u16> = number(source, &what, Some(weight), 0..=65535)?;
        let weight = number.unwrap_or(UNLISTED_WEIGHT);
        Ok(Weight { selector, weight }.to_string())
    });
    weights.collect()
}

/// Puts each setting that flags give in the place of the file's.
fn override_with(given: &mut Given, flags: &Given) {
    fn list(own: &mut Vec<String>, by_flag: &[String]) {
        if !by_flag.is_empty() {
            *own = by_flag.to_vec();
        }
    }
    fn one<T: Clone>(own: &mut Option<T>, by_flag: Option<&T>) {
        if let Some(value) = by_flag {
            *own = Some(value.clone());
        }
    }
    let Given {
        weighted,
        overflow,
        redundant,
        ..
    } = given;
    list(&mut weighted.weights, &flags.weighted.weights);
    one(
        &mut weighted.weighted_mode,
        flags.weighted.weighted_mode.as_ref(),
    );
    one(
        &mut weighted.weighted_scope,
        flags.weighted.weighted_scope.as_ref(),
    );
    one(&mut weighted.thin, flags.weighted.thin.as_ref());
    list(&mut overflow.prefer, &flags.overflow.prefer);
    one(
        &mut redundant.redundant_copies,
        flags.redundant.redundant_copies.as_ref(),
    );
    one(
        &mut redundant.redundant_port,
        flags.redundant.redundant_port.as_ref(),
    );
    one(
        &mut redundant.redundant_key,
        flags.redundant.redundant_key.as_ref(),
    );
    one(
        &mut redundant.redundant_budget,
        flags.redundant.redundant_budget.as_ref(),
    );
}

/// Adds what holds for each path: its limit, its bounds, and whether it is on
/// standby.
fn add_paths(
    parts: Parts<'_>,
    given: &mut Given,
    flags: &Given,
) -> Result<BTreeMap<(Setting, String), Origin>, Wrong> {
    let Parts { source, paths, .. } = parts;
    let mut origins = BTreeMap::new();
    given.shared.limits.clone_from(&flags.shared.limits);
    given
        .leave_out
        .leave_out
        .clone_from(&flags.leave_out.leave_out);
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
        if let Some(limit) = &entry.limit
            && !limited.contains(selector)
        {
            let text = format!("{selector}={}", **limit);
            let limit_of: Limit = checked(source, "limit", limit, &text)?;
            given.shared.limits.push(limit_of.to_string());
            let origin = source.origin(limit.start());
            origins.insert((Shared::LIMITS, selector.to_string()), origin);
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
    let by_flag = !flags.weighted.weights.is_empty();
    let standby = paths.iter().filter(|path| is_standby(path));
    for path in standby {
        stand_by(source, given, path, by_flag)?;
    }
    for path in paths.iter().filter(|path| path.entry.leave_out.is_some()) {
        name_by_weight(given, &path.selector);
    }
    Ok(origins)
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

/// Names the place of a setting that cannot be.
fn wrong(parts: Parts<'_>, origins: &BTreeMap<Setting, Origin>, invalid: &Invalid) -> Wrong {
    let Parts {
        source,
        paths,
        entry,
        ..
    } = parts;
    let setting = invalid.setting;
    let by_flag = matches!(origins.get(&setting), Some(Origin::Flag(_)));
    if by_flag || source.name.is_empty() {
        return Wrong::new(invalid.describe(flag));
    }
    let of_path = |path: &Named<'_>| match setting {
        Shared::LIMITS => path.entry.limit.as_ref().map(At::start),
        LeaveOut::BOUNDS => path.entry.leave_out.as_ref().map(At::start),
        _ => None,
    };
    let start = entry.and_then(|(_, entry)| start_of(entry, setting));
    let start = start.or_else(|| paths.iter().filter_map(of_path).last());
    let start = start.or_else(|| entry.map(|(name, _)| name.start()));
    let why = invalid.describe(|setting| key(setting).to_owned());
    source.wrong(start.unwrap_or(0), &why)
}
