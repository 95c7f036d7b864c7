//! Merges defaults, file and flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum as _;
use mptcp_api::config::{At, File, Texts, nearest, parse};
use mptcp_api::listen::Listen;
use mptcp_api::policy::{Given, LeaveOut, Overflow, Setting, Shared, Weighted};
use mptcp_api::rule::{Rule, RuleSet};
use mptcp_common::abi::MAX_POLICIES;

use super::on_paths::is_standby;
use super::paths::{Paths, check_name};
use super::peering;
use super::policies::{Merged, Parts, key, merge, number};
use super::source::{Origin, Source, Wrong};
use crate::cli::{Flags, LogFormat, RoleArg, RunArgs};
use crate::peering::Settings;
use crate::policy::Policy;
use crate::rules::{Place, Rules};

/// The name of the policy that `--policy` sets.
pub const DEFAULT: &str = "default";

/// How many policies there can be beside the default one.
const MAX_NAMED: usize = MAX_POLICIES - 1;

/// The settings in force: those of the flags, else of the file, else the
/// defaults.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings beside the policy.
    pub args: RunArgs,
    /// The policy of connections that no rule names.
    pub policy: Policy,
    /// The settings of `--ask-peer` and `--accept-peer-policy`, if either is in use.
    pub peering: Option<Settings>,
    /// The policies that rules name, by name.
    pub policies: BTreeMap<String, Given>,
    /// The rules, in order. Each names one of `policies`, or `default`.
    pub rules: Vec<Rule>,
    /// Every setting, with its origin.
    pub rows: Vec<Row>,
    /// The settings that have no effect, each with its place.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Returns the rules, and the policies that they name.
    pub fn rule_set(&self) -> RuleSet {
        RuleSet {
            policies: self.policies.clone(),
            rules: self.rules.clone(),
        }
    }
}

/// A setting, as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key, as the file has it.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Row {
    fn new(key: impl Into<String>, value: impl ToString, origin: Origin) -> Self {
        Self {
            key: key.into(),
            value: value.to_string(),
            origin,
        }
    }
}

/// Makes the settings of the flags and of the file of this name and text, both
/// empty if there is none. Opens and asks nothing.
///
/// # Errors
/// A key or a value is wrong, or settings do not go together.
pub fn resolve(flags: &Flags, name: &str, text: &str) -> Result<Loaded, Wrong> {
    let source = Source { name, text };
    let file = parse(text).map_err(|mistake| source.mistake(&mistake))?;
    let (args, mut rows) = general(flags, source, &file)?;
    let channel = peering::channel(flags, source, &file, &args, &mut rows)?;
    let flags = channel.as_ref().map_or(flags, |channel| &channel.flags);
    let paths = Paths::read(source, &file)?;
    let mut entries: Vec<_> = file.policy.iter().collect();
    entries.sort_by_key(|(name, _)| name.start());
    let (default, others): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|(name, _)| ***name == *DEFAULT);
    let parts = Parts {
        source,
        paths: &paths,
        entry: default.first().map(|(name, entry)| (*name, &***entry)),
        flags,
        is_default: true,
    };
    let default = merge(parts)?;
    rows.extend(path_rows(source, &paths, &default));
    rows.extend(policy_rows(DEFAULT, &paths, &default));
    if let Some((name, _)) = others.get(MAX_NAMED) {
        let count = others.len();
        let why =
            format!("there are {count} policies: expected at most {MAX_NAMED} beside {DEFAULT}");
        return Err(source.wrong(name.start(), &why));
    }
    let mut policies = BTreeMap::new();
    for (name, entry) in others {
        check_name(source, "policy", name)?;
        let merged = merge(Parts {
            entry: Some((name, entry)),
            is_default: false,
            ..parts
        })?;
        rows.extend(policy_rows(name, &paths, &merged));
        policies.insert(name.to_string(), merged.policy.given());
    }
    let mut warnings = without_effect(source, &paths, &default.policy.given(), &policies);
    warnings.extend(doubts(source, &paths, &file));
    if let Some(role) = &file.endpoint_role
        && args.manage.manage_endpoints.is_none()
    {
        let why = "endpoint-role has no effect: manage-endpoints is not true";
        warnings.push(source.wrong(role.start(), why).to_string());
    }
    let rules = rules(source, &file, &policies, &mut rows)?;
    let set = RuleSet { policies, rules };
    check_rules(source, &file, &set)?;
    let RuleSet { policies, rules } = set;
    let peering = channel.map(|channel| {
        let named = policies
            .values()
            .cloned()
            .filter_map(|given| Policy::new(given).ok());
        let all = [default.policy.clone()].into_iter().chain(named);
        peering::complete(source, &file, channel.settings, all)
    });
    Ok(Loaded {
        args,
        peering: peering.transpose()?,
        policy: default.policy,
        policies,
        rules,
        rows,
        warnings,
    })
}

