//! The static agent, and the archive that it is in.
//!
//! It is linked with glibc's static library: every toolchain that builds the
//! agent has what that takes, and musl's standard library would have to be built
//! from source. The agent asks glibc for nothing that it would load at run time
//! (`mptcp-agent/src/host/control.rs`), so any kernel that it supports will do,
//! with whatever C library or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::release::Release;
use xtask::command;
use xtask::cross::Arch;
use xtask::workspace::Workspace;

/// Packs a static agent with its documentation, from a directory where the files are
/// laid out. Returns the agent that was packed.
pub fn pack(
    agent: &Path,
    workspace: &Workspace,
    arch: Arch,
    release: &Release,
    package: &Path,
    out: &Path,
) -> Result<PathBuf> {
    let name = format!("mptcp-agent-{}-{}", release.debian, arch.name());
    let tree = package.join(&name);
    lay_out(workspace, arch, agent, package, &tree)?;
    let archive = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    // The same commit gives the same archive.
    tar.arg("--create")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime={}", release.date))
        .args(["--use-compress-program", "gzip -9n", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(package)
        .arg(&name);
    command::run(&mut tar)?;
    Ok(tree.join("mptcp-agent"))
}

/// Makes the tree of the archive: the agent, and the files of the package that
/// make sense anywhere.
fn lay_out(
    workspace: &Workspace,
    arch: Arch,
    agent: &Path,
    package: &Path,
    tree: &Path,
) -> Result<()> {
    fs::create_dir_all(tree).with_context(|| format!("cannot make {}", tree.display()))?;
    let stripped = tree.join("mptcp-agent");
    let strip = arch.tool("strip");
    command::run(Command::new(strip).arg("-o").arg(&stripped).arg(agent))?;
    let generated = package.join("generated");
    let mut copy = Command::new("cp");
    copy.current_dir(&workspace.root)
        .args(["--recursive", "--no-preserve=mode", "--target-directory"])
        .arg(tree)
        .args(["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"])
        .args(["LICENSE-GPL-2.0-only", "docs", "deploy/systemd"])
        .args(["man", "completions", "config.toml"].map(|file| generated.join(file)))
        .arg(generated.join("libmptcp-preload.so"));
    command::run(&mut copy)?;
    let file = command::output(Command::new("file").arg(&stripped)).unwrap_or_default();
    ensure!(
        !file.contains("dynamically linked"),
        "{file}: expected a static program; is there a libc.a (libc6-dev)?"
    );
    Ok(())
}
