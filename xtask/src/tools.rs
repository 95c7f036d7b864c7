//! The commands that the lab and the tests use.

use std::{env, ffi::OsString, path::PathBuf};

use crate::{
    command,
    machine::{Machine, Need},
    workspace::Workspace,
};

use anyhow::{Context as _, Result, ensure};

/// The commands of the lab, each with the Debian package that contains it.
const OF_THE_LAB: [(&str, &[&str]); 5] = [
    ("ip", &["iproute2"]),
    ("tc", &["iproute2"]),
    ("ss", &["iproute2"]),
    ("nft", &["nftables"]),
    ("nsenter", &["util-linux"]),
];

/// The commands that only the tests use.
const OF_THE_TESTS: [(&str, &[&str]); 5] = [
    ("setpriv", &["util-linux"]),
    ("curl", &["curl"]),
    ("python3", &["python3"]),
    ("chromium-headless-shell", &["chromium-headless-shell"]),
    ("systemd-analyze", &["systemd"]),
];

/// Programs that the tests use out of Debian's packages. Installing these would
/// start a server on a machine with systemd, and leave a user and a service behind.
const UNPACKED: [Unpacked; 2] = [
    Unpacked {
        package: "prometheus",
        directory: "usr/bin",
        programs: &["prometheus", "promtool"],
        because: "the tests check metrics and rules with it, and let it scrape an agent",
    },
    Unpacked {
        package: "nginx",
        directory: "usr/sbin",
        programs: &["nginx"],
        because: "the tests run it by `mptcp-agent exec`",
    },
];

/// A Debian package that is unpacked, not installed.
struct Unpacked {
    package: &'static str,
    /// The directory of the programs in the package.
    directory: &'static str,
    programs: &'static [&'static str],
    because: &'static str,
}

/// Finds or installs all commands of the tests. They are then on [`path`].
pub fn prepare(machine: &Machine, workspace: &Workspace) -> Result<()> {
    supply(machine, workspace, || {
        let mut needs = missing(workspace)?;
        let because = "the tests use it beside the agent";
        needs.extend(lacking(workspace, because, &OF_THE_TESTS)?);
        for package in &UNPACKED {
            needs.extend(package.need(workspace)?);
        }
        Ok(needs)
    })
}

/// Finds or installs the commands that the lab alone uses.
pub fn prepare_lab(machine: &Machine, workspace: &Workspace) -> Result<()> {
    supply(machine, workspace, || missing(workspace))
}

fn supply(
    machine: &Machine,
    workspace: &Workspace,
    missing: impl Fn() -> Result<Vec<Need>>,
) -> Result<()> {
    machine.supply(workspace, &missing()?)?;
    let missing = missing()?;
    ensure!(
        missing.is_empty(),
        "the packages are installed, yet these commands are not on PATH: {}",
        missing
            .iter()
            .map(|need| &*need.what)
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(())
}

/// Finds a cargo subcommand of this version below the workspace's tools, or
/// installs it there, with the Debian packages that it calls.
pub fn from_cargo(
    machine: &Machine,
    workspace: &Workspace,
    name: &str,
    version: &str,
    because: &'static str,
    packages: &'static [&'static str],
) -> Result<PathBuf> {
    // One directory per version: another one never runs by mistake.
    let root = workspace.tools().join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let root = command::quote(&root.to_string_lossy());
        let need = Need {
            what: format!("{name} {version}"),
            because,
            packages,
            script: Some(format!(
                "cargo install {name} --version {version} --locked --root {root}"
            )),
            instead: None,
        };
        machine.supply(workspace, &[need])?;
    }
    Ok(program)
}

/// Finds or installs programs of Debian's packages, each with its package.
pub fn from_debian(
    machine: &Machine,
    workspace: &Workspace,
    because: &'static str,
    programs: &[(&str, &'static [&'static str])],
) -> Result<()> {
    supply(machine, workspace, || lacking(workspace, because, programs))
}

/// Returns PATH for the tests. It has our own tools, and the directories for
/// system administration, which a shell started by `su` lacks.
pub fn path(workspace: &Workspace) -> Result<OsString> {
    let user = env::var_os("PATH").unwrap_or_default();
    let dirs = [workspace.tools().join("bin")]
        .into_iter()
        .chain(env::split_paths(&user))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(dirs).context("a directory on PATH has a colon in its name")
}

fn missing(workspace: &Workspace) -> Result<Vec<Need>> {
    lacking(
        workspace,
        "the lab builds its networks with it",
        &OF_THE_LAB,
    )
}

fn lacking(
    workspace: &Workspace,
    because: &'static str,
    programs: &[(&str, &'static [&'static str])],
) -> Result<Vec<Need>> {
    let mut needs = Vec::new();
    for &(name, packages) in programs {
        if lacks(workspace, name)? {
            needs.push(Need {
                what: name.to_owned(),
                because,
                packages,
                script: None,
                instead: None,
            });
        }
    }
    Ok(needs)
}

fn lacks(workspace: &Workspace, name: &str) -> Result<bool> {
    let path = path(workspace)?;
    Ok(which::which_in(name, Some(&path), &workspace.root).is_err())
}

impl Unpacked {
    /// Returns what to do if one of the programs is missing.
    fn need(&self, workspace: &Workspace) -> Result<Option<Need>> {
        for &name in self.programs {
            if lacks(workspace, name)? {
                return Ok(Some(Need {
                    what: name.to_owned(),
                    because: self.because,
                    packages: &[],
                    script: Some(self.script(workspace)),
                    instead: None,
                }));
            }
        }
        Ok(None)
    }

    /// Returns a script that takes the programs out of the package, and checks that
    /// the machine has the libraries that they need.
    fn script(&self, workspace: &Workspace) -> String {
        let Self {
            package, directory, ..
        } = self;
        let bin = workspace.tools().join("bin");
        let bin = command::quote(&bin.to_string_lossy());
        let files = self.programs.iter();
        let files: Vec<_> = files.map(|name| format!("./{directory}/{name}")).collect();
        let unpacked: Vec<_> = self
            .programs
            .iter()
            .map(|name| format!("./{name}"))
            .collect();
        let depth = directory.split('/').count() + 1;
        format!(
            "mkdir -p {bin} && cd {bin} && rm -f {package}_*.deb && \
             apt-get -q download {package} && dpkg-deb --fsys-tarfile {package}_*.deb | \
             tar -x --strip-components={depth} {} && rm -f {package}_*.deb && \
             if ldd {} | grep 'not found'; then exit 1; fi",
            files.join(" "),
            unpacked.join(" ")
        )
    }
}