/// Merges the settings beside paths and policies.
fn general(flags: &Flags, source: Source<'_>, file: &File) -> Result<(RunArgs, Vec<Row>), Wrong> {
    let mut args = flags.args.clone();
    let mut rows = Vec::new();
    // Returns the file's value if it counts, and notes where the setting is from.
    let mut pick = |id: &str, start: Option<usize>| {
        let key = id.replace('_', "-");
        let (origin, counts) = match start {
            _ if flags.has(id) => (Origin::Flag(format!("--{key}")), false),
            Some(start) => (source.origin(start), true),
            None => (Origin::Default, false),
        };
        rows.push(Row::new(key, "", origin));
        counts
    };
    fn start<T>(value: Option<&At<T>>) -> Option<usize> {
        value.map(At::start)
    }
    // Values that flags replace are checked all the same.
    let listen = file.listen.as_ref();
    let places = listen.map(|texts| listen_at(source, texts)).transpose()?;
    if pick("listen", start(listen)) {
        args.listen = places.unwrap_or(args.listen);
    }
    let web = file.web_config_file.as_ref();
    let path = web.map(|path| absolute(source, "web-config-file", path));
    let path = path.transpose()?;
    if pick("web_config_file", start(web)) {
        args.web_config_file = path;
    }
    let control = file.control.as_ref();
    let path = control.map(|path| absolute(source, "control", path));
    let path = path.transpose()?;
    if pick("control", start(control)) {
        args.control = path;
    }
    let cgroup = file.cgroup.as_ref();
    let path = cgroup.map(|path| absolute(source, "cgroup", path));
    let path = path.transpose()?;
    if pick("cgroup", start(cgroup)) {
        args.cgroup = path;
    }
    let btf = file.btf.as_ref();
    let path = btf.map(|path| absolute(source, "btf", path));
    let path = path.transpose()?;
    if pick("btf", start(btf)) {
        args.btf = path;
    }
    let most = file.max_connections.as_ref();
    let number = number(source, "max-connections", most, 1..=1_048_576)?;
    if pick("max_connections", start(most)) {
        args.max_connections = number.unwrap_or(args.max_connections);
    }
    let measure = file.measure_programs.as_ref();
    if pick("measure_programs", start(measure)) {
        args.measure_programs = measure.is_some_and(|measure| **measure);
    }
    let format = file.log_format.as_ref();
    let named = format.map(|name| log_format(source, name)).transpose()?;
    if pick("log_format", start(format)) {
        args.log_format = named.unwrap_or(args.log_format);
    }
    let state = file.state_dir.as_ref();
    let path = state.map(|path| absolute(source, "state-dir", path));
    let path = path.transpose()?;
    if pick("state_dir", start(state)) {
        args.state_dir = path;
    }
    let (manages, role) = (file.manage_endpoints.as_ref(), file.endpoint_role.as_ref());
    let named = role.map(|name| endpoint_role(source, name)).transpose()?;
    if pick("manage_endpoints", start(manages)) {
        let manages = manages.is_some_and(|manages| **manages);
        args.manage.manage_endpoints = manages.then(|| named.unwrap_or_default());
    }
    let routes = file.manage_routes.as_ref();
    if pick("manage_routes", start(routes)) {
        args.manage.manage_routes = routes.is_some_and(|routes| **routes);
    }
    let ask = file.ask_peer.as_ref();
    if pick("ask_peer", start(ask)) {
        args.peering.ask_peer = ask.is_some_and(|ask| **ask);
    }
    let accept = file.accept_peer_policy.as_ref();
    let accepted = peering::accepted(source, file)?;
    if pick("accept_peer_policy", start(accept)) {
        args.peering.accept_peer_policy = accepted;
    }
    let path = |path: &Option<PathBuf>| {
        path.as_ref()
            .map_or_else(|| "-".to_owned(), |path| path.display().to_string())
    };
    let places: Vec<String> = args.listen.iter().map(Listen::to_string).collect();
    let format = args.log_format.to_possible_value();
    let values = [
        places.join(" "),
        path(&args.web_config_file),
        path(&args.control),
        path(&args.cgroup),
        path(&args.btf),
        args.max_connections.to_string(),
        args.measure_programs.to_string(),
        format
            .map(|format| format.get_name().to_owned())
            .unwrap_or_default(),
        path(&args.state_dir),
        args.manage.endpoints_in_words(),
        args.manage.manage_routes.to_string(),
        args.peering.ask_peer.to_string(),
        args.peering.prefixes_in_words(),
    ];
    for (row, value) in rows.iter_mut().zip(values) {
        row.value = value;
    }
    Ok((args, rows))
}

