//! Builds for a machine of another architecture: a compiler whose standard library
//! is that machine's, and Debian's cross linker.
//!
//! The programs are linked statically, with the C library of Debian's package
//! `libc6-dev-arm64-cross`, so they need nothing on the machine that runs them.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::apt::{self, Apt, Source};
use crate::build::Built;
use crate::command;
use crate::machine::Machine;
use crate::toolchain::parse_version;
use crate::tools;
use crate::workspace::Workspace;

/// Debian's compiler, and the package with the standard library of its targets.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_PACKAGE: &str = "rustc-web";
const LIBRARIES: [&str; 2] = ["libstd-rust-web-dev", "libstd-rust-web"];
const SOURCES: [Source; 1] = [("/debian-security", "bookworm-security main")];

/// An architecture for which an agent can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// 64-bit ARM
    #[value(alias = "arm64")]
    Aarch64,
    /// 64-bit x86
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
}

impl Arch {
    /// Returns this machine's architecture.
    ///
    /// # Errors
    /// It is none of those that are listed.
    pub fn own() -> Result<Self> {
        let all = [Self::Aarch64, Self::X86_64];
        let own = all
            .into_iter()
            .find(|arch| arch.name() == env::consts::ARCH);
        own.with_context(|| {
            format!(
                "this machine is {}, and packages can be built only on x86_64 and aarch64",
                env::consts::ARCH
            )
        })
    }

    /// Returns the kernel's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Returns Debian's name of it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::X86_64 => "amd64",
        }
    }

    /// Returns the compiler's name of the target.
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// Returns the name of one of its binutils or compilers: on a machine of another
    /// architecture it has a prefix.
    pub fn tool(self, name: &str) -> String {
        if self.name() == env::consts::ARCH {
            return name.to_owned();
        }
        format!("{}-linux-gnu-{name}", self.name())
    }

    /// Returns the packages that link programs for it elsewhere.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Aarch64 => &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
            Self::X86_64 => &["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
        }
    }
}

/// Where the standard library of another architecture is.
enum Library {
    /// In the toolchain that runs xtask, as after `rustup target add`.
    Own,
    /// Below this directory, for Debian's compiler.
    Debian(PathBuf),
}

/// Builds static programs for an architecture.
pub struct Cross {
    /// The architecture.
    pub arch: Arch,
    library: Library,
}

impl Cross {
    /// Finds or installs the library and the linker that the build needs.
    ///
    /// # Errors
    /// Something is missing and cannot be installed; the error says what would.
    pub fn supply(machine: &Machine, workspace: &Workspace, arch: Arch) -> Result<Self> {
        let own = arch == Arch::own()?;
        if !own {
            let because = "it links programs for that architecture";
            let gcc = arch.tool("gcc");
            tools::from_debian(machine, workspace, because, &[(&gcc, arch.packages())])?;
        }
        let library = if own || has_library(arch) {
            Library::Own
        } else {
            Library::Debian(debian_library(machine, workspace, arch)?)
        };
        Ok(Self { arch, library })
    }

    /// Returns the directory below the workspace's target directory to which
    /// [`Cross::build`] builds.
    pub fn out(&self, workspace: &Workspace) -> PathBuf {
        workspace.target.join(self.arch.target()).join("release")
    }

    /// Builds a package of the workspace with the release profile, and without
    /// symbols if it is for another architecture.
    ///
    /// # Errors
    /// The compiler fails.
    pub fn build(&self, workspace: &Workspace, built: &Built, package: &str) -> Result<()> {
        let target = self.arch.target();
        let upper = target.to_uppercase().replace('-', "_");
        let mut flags: Vec<String> = Vec::new();
        let mut cargo = match &self.library {
            Library::Own => {
                let own = env::var("RUSTFLAGS").unwrap_or_default();
                flags.extend(own.split_whitespace().map(str::to_owned));
                built.cargo(workspace)
            }
            Library::Debian(sysroot) => {
                flags.push(format!("--sysroot={}", sysroot.display()));
                let mut cargo = workspace.foreign(DEBIAN_CARGO);
                cargo
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("CARGO_TARGET_DIR", &workspace.target);
                built.embed(&mut cargo);
                cargo
            }
        };
        // The target is named even if it is this machine's. Otherwise the flags would
        // also apply to procedural macros, which cannot be static.
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        cargo
            .args([
                "build",
                "--locked",
                "--release",
                "-p",
                package,
                "--target",
                &target,
            ])
            // This variable is encoded, so that a path may contain a space.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        if self.arch != Arch::own()? {
            let gcc = self.arch.tool("gcc");
            cargo
                .env(format!("CARGO_TARGET_{upper}_LINKER"), gcc)
                .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        }
        command::run(&mut cargo)
    }
}

