//! This machine's packages: names those that are missing, and installs them if
//! allowed.

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace::Workspace};

/// Something that a verb needs and that this machine lacks.
pub struct Need {
    /// The name of the thing.
    pub what: String,
    /// The reason for which it is needed.
    pub because: &'static str,
    /// The Debian packages that contain it, or that its script needs.
    pub packages: &'static [&'static str],
    /// A shell command to run after the packages are installed.
    pub script: Option<String>,
    /// A command for systems without Debian's archive.
    pub instead: Option<String>,
}

/// The permission to change this machine.
#[derive(clap::Args)]
pub struct Machine {
    /// Install nothing: where something is missing, print the commands that
    /// would install it and fail
    #[arg(long, global = true)]
    no_install: bool,
}

impl Machine {
    /// Returns the flag that gives another program the same permission.
    pub fn flag(&self) -> Option<&'static str> {
        self.no_install.then_some("--no-install")
    }

    /// Returns whether this process is root, as the end-to-end tests need.
    pub fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Installs what is needed. If that is not allowed or fails, the error contains
    /// the commands that would do it.
    pub fn supply(&self, workspace: &Workspace, needs: &[Need]) -> Result<()> {
        if needs.is_empty() {
            return Ok(());
        }
        if let Some(reason) = self.why_not() {
            bail!("{}", advice(needs, reason));
        }
        for need in needs {
            eprintln!("      missing: {}: {}", need.what, need.because);
        }
        let packages = packages(needs);
        if !packages.is_empty() {
            eprintln!("      installing {}", packages.join(" "));
        }
        // Without an update, the lists may be of an older release, or empty.
        if let Err(error) = apt_get(&["update"]) {
            eprintln!("      going on with the package lists that are here: {error}");
        }
        let mut install = vec!["install", "--no-install-recommends", "--no-remove"];
        install.extend(&packages);
        if !packages.is_empty() && apt_get(&install).is_err() {
            eprintln!("      trying once more, with fresh package lists");
            apt_get(&["update"])
                .and_then(|()| apt_get(&install))
                .with_context(|| advice(needs, "apt-get failed twice"))?;
        }
        for script in needs.iter().filter_map(|need| need.script.as_deref()) {
            eprintln!("      running {script}");
            // The toolchain that runs xtask also builds host tools, but its other
            // settings (flags, target directory) are not meant for them.
            let mut shell = workspace.foreign("sh");
            if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
                shell.env("RUSTUP_TOOLCHAIN", toolchain);
            }
            shell.args(["-euc", script]).stdin(Stdio::null());
            command::run(&mut shell).with_context(|| advice(needs, "a command failed"))?;
        }
        Ok(())
    }

    fn why_not(&self) -> Option<&'static str> {
        if self.no_install {
            Some("--no-install was given")
        } else if !Self::is_root() {
            Some("only root can install packages")
        } else if which::which("apt-get").is_err() {
            Some("there is no apt-get here")
        } else {
            None
        }
    }
}

fn apt_get(args: &[&str]) -> Result<()> {
    command::run(
        Command::new("apt-get")
            // Another apt (a boot-time upgrade) may hold the lock for a while.
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null()),
    )
}

fn packages(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs
        .iter()
        .flat_map(|need| need.packages)
        .copied()
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Returns what is missing, why it was not installed, and the commands to
/// install it.
fn advice(needs: &[Need], reason: &str) -> String {
    let mut text = format!("this machine lacks what is needed, and {reason}\n");
    for need in needs {
        let _ = write!(
            text,
            "\n  missing: {}\n           {}",
            need.what, need.because
        );
    }
    text.push_str("\n\nOn Debian 12 or later, as root:\n");
    let packages = packages(needs);
    if !packages.is_empty() {
        let list = packages.join(" ");
        let _ = write!(
            text,
            "\n  apt-get update\n  apt-get install --no-install-recommends {list}"
        );
    }
    for script in needs.iter().filter_map(|need| need.script.as_ref()) {
        let _ = write!(text, "\n  {script}");
    }
    for need in needs {
        if let Some(instead) = &need.instead {
            let _ = write!(text, "\n\nElsewhere, for the {}:\n\n  {instead}", need.what);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> [Need; 2] {
        [
            Need {
                what: "compiler".into(),
                because: "it compiles",
                packages: &["rustc", "gcc"],
                script: None,
                instead: Some("rustup something".into()),
            },
            Need {
                what: "linker".into(),
                because: "it links",
                packages: &["gcc", "llvm"],
                script: Some("cargo install linker".into()),
                instead: None,
            },
        ]
    }

    #[test]
    fn advice_names_every_command_once_and_in_order() {
        let text = advice(&needs(), "nobody may");
        let apt = text.find("apt-get install --no-install-recommends gcc llvm rustc");
        let script = text.find("cargo install linker");
        assert!(apt.is_some() && apt < script, "{text}");
        assert!(text.contains("rustup something"), "{text}");
        assert!(text.contains("nobody may"), "{text}");
    }
}