fn listen_at(source: Source<'_>, texts: &Texts) -> Result<Vec<Listen>, Wrong> {
    if texts.is_empty() {
        let why = "listen is an empty list: expected one place at least, such as \
                   \"127.0.0.1:8684\"";
        return Err(source.wrong(texts.start(), why));
    }
    let places = texts.iter().map(|text| {
        text.parse().map_err(|why| {
            let why = format!("listen is \"{}\": {why}", **text);
            source.wrong(text.start(), &why)
        })
    });
    places.collect()
}

fn absolute(source: Source<'_>, key: &str, text: &At<String>) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(text.as_str());
    if path.is_absolute() {
        return Ok(path);
    }
    let why = format!("{key} is \"{}\": expected an absolute path", **text);
    Err(source.wrong(text.start(), &why))
}

fn log_format(source: Source<'_>, text: &At<String>) -> Result<LogFormat, Wrong> {
    LogFormat::from_str(text, false).map_err(|_| {
        let why = format!(
            "log-format is \"{}\": expected \"text\" or \"json\"",
            **text
        );
        source.wrong(text.start(), &why)
    })
}

fn endpoint_role(source: Source<'_>, text: &At<String>) -> Result<RoleArg, Wrong> {
    RoleArg::from_str(text, false).map_err(|_| {
        let why = format!(
            "endpoint-role is \"{}\": expected \"subflow\", \"signal\" or \"fullmesh\"",
            **text
        );
        source.wrong(text.start(), &why)
    })
}

/// Says what the file wants of a path that no policy does.
fn without_effect(
    source: Source<'_>,
    paths: &Paths<'_>,
    default: &Given,
    policies: &BTreeMap<String, Given>,
) -> Vec<String> {
    let stands_by = |given: &Given| given.takes(Weighted::WEIGHTS) || given.takes(Overflow::PREFER);
    let all_stand_by = policies.values().chain([default]).any(stands_by);
    let mut warnings = Vec::new();
    let mut warn = |start, why: String| warnings.push(source.wrong(start, &why).to_string());
    for path in paths.iter() {
        if let Some(bound) = &path.entry.leave_out
            && !default.takes(LeaveOut::BOUNDS)
        {
            let why = format!(
                "leave-out has no effect: the default policy is none of {}",
                LeaveOut::OF
            );
            warn(bound.start(), why);
        }
        if let Some(standby) = &path.entry.standby
            && is_standby(path)
            && !all_stand_by
        {
            let why = "standby has no effect: no policy is weighted or overflow".to_owned();
            warn(standby.start(), why);
        }
    }
    warnings
}

/// Says which names are taken for devices although a path has nearly that name.
fn doubts(source: Source<'_>, paths: &Paths<'_>, file: &File) -> Vec<String> {
    let weights = file
        .policy
        .values()
        .filter_map(|policy| policy.weights.as_ref());
    let weights = weights.flat_map(|weights| weights.keys());
    let prefer = file
        .policy
        .values()
        .filter_map(|policy| policy.prefer.as_ref());
    let names = weights.chain(prefer.flat_map(|prefer| prefer.iter()));
    let doubts = names.filter_map(|text| {
        let meant = paths.meant(text)?;
        let why = format!(
            "no path is named \"{}\", so it is taken for a device (did you mean \"{meant}\"?)",
            **text
        );
        Some(source.wrong(text.start(), &why).to_string())
    });
    doubts.collect()
}

