//! Finds the workspace and its target directory, and makes the cargo commands
//! that run in them.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;

/// The workspace's directories, as cargo names them. So CARGO_TARGET_DIR and
/// configuration files are respected.
pub struct Workspace {
    /// The directory of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// The directory in which cargo builds.
    pub target: PathBuf,
    /// The root file of each library, program and test of the workspace.
    pub sources: Vec<PathBuf>,
}

impl Workspace {
    /// Asks cargo for the workspace.
    pub fn find() -> Result<Self> {
        let mut command = MetadataCommand::new();
        command.no_deps();
        // An xtask that is started by its path must still find its own workspace.
        if env::var_os("CARGO_MANIFEST_DIR").is_none() {
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
        }
        let metadata = command
            .exec()
            .context("cannot find the workspace: run `cargo xtask` from inside the repository")?;
        let targets = metadata
            .packages
            .into_iter()
            .flat_map(|package| package.targets);
        Ok(Self {
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
            sources: targets
                .filter(|target| !target.is_custom_build())
                .map(|target| target.src_path.into())
                .collect(),
        })
    }

    /// Returns the directory for tools that only this workspace uses.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Returns the cargo that runs xtask, for the user-space crates. It keeps the
    /// user's own choices (RUSTFLAGS, toolchain) but not the variables that the
    /// outer `cargo run` adds, which would make cargo build everything again.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(outer_cargo());
        cargo.current_dir(&self.root);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        for (name, _) in env::vars_os() {
            if is_of_outer_package(&name) {
                cargo.env_remove(name);
            }
        }
        self.restore_library_path(&mut cargo);
        cargo
    }

    /// Returns a command for a cargo, or for a program that starts one. It inherits
    /// nothing about another toolchain, other flags or another target.
    pub fn foreign(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            if is_of_a_toolchain(&name) {
                command.env_remove(name);
            }
        }
        self.restore_library_path(&mut command);
        command
    }

    /// Removes what `cargo run` added to LD_LIBRARY_PATH: another toolchain's rustc
    /// must not load the libraries of the outer toolchain.
    fn restore_library_path(&self, command: &mut Command) {
        const NAME: &str = "LD_LIBRARY_PATH";
        let Some(paths) = env::var_os(NAME) else {
            return;
        };
        let sysroot = outer_cargo();
        let sysroot = Path::new(&sysroot).ancestors().nth(2);
        let sysroot = sysroot.filter(|path| !path.as_os_str().is_empty());
        let kept: Vec<PathBuf> = env::split_paths(&paths)
            .filter(|path| !path.starts_with(&self.target))
            .filter(|path| sysroot.is_none_or(|sysroot| !path.starts_with(sysroot)))
            .collect();
        match env::join_paths(&kept) {
            Ok(paths) if !kept.is_empty() => command.env(NAME, paths),
            _ => command.env_remove(NAME),
        };
    }
}

fn outer_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn is_of_outer_package(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    })
}

fn is_of_a_toolchain(name: &OsStr) -> bool {
    // How cargo reaches the network, where its cache is, and what it prints.
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    const DROPPED: [&str; 6] = [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CLIPPY_",
    ];
    let starts = |prefixes: &[&str]| {
        name.to_str()
            .is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    };
    starts(&DROPPED) && !starts(&KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_cargo_keeps_the_way_to_the_network_only() {
        for name in [
            "RUSTFLAGS",
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_of_a_toolchain(OsStr::new(name)), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "PATH"] {
            assert!(!is_of_a_toolchain(OsStr::new(name)), "{name}");
        }
    }
}
