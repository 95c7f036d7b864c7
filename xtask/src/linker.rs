//! bpf-linker: it links the LLVM bitcode that rustc writes for the eBPF
//! target, so its LLVM must not be older than rustc's.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, machine::Need, version::version_key};

/// The version of LLVM, from Debian's packages, with which bpf-linker is built
/// if it has to be built.
pub const LLVM: u32 = 22;
const PACKAGES: &[&str] = &[
    "llvm-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "build-essential",
];
const VERSION: &str = "0.13.0";
/// The oldest version with which the eBPF crate has been tried.
const OLDEST: (u32, u32) = (0, 10);

/// A bpf-linker that runs and is not too old.
pub struct Linker {
    /// The program's path.
    pub path: PathBuf,
    version: String,
}

impl Linker {
    /// Looks on PATH, then in the directories to which `cargo install` installs.
    pub fn find() -> Option<Self> {
        let on_path = which::which_all("bpf-linker").into_iter().flatten();
        let installed = ["CARGO_INSTALL_ROOT", "CARGO_HOME"]
            .into_iter()
            .filter_map(env::var_os)
            .map(PathBuf::from)
            .chain(env::home_dir().map(|home| home.join(".cargo")))
            .map(|root| root.join("bin/bpf-linker"));
        on_path.chain(installed).find_map(|path| Self::at(&path))
    }

    fn at(path: &Path) -> Option<Self> {
        // Starting the program proves that it finds its libLLVM.
        let text = command::output(Command::new(path).arg("--version"))?;
        let version = text.strip_prefix("bpf-linker ")?.to_owned();
        (version_key(&version)? >= OLDEST).then(|| Self {
            path: path.to_owned(),
            version,
        })
    }

    /// Returns what to install if there is no linker.
    pub fn need() -> Need {
        let (major, minor) = OLDEST;
        Need {
            what: format!("bpf-linker {major}.{minor} or later, with LLVM {LLVM} or later"),
            because: "rustc hands the eBPF crate to it as LLVM bitcode",
            packages: PACKAGES,
            script: Some(install_command()),
            instead: Some(format!(
                "put a released bpf-linker {VERSION} on PATH (its authors publish binaries for Linux)"
            )),
        }
    }

    /// Returns an explanation of a failed link.
    pub fn hint(&self, llvm: u32) -> String {
        format!(
            "the eBPF crate does not build; if the lines above are about bitcode that cannot be \
             read (`Unknown attribute kind`, `Invalid record`), {} was built with an LLVM older \
             than rustc's {llvm}: remove it, or build another with `{}`",
            self.path.display(),
            install_command()
        )
    }
}

impl std::fmt::Display for Linker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.version, self.path.display())
    }
}

/// Finds the linker after its installation. The error says that installing it
/// did not help.
pub fn find_after_install() -> Result<Linker> {
    Linker::find().context(
        "`cargo install bpf-linker` succeeded, yet there is no bpf-linker that runs on PATH or in \
         ~/.cargo/bin: see what `bpf-linker --version` says",
    )
}

/// Returns the command that installs the linker. It has `--force` because a
/// linker that does not run may be in the way.
fn install_command() -> String {
    format!(
        "LLVM_SYS_{LLVM}1_PREFIX=/usr/lib/llvm-{LLVM} LLVM_PREFIX=/usr/lib/llvm-{LLVM} \
         cargo install bpf-linker --version {VERSION} --locked --force \
         --no-default-features --features llvm-{LLVM}"
    )
}
