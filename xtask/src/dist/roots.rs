//! Root directories of other systems, made of Debian's packages. Each is made once,
//! and kept as an archive below the workspace's tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use xtask::command;
use xtask::workspace::Workspace;

/// A system.
pub struct Root {
    /// The name of its archive.
    pub name: &'static str,
    /// The Debian release that it is made of; this machine's own if there is none.
    pub release: Option<&'static str>,
    /// What mmdebstrap is to do: the variant, and further packages.
    pub options: &'static [&'static str],
}

impl Root {
    /// Unpacks the system below a directory, which need not exist. Leaves out what
    /// belongs in /dev.
    ///
    /// # Errors
    /// mmdebstrap fails; it says why.
    pub fn unpack(&self, workspace: &Workspace, root: &Path) -> Result<()> {
        let archive = workspace.tools().join(format!("{}.tar", self.name));
        if !archive.exists() {
            self.make(&archive)?;
        }
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(&archive);
        tar.args(["--exclude=./dev/*", "--directory"]).arg(root);
        command::run(&mut tar)
    }

    fn make(&self, archive: &Path) -> Result<()> {
        let own;
        let release = match self.release {
            Some(release) => release,
            None => {
                own = own_release()?;
                &own
            }
        };
        let unfinished = archive.with_extension("tar.tmp");
        fs::create_dir_all(archive.parent().unwrap_or(archive))?;
        let mut debootstrap = Command::new("mmdebstrap");
        debootstrap
            .args(self.options)
            .args(["--quiet", "--format=tar"])
            .arg(release)
            .arg(&unfinished);
        command::run(&mut debootstrap)?;
        fs::rename(&unfinished, archive)
            .with_context(|| format!("cannot rename {}", unfinished.display()))
    }
}

/// Returns the name of this machine's Debian release.
fn own_release() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let mut lines = release.lines();
    let name = lines.find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = name.context("/etc/os-release has no VERSION_CODENAME: the check needs Debian")?;
    Ok(name.to_owned())
}
