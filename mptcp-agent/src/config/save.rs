//! Writes a policy into the text of a file, and the text into the file.
//!
//! Comments and all that the policy does not touch stay as they are. The text is
//! read again before it counts, so what is saved is what a start would use.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mptcp_api::config::parse;
use mptcp_api::policy::{Given, LeaveOut, Overflow, Setting, Shared, Weighted};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::on_paths::is_standby;
use super::paths::Paths;
use super::policies::key;
use super::resolve::{DEFAULT, resolve};
use super::source::{Source, Wrong};
use crate::cli::Flags;
use crate::policy::selector::Selector;
use crate::policy::{Policy, Weight};

/// A change of the file that is ready to be written.
#[derive(Debug)]
pub struct Edit {
    path: PathBuf,
    before: String,
    after: String,
}

impl Edit {
    /// Prepares to write `after` in the place of `before`.
    pub fn new(path: &Path, before: String, after: String) -> Self {
        Self {
            path: path.to_owned(),
            before,
            after,
        }
    }

    /// Replaces the file at once, so that a reader finds either text as a whole.
    /// Mode and owner stay; a symbolic link stays one.
    ///
    /// # Errors
    /// The file cannot be written, or has changed since it was read; it is as it
    /// was then.
    pub fn write(&self) -> Result<()> {
        let shown = self.path.display();
        let cannot = || format!("cannot write the configuration {shown}");
        let path = fs::canonicalize(&self.path).with_context(cannot)?;
        let now = fs::read(&path).with_context(cannot)?;
        ensure!(
            now == self.before.as_bytes(),
            "the configuration {shown} has changed since it was read: try again"
        );
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let mut new = OpenOptions::new();
        let new = new.write(true).create_new(true).mode(0o600);
        let file = new.open(&beside).with_context(cannot)?;
        let done = replace(&path, &beside, file, self.after.as_bytes());
        if done.is_err() {
            // If this fails, too, a file of a telling name remains.
            let _ = fs::remove_file(&beside);
        }
        done.with_context(cannot)
    }
}

/// Writes `file`, which is `beside`, and renames it to `path`.
fn replace(path: &Path, beside: &Path, mut file: File, bytes: &[u8]) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    file.write_all(bytes)?;
    fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
    // After the owner, as a change of owner takes bits away.
    file.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)?.sync_all()
}

/// Returns the text with `policy` as the default policy.
///
/// # Errors
/// The text is wrong, or a flag takes precedence over what would be written.
pub fn edit(flags: &Flags, name: &str, text: &str, policy: &Policy) -> Result<String, Wrong> {
    resolve(flags, name, text)?;
    let source = Source { name, text };
    let file = parse(text).map_err(|mistake| source.mistake(&mistake))?;
    let paths = Paths::read(source, &file)?;
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error| Wrong::new(format!("{name}: {error}")))?;
    let given = policy.given();
    let editor = Editor {
        source,
        paths: &paths,
        given: &given,
    };
    editor
        .apply(&mut document)
        .ok_or_else(|| Wrong::new(format!("{name} is written in a way that cannot be edited")))?;
    let after = document.to_string();
    let saved = resolve(flags, name, &after)?.policy.given();
    if sorted(saved) == sorted(given) {
        return Ok(after);
    }
    Err(Wrong::new(
        "the policy cannot be saved: the agent was started with flags that take precedence over \
         the file",
    ))
}

/// Returns the settings with those lists in order that have none.
fn sorted(mut given: Given) -> Given {
    given.weighted.weights.sort_unstable();
    given.shared.limits.sort_unstable();
    given.shared.quotas.sort_unstable();
    given.leave_out.leave_out.sort_unstable();
    given
}

/// Writes a policy into a document.
struct Editor<'a> {
    source: Source<'a>,
    paths: &'a Paths<'a>,
    given: &'a Given,
}