/// Checks that each rule names a policy, and shows the rules.
fn rules(
    source: Source<'_>,
    file: &File,
    policies: &BTreeMap<String, Given>,
    rows: &mut Vec<Row>,
) -> Result<Vec<Rule>, Wrong> {
    let mut rules = Vec::new();
    for (number, rule) in (1..).zip(&file.rule) {
        let name = rule.policy.as_str();
        if name != DEFAULT && !policies.contains_key(name) {
            let names = policies.keys().map(String::as_str).chain([DEFAULT]);
            let hint = match nearest(name, names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "add a table [policy.NAME]".to_owned(),
            };
            let why = format!("rule {number}: there is no policy \"{name}\" ({hint})");
            return Err(source.wrong(rule.start(), &why));
        }
        let key = match &rule.name {
            Some(name) => format!("rule {number} ({name})"),
            None => format!("rule {number}"),
        };
        rows.push(Row::new(key, name, source.origin(rule.start())));
        rules.push(Rule::clone(rule));
    }
    Ok(rules)
}

/// Checks the values of the rules, and the policies that they name together.
fn check_rules(source: Source<'_>, file: &File, set: &RuleSet) -> Result<(), Wrong> {
    let checked = Rules::new(set.clone(), &Rules::default());
    checked.map(drop).map_err(|invalid| {
        let start = match &invalid.place {
            Place::Rule { number, .. } => file.rule.get(number - 1).map(At::start),
            Place::Policy(name) => {
                let mut policies = file.policy.keys();
                policies.find(|known| ***known == **name).map(At::start)
            }
            Place::Whole => None,
        };
        source.wrong(start.unwrap_or_default(), &invalid.to_string())
    })
}

/// Shows the paths of the file, and what holds for paths.
fn path_rows(source: Source<'_>, paths: &Paths<'_>, default: &Merged) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for path in paths.iter() {
        let origin = source.origin(path.name.start());
        rows.push(Row::new(
            path_key(paths, &path.selector.to_string()),
            &path.selector,
            origin,
        ));
        if let Some(standby) = &path.entry.standby {
            let key = format!("path.{}.standby", **path.name);
            rows.push(Row::new(key, **standby, source.origin(standby.start())));
        }
    }
    let given = default.policy.given();
    for (setting, values) in [
        (Shared::LIMITS, given.shared.limits),
        (Shared::QUOTAS, given.shared.quotas),
        (LeaveOut::BOUNDS, given.leave_out.leave_out),
    ] {
        for text in values {
            let (label, value) = text.rsplit_once('=').unwrap_or((&text, ""));
            let origin = default.of_paths.get(&(setting, label.to_owned()));
            let origin = origin.cloned().unwrap_or(Origin::Default);
            let key = format!("{}.{}", path_key(paths, label), key(setting));
            rows.push(Row::new(key, value, origin));
        }
    }
    rows
}

/// Returns the key of the path that has this label.
fn path_key(paths: &Paths<'_>, label: &str) -> String {
    format!("path.{}", name_of(paths, label))
}

/// Returns the name of the path that has this label, or the label.
fn name_of(paths: &Paths<'_>, label: &str) -> String {
    let selector = label.parse().ok();
    let name = selector.and_then(|selector| paths.name(&selector));
    name.unwrap_or(label).to_owned()
}

/// Shows the settings of a policy, in full.
fn policy_rows(name: &str, paths: &Paths<'_>, merged: &Merged) -> Vec<Row> {
    let given = merged.policy.given();
    let origin = |setting: Setting| {
        let origin = merged.origins.get(&setting).cloned();
        origin.unwrap_or(Origin::Default)
    };
    let own = |setting| format!("policy.{name}.{}", key(setting));
    let mut rows = vec![Row::new(
        own(Setting::NAME),
        &given.name,
        origin(Setting::NAME),
    )];
    for (setting, values) in given.values() {
        if !given.takes(setting) || setting == LeaveOut::BOUNDS || values.is_empty() {
            continue;
        }
        let texts = values.iter().map(|text| match text.rsplit_once('=') {
            Some((label, value)) if setting == Weighted::WEIGHTS => {
                format!("{}={value}", name_of(paths, label))
            }
            _ if setting == Overflow::PREFER => name_of(paths, text),
            _ => text.clone(),
        });
        let value = texts.collect::<Vec<_>>().join(" ");
        rows.push(Row::new(own(setting), value, origin(setting)));
    }
    rows
}
