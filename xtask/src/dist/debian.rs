//! The Debian package, by cargo-deb. `mptcp-agent/Cargo.toml` describes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use xtask::command;
use xtask::machine::Machine;
use xtask::tools;
use xtask::workspace::Workspace;

const VERSION: &str = "3.8.0";

/// How a package is compressed.
#[derive(Clone, Copy)]
pub enum Packing {
    /// As small as can be, for others.
    Small,
    /// Quickly, for a check.
    Fast,
}

/// Packs the agent that is built, and the files that are laid out, as this
/// version. Returns the package's path.
pub fn build(
    machine: &Machine,
    workspace: &Workspace,
    version: &str,
    out: &Path,
    packing: Packing,
) -> Result<PathBuf> {
    let cargo_deb = tools::from_cargo(
        machine,
        workspace,
        "cargo-deb",
        VERSION,
        "it packs the Debian package",
        &["dpkg-dev", "binutils"],
    )?;
    let architecture = command::output(Command::new("dpkg").arg("--print-architecture"))
        .context("`dpkg --print-architecture` fails: is this Debian?")?;
    let package = out.join(format!("mptcp-agent_{version}-1_{architecture}.deb"));
    let mut deb = Command::new(cargo_deb);
    deb.current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .args([
            "--quiet",
            "--locked",
            "--no-build",
            "--strip",
            "-p",
            "mptcp-agent",
        ])
        .args(["--deb-version", &format!("{version}-1"), "--output"])
        .arg(&package);
    if matches!(packing, Packing::Fast) {
        deb.arg("--fast");
    }
    // It prints the path, which the caller shows.
    command::run(deb.stdout(Stdio::null()))?;
    Ok(package)
}
