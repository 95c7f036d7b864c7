//! `[path.NAME]`: the selector behind each name.

use mptcp_api::config::{At, File, Path, nearest};

use super::source::{Source, Wrong};
use crate::policy::MAX_SELECTORS;
use crate::policy::selector::Selector;

/// The name of every path that no other one is.
const REST: &str = "default";

/// The largest length of a name, bytes.
const LONGEST_NAME: usize = 32;

/// A path that the file names.
#[derive(Debug)]
pub struct Named<'a> {
    /// Its name.
    pub name: &'a At<String>,
    /// The selector that the name stands for.
    pub selector: Selector,
    /// Its entry in the file.
    pub entry: &'a Path,
}

/// The paths of a file, in its order.
#[derive(Debug)]
pub struct Paths<'a>(Vec<Named<'a>>);

impl<'a> Paths<'a> {
    /// Checks each path, and them against each other.
    ///
    /// # Errors
    /// A name cannot be one, a path has no selector or several, two have the same
    /// one, or there are more than the agent can tell apart.
    pub fn read(source: Source<'_>, file: &'a File) -> Result<Self, Wrong> {
        let mut paths: Vec<Named<'a>> = Vec::new();
        let mut entries: Vec<_> = file.path.iter().collect();
        entries.sort_by_key(|(name, _)| name.start());
        for (name, entry) in entries {
            check_name(source, "path", name)?;
            let selector = selector(source, name, entry)?;
            if let Some(same) = paths.iter().find(|path| path.selector == selector) {
                let why = format!(
                    "path \"{}\" is the same as path \"{}\": both are {selector}",
                    **name, **same.name
                );
                return Err(source.wrong(name.start(), &why));
            }
            let named = Named {
                name,
                selector,
                entry,
            };
            paths.push(named);
            if paths.len() > MAX_SELECTORS + 1 {
                let why = format!("there are more than {MAX_SELECTORS} paths");
                return Err(source.wrong(name.start(), &why));
            }
        }
        Ok(Self(paths))
    }

    /// Returns the paths in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Named<'a>> {
        self.0.iter()
    }

    /// Returns the path that `text` names: by its name, or as a selector.
    ///
    /// # Errors
    /// It is neither.
    pub fn selector(&self, source: Source<'_>, text: &At<String>) -> Result<Selector, Wrong> {
        if let Some(path) = self.iter().find(|path| path.name == text) {
            return Ok(path.selector.clone());
        }
        let selector: Result<Selector, String> = text.parse();
        selector.map_err(|why| {
            let names = self.iter().map(|path| path.name.as_str());
            let hint = nearest(text, names).map(|name| format!(" (did you mean \"{name}\"?)"));
            let hint = hint.unwrap_or_default();
            source.wrong(text.start(), &format!("no path has this name{hint}: {why}"))
        })
    }

    /// Returns the name of a path that someone may have meant by `text`, which is
    /// taken for the name of a device. Those usually have a digit.
    pub fn meant(&self, text: &str) -> Option<&str> {
        let mut names = self.iter().map(|path| path.name.as_str());
        let is_device = matches!(text.parse(), Ok(Selector::Device(_)));
        let is_typical = text.contains(|c: char| c.is_ascii_digit());
        if !is_device || is_typical || names.any(|name| name == text) {
            return None;
        }
        nearest(text, self.iter().map(|path| path.name.as_str()))
    }

    /// Returns the name of the path that `selector` names, if the file names it.
    pub fn name(&self, selector: &Selector) -> Option<&str> {
        let mut paths = self.iter();
        let found = paths.find(|path| path.selector == *selector);
        found.map(|path| path.name.as_str())
    }
}

/// Checks the name of a path or a policy.
///
/// # Errors
/// It is empty, too long, or has other than letters, digits, `-`, `_` and `.`.
pub fn check_name(source: Source<'_>, what: &str, name: &At<String>) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    let why = format!(
        "\"{}\" cannot be the name of a {what}: expected 1 to {LONGEST_NAME} letters, digits, \
         -, _ or .",
        name.chars().take(LONGEST_NAME + 1).collect::<String>()
    );
    Err(source.wrong(name.start(), &why))
}

/// Returns the selector of the path.
fn selector(source: Source<'_>, name: &At<String>, entry: &Path) -> Result<Selector, Wrong> {
    const KEYS: &str = "device, address, id, remote-id, remote or remote-port";
    let texts = [&entry.device, &entry.address, &entry.remote];
    let texts = ["device", "address", "remote"].into_iter().zip(texts);
    let numbers = ["id", "remote-id", "remote-port"].into_iter();
    let numbers = numbers.zip([&entry.id, &entry.remote_id, &entry.remote_port]);
    let texts = texts.filter_map(|(key, text)| {
        let text = text.as_ref()?;
        Some((key, text.to_string(), text.start()))
    });
    let numbers = numbers.filter_map(|(key, number)| {
        let number = number.as_ref()?;
        Some((key, number.to_string(), number.start()))
    });
    let mut given: Vec<_> = texts.chain(numbers).collect();
    given.sort_by_key(|(_, _, start)| *start);
    if **name == REST {
        let Some((key, _, start)) = given.first() else {
            return Ok(Selector::Default);
        };
        let why = format!("path \"{REST}\" is every path that no other one is: leave {key} out");
        return Err(source.wrong(*start, &why));
    }
    let (key, value, start) = match &given[..] {
        [one] => one,
        [] => {
            let why = format!("path \"{}\" has no selector: give it one of {KEYS}", **name);
            return Err(source.wrong(name.start(), &why));
        }
        [(first, ..), (second, _, start), ..] => {
            let why = format!(
                "path \"{}\" has {first} and {second}: give it only one of {KEYS}",
                **name
            );
            return Err(source.wrong(*start, &why));
        }
    };
    let text = match *key {
        "remote" => format!("remote:{value}"),
        "id" | "remote-id" | "remote-port" => format!("{key}:{value}"),
        _ => value.clone(),
    };
    let selector: Result<Selector, String> = text.parse();
    let selector = selector.map_err(|why| source.wrong(*start, &format!("{key}: {why}")))?;
    match (*key, &selector) {
        ("device", Selector::Device(_)) | ("address", Selector::Prefix(_)) => Ok(selector),
        ("device" | "address", _) => {
            let expected = match *key {
                "device" => "the name of a device, such as \"eth0\"",
                _ => "an address or a prefix, such as \"10.0.0.0/24\"",
            };
            let why = format!("{key} is \"{value}\": expected {expected}");
            Err(source.wrong(*start, &why))
        }
        _ => Ok(selector),
    }
}
