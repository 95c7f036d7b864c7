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
const OF_THE_TESTS: [(&str, &[&str]); 4] = [
    ("setpriv", &["util-linux"]),
    ("curl", &["curl"]),
    ("chromium-headless-shell", &["chromium-headless-shell"]),
    ("systemd-analyze", &["systemd"]),
];

/// The programs of Debian's package `prometheus` that the tests use.
const PROMETHEUS: [&str; 2] = ["prometheus", "promtool"];

/// Finds or installs all commands of the tests. They are then on [`path`].
pub fn prepare(machine: &Machine, workspace: &Workspace) -> Result<()> {
    supply(machine, workspace, || {
        let mut needs = missing(workspace)?;
        let because = "the tests use it on the agent's unit, listeners and page";
        needs.extend(lacking(workspace, because, &OF_THE_TESTS)?);
        needs.extend(missing_prometheus(workspace)?);
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

fn missing_prometheus(workspace: &Workspace) -> Result<Option<Need>> {
    for name in PROMETHEUS {
        if lacks(workspace, name)? {
            return Ok(Some(Need {
                what: name.to_owned(),
                because: "the tests check metrics and rules with it, and let it scrape an agent",
                packages: &[],
                script: Some(prometheus_script(workspace)),
                instead: None,
            }));
        }
    }
    Ok(None)
}

fn lacks(workspace: &Workspace, name: &str) -> Result<bool> {
    let path = path(workspace)?;
    Ok(which::which_in(name, Some(&path), &workspace.root).is_err())
}

/// Returns a script that takes [`PROMETHEUS`] out of the package `prometheus`.
/// Installing the package would start a server on a machine with systemd, and
/// leave a user and a service behind.
fn prometheus_script(workspace: &Workspace) -> String {
    let tools = command::quote(&workspace.tools().to_string_lossy());
    let files = PROMETHEUS.map(|name| format!("./usr/bin/{name}")).join(" ");
    format!(
        "mkdir -p {tools} && cd {tools} && rm -f prometheus_*.deb && \
         apt-get -q download prometheus && \
         dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=2 {files} && \
         rm -f prometheus_*.deb && bin/promtool --version"
    )
}
