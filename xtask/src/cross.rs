//! Builds for a machine of another architecture: a compiler whose standard library
//! is that machine's, and Debian's cross linker.
//!
//! The agent is linked statically, with the C library of Debian's package
//! `libc6-dev-arm64-cross`, so it needs nothing on the machine that runs it.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::Message;
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

/// The compiler's flag for a static program.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The library that the agent's build script compiles and embeds.
pub const PRELOAD_LIBRARY: &str = "libmptcp-preload.so";

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

    /// Returns Debian's name of the directories with its libraries.
    pub fn multiarch(self) -> String {
        format!("{}-linux-gnu", self.name())
    }

    /// Returns the name of one of its binutils or compilers: on a machine of another
    /// architecture it has a prefix.
    pub fn tool(self, name: &str) -> String {
        if self.name() == env::consts::ARCH {
            return name.to_owned();
        }
        format!("{}-{name}", self.multiarch())
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

/// The files of a static agent.
pub struct StaticAgent {
    /// The agent.
    pub program: PathBuf,
    /// The preload library that is embedded in it.
    pub preload_library: PathBuf,
}

/// Builds programs for an architecture.
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

    /// Returns the directory below the workspace's target directory to which this
    /// builds.
    pub fn out(&self, workspace: &Workspace) -> PathBuf {
        workspace.target.join(self.arch.target()).join("release")
    }

    /// Builds a static agent, which embeds a build's eBPF object.
    ///
    /// # Errors
    /// The compiler fails, or there is no preload library for the architecture.
    pub fn agent(&self, workspace: &Workspace, built: &Built) -> Result<StaticAgent> {
        let mut cargo = self.cargo(workspace, "mptcp-agent", &[STATIC])?;
        built.embed(&mut cargo);
        let messages = command::printed(cargo.arg("--message-format=json-render-diagnostics"))?;
        let preload_library = preload_library(&messages).with_context(|| {
            format!(
                "the agent for {} was built without its preload library; the compiler's \
                 warnings say why",
                self.arch.name()
            )
        })?;
        Ok(StaticAgent {
            program: self.out(workspace).join("mptcp-agent"),
            preload_library,
        })
    }

    /// Builds a static program of the workspace. Returns its file.
    ///
    /// # Errors
    /// The compiler fails.
    pub fn program(&self, workspace: &Workspace, package: &str) -> Result<PathBuf> {
        command::run(&mut self.cargo(workspace, package, &[STATIC])?)?;
        Ok(self.out(workspace).join(package))
    }

    /// Builds a program of the workspace that is linked with the architecture's C
    /// library at run time. Shares no compiled crate with static programs. Returns its
    /// file.
    ///
    /// # Errors
    /// The compiler fails.
    pub fn dynamic(&self, workspace: &Workspace, package: &str) -> Result<PathBuf> {
        command::run(&mut self.cargo(workspace, package, &[])?)?;
        Ok(self.out(workspace).join(package))
    }

    /// Returns a cargo that builds a package of the workspace with the release profile
    /// and these flags, and without symbols if it is for another architecture.
    fn cargo(&self, workspace: &Workspace, package: &str, more: &[&str]) -> Result<Command> {
        let target = self.arch.target();
        let upper = target.to_uppercase().replace('-', "_");
        let mut flags: Vec<String> = Vec::new();
        let mut cargo = match &self.library {
            Library::Own => {
                let own = env::var("RUSTFLAGS").unwrap_or_default();
                flags.extend(own.split_whitespace().map(str::to_owned));
                workspace.cargo()
            }
            Library::Debian(sysroot) => {
                flags.push(format!("--sysroot={}", sysroot.display()));
                let mut cargo = workspace.foreign(DEBIAN_CARGO);
                cargo
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("CARGO_TARGET_DIR", &workspace.target);
                cargo
            }
        };
        flags.extend(more.iter().map(|&flag| flag.to_owned()));
        cargo
            .args(["build", "--locked", "--release"])
            // The target is named even if it is this machine's. Otherwise the flags would
            // also apply to procedural macros, which cannot be static.
            .args(["-p", package, "--target", &target])
            // This variable is encoded, so that a path may contain a space.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        if self.arch != Arch::own()? {
            let gcc = self.arch.tool("gcc");
            cargo
                .env(format!("CARGO_TARGET_{upper}_LINKER"), gcc)
                // Without line tables, whose making would take time: they would be
                // stripped, too.
                .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
                .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        }
        Ok(cargo)
    }
}

/// Returns the preload library that the agent's build script has made, from cargo's
/// messages; `None` if it could not make one.
fn preload_library(messages: &[u8]) -> Option<PathBuf> {
    let mut scripts = Message::parse_stream(messages).filter_map(|message| match message.ok()? {
        Message::BuildScriptExecuted(script) => Some(script.out_dir),
        _ => None,
    });
    scripts.find_map(|out_dir| {
        let library = Path::new(&out_dir).join(PRELOAD_LIBRARY);
        let size = library.metadata().ok()?.len();
        (size > 0).then_some(library)
    })
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
    fn the_preload_library_is_where_the_build_script_wrote_it() -> Result<()> {
        let dir = env::temp_dir().join(format!("xtask-cross-{}", std::process::id()));
        let line = |package: &str| {
            let out_dir = dir.join(package);
            fs::create_dir_all(&out_dir)?;
            let message = serde_json::json!({
                "reason": "build-script-executed",
                "package_id": format!("path+file:///{package}#0.1.0"),
                "linked_libs": [], "linked_paths": [], "cfgs": [], "env": [],
                "out_dir": out_dir,
            });
            anyhow::Ok(format!("{message}\n"))
        };
        let messages = line("serde")? + &line("mptcp-agent")?;
        assert_eq!(preload_library(messages.as_bytes()), None);
        let library = dir.join("mptcp-agent").join(PRELOAD_LIBRARY);
        fs::write(&library, "")?;
        assert_eq!(preload_library(messages.as_bytes()), None, "it is empty");
        fs::write(&library, "ELF")?;
        assert_eq!(preload_library(messages.as_bytes()), Some(library));
        Ok(fs::remove_dir_all(dir)?)
    }

    #[test]
    fn an_architecture_has_the_names_of_each_project() {
        for (arch, name, debian) in [
            (Arch::Aarch64, "aarch64", "arm64"),
            (Arch::X86_64, "x86_64", "amd64"),
        ] {
            assert_eq!((arch.name(), arch.debian()), (name, debian));
            assert_eq!(arch.target(), format!("{name}-unknown-linux-gnu"));
            assert_eq!(arch.multiarch(), arch.target().replace("-unknown", ""));
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
