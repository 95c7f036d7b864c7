//! The commands that the lab and the tests use.

use std::{env, ffi::OsString, path::PathBuf};

use crate::{
    command,
    machine::{Machine, Need},
    workspace::Workspace,
};

use anyhow::{Context as _, Result, ensure};

/// A command, the Debian package that contains it, and what it is for.
type Tool = (&'static str, &'static [&'static str], &'static str);

const LAB: &str = "the lab builds its networks with it";

/// The commands of the lab.
const OF_THE_LAB: [Tool; 5] = [
    ("ip", &["iproute2"], LAB),
    ("tc", &["iproute2"], LAB),
    ("ss", &["iproute2"], LAB),
    ("nft", &["nftables"], LAB),
    ("nsenter", &["util-linux"], LAB),
];

/// The commands that the tests use as well.
const OF_THE_TESTS: [Tool; 3] = [
    (
        "setpriv",
        &["util-linux"],
        "the tests run the agent without root's rights by it",
    ),
    (
        "curl",
        &["curl"],
        "the tests use it as the client of TLS and unix sockets",
    ),
    (
        "systemd-analyze",
        &["systemd"],
        "the tests judge the systemd unit with it",
    ),
];

/// Finds or installs all commands of the tests. They are then on [`path`].
pub fn prepare(machine: &Machine, workspace: &Workspace) -> Result<()> {
    supply(machine, workspace, || {
        let mut needs = missing(workspace, &OF_THE_LAB)?;
        needs.extend(missing(workspace, &OF_THE_TESTS)?);
        needs.extend(missing_promtool(workspace)?);
        Ok(needs)
    })
}

/// Finds or installs the commands that the lab alone uses.
pub fn prepare_lab(machine: &Machine, workspace: &Workspace) -> Result<()> {
    supply(machine, workspace, || missing(workspace, &OF_THE_LAB))
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

fn missing(workspace: &Workspace, tools: &[Tool]) -> Result<Vec<Need>> {
    let mut needs = Vec::new();
    for &(name, packages, because) in tools {
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

fn missing_promtool(workspace: &Workspace) -> Result<Option<Need>> {
    let need = lacks(workspace, "promtool")?.then(|| Need {
        what: "promtool".to_owned(),
        because: "the tests check the agent's metrics with it",
        packages: &[],
        script: Some(promtool_script(workspace)),
        instead: None,
    });
    Ok(need)
}

fn lacks(workspace: &Workspace, name: &str) -> Result<bool> {
    let path = path(workspace)?;
    Ok(which::which_in(name, Some(&path), &workspace.root).is_err())
}

/// Returns a script that takes promtool out of the package `prometheus`.
/// Installing the package would start a server on a machine with systemd, and
/// leave a user and a service behind.
fn promtool_script(workspace: &Workspace) -> String {
    let tools = command::quote(&workspace.tools().to_string_lossy());
    format!(
        "mkdir -p {tools} && cd {tools} && rm -f prometheus_*.deb && \
         apt-get -q download prometheus && \
         dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=2 ./usr/bin/promtool && \
         rm -f prometheus_*.deb && bin/promtool --version"
    )
}
