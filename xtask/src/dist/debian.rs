//! The Debian package, by cargo-deb. `mptcp-agent/Cargo.toml` describes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use xtask::command;
use xtask::machine::{Machine, Need};
use xtask::tools;
use xtask::workspace::Workspace;

const VERSION: &str = "3.8.0";

/// Packs the agent that is built, and the files that are laid out, as this
/// version. Returns the package's path.
pub fn build(
    machine: &Machine,
    workspace: &Workspace,
    version: &str,
    out: &Path,
) -> Result<PathBuf> {
    let cargo_deb = tools::from_cargo(machine, workspace, "cargo-deb", VERSION, || Need {
        what: "cargo-deb".to_owned(),
        because: "it packs the Debian package",
        packages: &["dpkg-dev", "binutils"],
        script: None,
        instead: None,
    })?;
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
    command::run(&mut deb)?;
    Ok(package)
}