/// Returns whether the toolchain that runs xtask has the standard library of an
/// architecture.
fn has_library(arch: Arch) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut rustc = Command::new(rustc);
    rustc.args(["--print", "target-libdir", "--target", &arch.target()]);
    let directory = command::output(&mut rustc).unwrap_or_default();
    let Ok(files) = fs::read_dir(directory) else {
        return false;
    };
    let mut names = files.flatten().map(|file| file.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libstd-"))
}

/// Unpacks the standard library of Debian's compiler for an architecture below the
/// workspace's tools. Returns a directory for `--sysroot`.
fn debian_library(machine: &Machine, workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let target = arch.target();
    let instead = format!("rustup target add {target}");
    let compiler = command::output(Command::new(DEBIAN_RUSTC).arg("-vV"));
    let release = compiler.as_deref().and_then(parse_version);
    let mut version = Command::new("dpkg-query");
    version.args(["-W", "-f", "${Version}", DEBIAN_PACKAGE]);
    let (Some((release, _)), Some(version)) = (release, command::output(&mut version)) else {
        bail!(
            "there is no standard library for {target}: run `{instead}`, or install Debian's \
             {DEBIAN_PACKAGE} and cargo-web, for which Debian has one"
        );
    };
    let root = workspace
        .tools()
        .join(format!("rust-{}-{version}", arch.debian()));
    let library = root.join("usr/lib/rustlib").join(&target);
    let sysroot = root.join("sysroot");
    if sysroot.exists() {
        return Ok(sysroot);
    }
    apt::supply_keyring(machine, workspace)?;
    let apt = Apt::new(workspace.tools().join("rust-apt"), &SOURCES, arch.debian())?;
    apt.update()?;
    let short = release
        .rsplit_once('.')
        .map_or(&*release, |(short, _)| short);
    let packages = [
        format!("{}={version}", LIBRARIES[0]),
        format!("{}-{short}={version}", LIBRARIES[1]),
    ];
    let debs: Vec<PathBuf> = packages
        .iter()
        .map(|package| apt.download(package))
        .collect::<Result<_>>()
        .with_context(|| {
            format!("Debian has no standard library for {target} beside its rustc: `{instead}`")
        })?;
    apt::unpack(&debs, &root)?;
    fs::remove_dir_all(apt.dir())?;
    ensure!(
        library.exists(),
        "the packages {} have no {}",
        packages.join(" "),
        library.display()
    );
    let place = sysroot.join("lib/rustlib");
    fs::create_dir_all(&place)
        .and_then(|()| symlink(&library, place.join(&target)))
        .with_context(|| format!("cannot make {}", place.display()))?;
    Ok(sysroot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_the_names_of_each_project() {
        for (arch, name, debian) in [
            (Arch::Aarch64, "aarch64", "arm64"),
            (Arch::X86_64, "x86_64", "amd64"),
        ] {
            assert_eq!((arch.name(), arch.debian()), (name, debian));
            assert_eq!(arch.target(), format!("{name}-unknown-linux-gnu"));
            let own = name == env::consts::ARCH;
            let strip = if own {
                "strip".to_owned()
            } else {
                format!("{name}-linux-gnu-strip")
            };
            assert_eq!(arch.tool("strip"), strip);
            assert_eq!(Arch::from_str(debian, false), Ok(arch));
            assert_eq!(Arch::from_str(name, false), Ok(arch));
        }
    }
}
