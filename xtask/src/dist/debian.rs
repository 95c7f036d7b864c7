//! The Debian package, by cargo-deb. `mptcp-agent/Cargo.toml` describes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use xtask::command;
use xtask::cross::Arch;
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

/// Packs the agent that is built for an architecture, and the files that are laid
/// out beside it, as this version. Returns the package's path.
pub fn build(
    machine: &Machine,
    workspace: &Workspace,
    version: &str,
    out: &Path,
    packing: Packing,
    arch: Arch,
) -> Result<PathBuf> {
    let cargo_deb = tools::from_cargo(
        machine,
        workspace,
        "cargo-deb",
        VERSION,
        "it packs the Debian package",
        &["dpkg-dev", "binutils"],
    )?;
    let package = out.join(format!("mptcp-agent_{version}-1_{}.deb", arch.debian()));
    let mut deb = Command::new(cargo_deb);
    deb.current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .args(["--quiet", "--locked", "--no-build", "-p", "mptcp-agent"])
        .args(["--deb-version", &format!("{version}-1"), "--output"])
        .arg(&package);
    if arch == Arch::own()? {
        deb.arg("--strip");
    } else {
        // It takes the files from that target's directory, where the agent lies
        // stripped: this machine's `strip` cannot read it.
        deb.args(["--target", &arch.target(), "--no-strip"]);
    }
    if matches!(packing, Packing::Fast) {
        deb.arg("--fast");
    }
    // It prints the path, which the caller shows.
    command::run(deb.stdout(Stdio::null()))?;
    Ok(package)
}
