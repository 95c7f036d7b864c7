//! Checks the crates that the project depends on: their licences, their sources,
//! and that no crate has two versions.
//!
//! These are the checks of cargo-deny that need no network. We do not use
//! cargo-deny, because a machine without it would take minutes to build it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{MetadataCommand, Package};
use spdx::{Expression, ParseMode};
use xtask::workspace::Workspace;

/// Licences that a crate may have.
const LICENCES: [&str; 7] = [
    "Apache-2.0",
    "BSD-3-Clause",
    "ISC",
    "LGPL-2.1-or-later",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// The only registry from which crates may come.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that others need in two versions. If a crate no longer has two versions,
/// remove it from this list.
const TWICE: [&str; 4] = ["foldhash", "getrandom", "hashbrown", "syn"];

/// Checks every crate in `Cargo.lock` that is built on Linux.
///
/// # Errors
/// A crate does not pass; the error names each that does not, and why.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut command = MetadataCommand::new();
    command.current_dir(&workspace.root).other_options(
        ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned),
    );
    let metadata = command.exec().context("cannot read the dependencies")?;
    let built: BTreeSet<_> = metadata
        .resolve
        .context("cargo metadata resolved nothing")?
        .nodes
        .into_iter()
        .map(|node| node.id)
        .collect();
    let own: BTreeSet<_> = metadata.workspace_members.iter().cloned().collect();
    let foreign: Vec<Package> = metadata
        .packages
        .into_iter()
        .filter(|package| built.contains(&package.id) && !own.contains(&package.id))
        .collect();
    let mut wrong: Vec<String> = foreign.iter().filter_map(objection).collect();
    wrong.extend(duplicates(&foreign));
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("these dependencies do not pass:\n{}", wrong.join("\n"))
}

/// Says what is wrong with a crate's licence or source, if anything is.
fn objection(package: &Package) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    let source = package.source.as_ref().map(|source| source.repr.as_str());
    if source != Some(SOURCE) {
        return Some(format!(
            "{name} does not come from crates.io, but {source:?}"
        ));
    }
    let licence = package.license.as_deref().unwrap_or_default();
    if is_allowed(licence) {
        return None;
    }
    Some(format!(
        "{name} has the licence `{licence}`, which xtask/src/dependencies.rs does not list"
    ))
}

/// Returns whether the listed licences satisfy an SPDX expression.
fn is_allowed(licence: &str) -> bool {
    Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|required| {
            let id = required.license.id();
            id.is_some_and(|id| LICENCES.contains(&id.name))
        })
    })
}

/// Names the crates that have several versions but are not listed, and those that
/// are listed but have only one.
fn duplicates(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let known = versions.entry(package.name.as_str()).or_default();
        known.insert(package.version.to_string());
    }
    versions.retain(|_, versions| versions.len() > 1);
    let mut wrong: Vec<String> = versions
        .iter()
        .filter(|(name, _)| !TWICE.contains(name))
        .map(|(name, versions)| format!("{name} has several versions: {versions:?}"))
        .collect();
    let listed = TWICE.iter().filter(|name| !versions.contains_key(*name));
    wrong.extend(
        listed.map(|name| format!("{name} is listed in TWICE, but does not have two versions")),
    );
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_needs_a_listed_licence() {
        for licence in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(is_allowed(licence), "{licence}");
        }
        for licence in ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "none of these"] {
            assert!(!is_allowed(licence), "{licence}");
        }
    }
}
