//! The software bill of materials, by cargo-cyclonedx.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;

use super::release::Release;
use xtask::command;
use xtask::machine::Machine;
use xtask::tools;
use xtask::workspace::Workspace;

const VERSION: &str = "0.5.9";

/// The name that cargo-cyclonedx gives its files, without `.json`.
const NAME: &str = "mptcp-agent.cdx";

/// Writes what the agent for a target is made of, with versions and licences, in the format of
/// CycloneDX 1.5.
pub fn write(
    machine: &Machine,
    workspace: &Workspace,
    release: &Release,
    target: &str,
    out: &Path,
) -> Result<()> {
    let program = tools::from_cargo(
        machine,
        workspace,
        "cargo-cyclonedx",
        VERSION,
        "it lists the crates that the agent is made of",
        &[],
    )?;
    let mut list = Command::new(program);
    list.current_dir(&workspace.root)
        .args(["cyclonedx", "--quiet", "--format", "json", "--all"])
        .args(["--no-build-deps", "--spec-version", "1.5"])
        .args(["--target", target])
        .args(["--override-filename", NAME]);
    let made = command::run(&mut list);
    let text = collect(workspace);
    made?;
    let text = text?;
    // Whose machine it was built on is nobody's concern.
    let text = text.replace(&*workspace.root.to_string_lossy(), ".");
    let file = out.join(format!("mptcp-agent-{}.cdx.json", release.debian));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Returns the agent's list. cargo-cyclonedx writes one into the directory of each
/// package of the workspace; this removes them all.
fn collect(workspace: &Workspace) -> Result<String> {
    let mut metadata = MetadataCommand::new();
    let metadata = metadata.current_dir(&workspace.root).no_deps().exec()?;
    let mut agent = None;
    for package in metadata.packages {
        let file = package.manifest_path.with_file_name(format!("{NAME}.json"));
        if package.name.as_str() == "mptcp-agent" {
            agent = fs::read_to_string(&file).ok();
        }
        // A package for which there is no list has no file.
        let _ = fs::remove_file(&file);
    }
    agent.context("cargo-cyclonedx has written no list for mptcp-agent")
}
