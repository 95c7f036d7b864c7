//! The static agent, and the archive that it is in.
//!
//! It is linked with glibc's static library: every toolchain that builds the
//! agent has what that takes, and musl's standard library would have to be built
//! from source. The agent asks glibc for nothing that it would load at run time
//! (`mptcp-agent/src/host/control.rs`), so any kernel that it supports will do,
//! with whatever C library or none.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::release::Release;
use xtask::build::Built;
use xtask::command;
use xtask::workspace::Workspace;

/// Returns this machine's target. It is given to cargo by name, because only then
/// the flags do not hold for procedural macros, which cannot be static.
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

/// Builds the static agent and packs it with its documentation. Returns the agent.
pub fn build(
    workspace: &Workspace,
    built: &Built,
    release: &Release,
    out: &Path,
) -> Result<PathBuf> {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command::run(
        built
            .cargo(workspace)
            .args(["build", "--locked", "--release", "-p", "mptcp-agent"])
            .args(["--target", &target()])
            .env(
                "RUSTFLAGS",
                format!("{flags} -C target-feature=+crt-static"),
            ),
    )?;
    let agent = workspace.target.join(target()).join("release/mptcp-agent");
    let name = format!("mptcp-agent-{}-{}", release.debian, env::consts::ARCH);
    let tree = workspace.target.join("release/package").join(&name);
    lay_out(workspace, &agent, &tree)?;
    let archive = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    // The same commit gives the same archive.
    tar.arg("--create")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime={}", release.date))
        .args(["--use-compress-program", "gzip -9n", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(workspace.target.join("release/package"))
        .arg(&name);
    command::run(&mut tar)?;
    Ok(tree.join("mptcp-agent"))
}

/// Makes the tree of the archive: the agent, and the files of the package that
/// make sense anywhere.
fn lay_out(workspace: &Workspace, agent: &Path, tree: &Path) -> Result<()> {
    fs::create_dir_all(tree).with_context(|| format!("cannot make {}", tree.display()))?;
    let stripped = tree.join("mptcp-agent");
    command::run(Command::new("strip").arg("-o").arg(&stripped).arg(agent))?;
    let generated = workspace.target.join("release/package/generated");
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