impl Editor<'_> {
    /// Returns `None` if a value stands where a table should.
    fn apply(&self, document: &mut DocumentMut) -> Option<()> {
        let policy = table(document.as_table_mut(), "policy", true)?;
        let own = table(policy, DEFAULT, false)?;
        let without = self.plain();
        put(own, key(Setting::NAME), self.given.name.as_str().into());
        for (setting, values) in self.given.values() {
            let key = key(setting);
            if [Shared::LIMITS, LeaveOut::BOUNDS].contains(&setting) {
                continue;
            }
            if !self.given.takes(setting) {
                own.remove(key);
                continue;
            }
            match setting {
                Weighted::WEIGHTS => self.weights(own)?,
                Overflow::PREFER => {
                    let names = values.iter().map(|text| self.name(text));
                    put(own, key, Value::Array(names.collect::<Array>()));
                }
                _ => self.scalar(own, setting, &values, &without),
            }
        }
        self.on_paths(document)
    }

    /// Writes a setting with one value, if it is not the default or stands there
    /// already.
    fn scalar(
        &self,
        own: &mut dyn TableLike,
        setting: Setting,
        values: &[String],
        without: &[(Setting, Vec<String>)],
    ) {
        let key = key(setting);
        let Some(text) = values.first() else {
            own.remove(key);
            return;
        };
        let is_default = without
            .iter()
            .any(|(one, default)| *one == setting && default == values);
        if is_default && !own.contains_key(key) {
            return;
        }
        let value = match (text.parse::<i64>(), key) {
            (Ok(number), "copies" | "port") => number.into(),
            _ => text.as_str().into(),
        };
        put(own, key, value);
    }

    /// Returns the settings of the policy without any that could be left out.
    fn plain(&self) -> Vec<(Setting, Vec<String>)> {
        let mut plain = Given::named(self.given.name.as_str());
        plain.overflow = self.given.overflow.clone();
        let plain = Policy::new(plain).map(|policy| policy.given().values());
        plain.unwrap_or_default()
    }

    /// Returns the name of the path that a selector names, or the selector.
    fn name(&self, selector: &str) -> String {
        let parsed = selector.parse().ok();
        let name = parsed.and_then(|selector| self.paths.name(&selector));
        name.unwrap_or(selector).to_owned()
    }

    /// Returns the selector that a key of the file names.
    fn selector(&self, key: &str) -> Option<Selector> {
        let key = mptcp_api::config::At::new(key.to_owned(), 0);
        self.paths.selector(self.source, &key).ok()
    }

    fn listed(&self) -> Vec<Weight> {
        let texts = self.given.weighted.weights.iter();
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    fn weights(&self, own: &mut dyn TableLike) -> Option<()> {
        let listed = self.listed();
        let key = key(Weighted::WEIGHTS);
        if listed.is_empty() {
            own.remove(key);
            return Some(());
        }
        if !own.contains_key(key) {
            own.insert(key, value(toml_edit::InlineTable::new()));
        }
        let weights = own.get_mut(key)?.as_table_like_mut()?;
        let keys: Vec<String> = weights.iter().map(|(key, _)| key.to_owned()).collect();
        for key in &keys {
            let selector = self.selector(key);
            let weight = listed
                .iter()
                .find(|weight| Some(&weight.selector) == selector.as_ref());
            match weight {
                Some(weight) => put(weights, key, i64::from(weight.weight).into()),
                None => drop(weights.remove(key)),
            }
        }
        for Weight { selector, weight } in &listed {
            let is_there = |key: &String| self.selector(key).as_ref() == Some(selector);
            if !keys.iter().any(is_there) {
                let name = self.name(&selector.to_string());
                put(weights, &name, i64::from(*weight).into());
            }
        }
        Some(())
    }

    /// Writes the limit, the quota and the bounds of each path, and takes paths off standby
    /// that the policy uses.
    fn on_paths(&self, document: &mut DocumentMut) -> Option<()> {
        for path in self.paths.iter().filter(|path| is_standby(path)) {
            let selector = &path.selector;
            let weighted = self.given.takes(Weighted::WEIGHTS);
            let is_standby = |weight: &Weight| weight.selector == *selector && weight.weight == 0;
            let names = |text: &String| text.parse().ok().as_ref() == Some(selector);
            let used = weighted && !self.listed().iter().any(is_standby)
                || self.given.takes(Overflow::PREFER)
                    && !self.given.overflow.prefer.iter().any(names);
            if used {
                let all = table(document.as_table_mut(), "path", true)?;
                table(all, path.name, false)?.remove("standby");
            }
        }
        self.of_paths(document, Shared::LIMITS, &self.given.shared.limits)?;
        self.of_paths(document, Shared::QUOTAS, &self.given.shared.quotas)?;
        if self.given.takes(LeaveOut::BOUNDS) {
            let bounds = &self.given.leave_out.leave_out;
            self.of_paths(document, LeaveOut::BOUNDS, bounds)?;
        }
        Some(())
    }

    /// Writes a setting of paths, `texts` being all that hold.
    fn of_paths(
        &self,
        document: &mut DocumentMut,
        setting: Setting,
        texts: &[String],
    ) -> Option<()> {
        let key = key(setting);
        let all = texts.iter().filter_map(|text| {
            let (selector, value) = text.rsplit_once('=')?;
            Some((selector.parse().ok()?, value))
        });
        let mut all: Vec<(Selector, &str)> = all.collect();
        let is_any = !all.is_empty() || self.paths.iter().next().is_some();
        if !is_any {
            return Some(());
        }
        let paths = table(document.as_table_mut(), "path", true)?;
        for path in self.paths.iter() {
            let own = table(paths, path.name, false)?;
            match all
                .iter()
                .position(|(selector, _)| *selector == path.selector)
            {
                Some(at) => put(own, key, all.remove(at).1.into()),
                None => drop(own.remove(key)),
            }
        }
        for (selector, text) in all {
            let name = new_name(&selector, paths);
            let own = table(paths, &name, false)?;
            match &selector {
                Selector::Default => {}
                Selector::Device(device) => put(own, "device", device.as_str().into()),
                Selector::Prefix(_) => put(own, "address", selector.to_string().into()),
                Selector::Remote(_) => {
                    let text = selector.to_string();
                    put(own, "remote", text.trim_start_matches("remote:").into());
                }
                Selector::LocalId(id) => put(own, "id", i64::from(*id).into()),
                Selector::RemoteId(id) => put(own, "remote-id", i64::from(*id).into()),
                Selector::RemotePort(port) => put(own, "remote-port", i64::from(*port).into()),
            }
            put(own, key, text.into());
        }
        Some(())
    }
}

