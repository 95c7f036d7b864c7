//! The toolchain that compiles the eBPF crate.
//!
//! `bpfel-unknown-none` has no prebuilt `core`, so cargo builds it
//! (`-Z build-std=core`). That needs a toolchain with the library sources:
//! either a rustup toolchain with the component rust-src, or Debian's packages
//! rustc-web, cargo-web and rust-web-src in /usr. Both are just directories
//! with `bin/rustc`, `bin/cargo` and `lib/rustlib/src/rust` below them.
//! RUSTC_BOOTSTRAP=1 makes a toolchain that is not a nightly accept `-Z` flags.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, linker, machine::Need, version::version_key, workspace::Workspace};

const DEBIAN: &str = "/usr";
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_CLIPPY: &[&str] = &["rust-web-clippy"];
/// Installs a nightly with the same LLVM that bpf-linker is built with here.
const RUSTUP_COMMAND: &str =
    "rustup toolchain install nightly-2026-05-20 --component rust-src --component clippy";

/// A rustc, its cargo and its library sources.
pub struct Toolchain {
    prefix: PathBuf,
    version: String,
    llvm: u32,
}

impl Toolchain {
    /// Finds the first toolchain that can build the eBPF crate: rustup's, nightlies
    /// first, then Debian's. A toolchain whose LLVM is newer than that of our
    /// bpf-linker comes last.
    pub fn find() -> Option<Self> {
        let debian = PathBuf::from(DEBIAN);
        let mut found: Vec<Self> = rustup_prefixes()
            .into_iter()
            .chain([debian])
            .filter_map(Self::at)
            .collect();
        found.sort_by_key(|toolchain| toolchain.llvm > linker::LLVM);
        found.into_iter().next()
    }

    /// Returns the toolchain below this directory, if there is one that works.
    fn at(prefix: PathBuf) -> Option<Self> {
        let rustc = prefix.join("bin/rustc");
        let sources = prefix.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !prefix.join("bin/cargo").exists() || !sources.exists() {
            return None;
        }
        let text = command::output(Command::new(rustc).arg("-vV"))?;
        let (version, llvm) = parse_version(&text)?;
        let wanted = version_key(env!("CARGO_PKG_RUST_VERSION"))?;
        (version_key(&version)? >= wanted).then_some(Self {
            prefix,
            version,
            llvm,
        })
    }

    /// Returns what to install if there is no such toolchain.
    pub fn need() -> Need {
        Need {
            what: format!(
                "eBPF toolchain (rustc {} or later, with its library sources)",
                env!("CARGO_PKG_RUST_VERSION")
            ),
            because: "the eBPF target has no prebuilt core library: cargo builds it from source",
            packages: DEBIAN_PACKAGES,
            script: None,
            instead: Some(RUSTUP_COMMAND.to_owned()),
        }
    }

    /// Returns what to install if this toolchain has no clippy.
    pub fn clippy_need(&self) -> Option<Need> {
        let bin = self.prefix.join("bin");
        if bin.join("cargo-clippy").exists() && bin.join("clippy-driver").exists() {
            return None;
        }
        let mut need = Self::debian_clippy_need();
        if self.prefix != Path::new(DEBIAN) {
            let name = self.prefix.file_name().unwrap_or_default();
            let name = command::quote(&name.to_string_lossy());
            need.packages = &[];
            need.script = Some(format!("rustup component add clippy --toolchain {name}"));
        }
        Some(need)
    }

    /// Returns the clippy of Debian's toolchain, for installing both together.
    pub fn debian_clippy_need() -> Need {
        Need {
            what: "clippy of the eBPF toolchain".to_owned(),
            because: "the eBPF crate is linted for its own target",
            packages: DEBIAN_CLIPPY,
            script: None,
            instead: None,
        }
    }

    /// Returns LLVM's major version; bpf-linker's must not be older.
    pub fn llvm(&self) -> u32 {
        self.llvm
    }

    /// Returns `cargo`; the caller adds a subcommand and its arguments.
    pub fn cargo(&self, workspace: &Workspace) -> Command {
        self.program(workspace, "cargo")
    }

    /// Returns `cargo-clippy`, which needs `clippy` as its first argument. Calling
    /// `cargo clippy` instead would start the clippy of another toolchain.
    pub fn cargo_clippy(&self, workspace: &Workspace) -> Command {
        let mut clippy = self.program(workspace, "cargo-clippy");
        clippy.env("CARGO", self.prefix.join("bin/cargo"));
        clippy
    }

    fn program(&self, workspace: &Workspace, name: &str) -> Command {
        let bin = self.prefix.join("bin");
        let mut command = workspace.foreign(bin.join(name));
        command
            .env("RUSTC", bin.join("rustc"))
            .env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            version,
            llvm,
        } = self;
        let whose = if prefix == Path::new(DEBIAN) {
            "Debian's"
        } else {
            "rustup's"
        };
        write!(
            f,
            "{whose} rustc {version} (LLVM {llvm}) in {}",
            prefix.display()
        )
    }
}

/// Finds the toolchain after its installation. The error says that installing it
/// did not help.
pub fn find_after_install() -> Result<Toolchain> {
    Toolchain::find().with_context(|| {
        format!(
            "the packages {} are installed, yet {DEBIAN} holds no rustc {} or later with its \
             library sources: see `apt-cache policy rustc-web` (the Debian release may be too \
             old, or its security archive not listed), or use `{RUSTUP_COMMAND}`",
            DEBIAN_PACKAGES.join(", "),
            env!("CARGO_PKG_RUST_VERSION")
        )
    })
}

/// Returns the directories of rustup's toolchains, nightlies first.
fn rustup_prefixes() -> Vec<PathBuf> {
    // `rustup toolchain list -v` prints: name, (marks), path.
    let list = command::output(Command::new("rustup").args(["toolchain", "list", "-v"]));
    let list = list.unwrap_or_default();
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_by_key(|line| !line.starts_with("nightly"));
    lines
        .into_iter()
        .filter_map(|line| line.find('/').map(|start| line[start..].into()))
        .collect()
}

/// Returns the release and LLVM's major version from the output of `rustc -vV`.
pub(crate) fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((field("release: ")?.to_owned(), llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rustc_prints() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\n\
                    release: 1.97.0-nightly\nLLVM version: 22.1.4";
        assert_eq!(parse_version(text), Some(("1.97.0-nightly".into(), 22)));
        assert_eq!(parse_version("rustc 1.0"), None);
    }
}
