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

use super::on_paths;
use super::paths::{Named, Paths};
use super::source::{Origin, Source, Wrong};
use crate::cli::{Flags, flag};
use crate::policy::{Policy, UNLISTED_WEIGHT, Weight};

/// Returns the key that the file has for a setting.
pub fn key(setting: Setting) -> &'static str {
    let field = setting.field();
    match setting {
        Setting::NAME => "policy",
        Weighted::MODE => "mode",
        Weighted::SCOPE => "scope",
        LeaveOut::BOUNDS => "leave-out",
        Shared::LIMITS => "limit",
        Shared::QUOTAS => "quota",
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
    /// Where the limit and the bounds of each path come from.
    pub of_paths: on_paths::Origins,
}

/// The parts from which a policy is made.
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
    /// Whether this is the default policy. Others have neither flags nor limits
    /// nor bounds: limits hold for the host, whatever the policy.
    pub is_default: bool,
}

impl Parts<'_> {
    /// Returns what the flags say of this policy.
    fn by_flags(&self) -> Given {
        match self.is_default {
            true => self.flags.policy.clone(),
            false => Given::default(),
        }
    }

    /// Returns whether a flag gives the setting.
    fn has_flag(&self, setting: Setting) -> bool {
        let id = match setting {
            Setting::NAME => "policy",
            _ => setting.field(),
        };
        self.is_default && self.flags.has(id)
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
    let by_flag = !by_flags.weighted.weights.is_empty();
    on_paths::add_standby(source, paths, &mut given, by_flag)?;
    let of_paths = match parts.is_default {
        true => on_paths::add(source, paths, &mut given)?,
        false => on_paths::Origins::new(),
    };
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
    list(&mut given.leave_out.leave_out, &flags.leave_out.leave_out);
    list(&mut given.shared.limits, &flags.shared.limits);
    list(&mut given.shared.quotas, &flags.shared.quotas);
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
        Shared::QUOTAS => path.entry.quota.as_ref().map(At::start),
        LeaveOut::BOUNDS => path.entry.leave_out.as_ref().map(At::start),
        _ => None,
    };
    let start = entry.and_then(|(_, entry)| start_of(entry, setting));
    let start = start.or_else(|| paths.iter().filter_map(of_path).last());
    let start = start.or_else(|| entry.map(|(name, _)| name.start()));
    let why = invalid.describe(|setting| key(setting).to_owned());
    source.wrong(start.unwrap_or(0), &why)
}