/// Returns a name for a path that the file does not name yet, or has just got.
fn new_name(selector: &Selector, paths: &dyn TableLike) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c,
        _ => '-',
    };
    let base: String = selector.to_string().chars().map(plain).take(24).collect();
    if *selector == Selector::Default {
        return base;
    }
    let is_same = |name: &str| {
        let own = paths.get(name).and_then(Item::as_table_like);
        let device = own.and_then(|own| own.get("device")).and_then(Item::as_str);
        device.is_some_and(|device| *selector == Selector::Device(device.to_owned()))
    };
    let names = [base.clone()].into_iter();
    let mut names = names.chain((2..).map(|n| format!("{base}-{n}")));
    let free = names.find(|name| !paths.contains_key(name) || is_same(name));
    free.unwrap_or(base)
}

/// Returns the table of this name, which is made if it is missing. `implicit` tells
/// that a new one has no header of its own.
fn table<'a>(
    parent: &'a mut (dyn TableLike + 'a),
    name: &str,
    implicit: bool,
) -> Option<&'a mut (dyn TableLike + 'a)> {
    if !parent.contains_key(name) {
        let mut new = Table::new();
        new.set_implicit(implicit);
        parent.insert(name, Item::Table(new));
    }
    parent.get_mut(name)?.as_table_like_mut()
}

/// Sets a value. Comments and spaces around the one before stay.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(old) = table.get_mut(key).and_then(Item::as_value_mut) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
        return;
    }
    table.insert(key, Item::Value(value));
}

#[cfg(test)]
mod tests;
