//! A separate apt: it downloads packages and checks their signatures, with its
//! package lists in the target directory. It works whatever the release of this
//! machine, and does not touch the machine's own apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::machine::{Machine, Need};
use crate::workspace::Workspace;

/// The keys with which packages are signed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs [`KEYRING`], the only thing that this machine itself must have.
///
/// # Errors
/// It is not there and cannot be installed.
pub fn supply_keyring(machine: &Machine, workspace: &Workspace) -> Result<()> {
    if Path::new(KEYRING).exists() {
        return Ok(());
    }
    let need = Need {
        what: "debian-archive-keyring".to_owned(),
        because: "packages from Debian's archive are checked with it",
        packages: &["debian-archive-keyring"],
        script: None,
        instead: None,
    };
    machine.supply(workspace, &[need])
}

/// The end of an archive's address, and one of its suites.
pub type Source = (&'static str, &'static str);

/// An apt with its own directory.
pub struct Apt {
    dir: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// Sets up an apt in `dir` that knows these sources, for machines of an
    /// architecture as Debian names it.
    pub fn new(dir: PathBuf, sources: &[Source], architecture: &str) -> Result<Self> {
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        fs::write(dir.join("sources.list"), list(sources, architecture)?)?;
        // No package counts as installed.
        fs::write(dir.join("status"), "")?;
        let config = dir.join("apt.conf");
        let own = dir.display();
        fs::write(
            &config,
            format!(
                "APT::Architecture \"{architecture}\";\n\
                 APT::Architectures {{ \"{architecture}\"; }};\n\
                 Dir::Etc::SourceList \"{own}/sources.list\";\n\
                 Dir::Etc::SourceParts \"/dev/null\";\n\
                 Dir::State::Lists \"{own}/lists\";\n\
                 Dir::State::Status \"{own}/status\";\n\
                 Dir::Cache \"{own}/cache\";\n\
                 Acquire::Languages \"none\";\n\
                 APT::Sandbox::User \"\";\n"
            ),
        )?;
        Ok(Self { dir, config })
    }

    /// Returns the apt's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Brings the package lists up to date.
    pub fn update(&self) -> Result<()> {
        command::run(self.command("apt-get").args(["-qq", "update"]))
    }

    /// Returns a command for one of apt's programs, which uses and runs in our
    /// directory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// Downloads one package, unless it is here, and returns its file.
    pub fn download(&self, package: &str) -> Result<PathBuf> {
        let show = ["show", "--no-all-versions", package];
        let facts = command::output(self.command("apt-cache").args(show)).unwrap_or_default();
        let file = facts
            .lines()
            .find_map(|line| line.strip_prefix("Filename: "));
        let file = file.and_then(|path| path.rsplit('/').next());
        let deb = self
            .dir
            .join(file.with_context(|| format!("there is no {package}"))?);
        // apt-get downloads nothing if the right file is there.
        let get = ["-q", "download", package];
        command::run(self.command("apt-get").args(get).stdout(Stdio::null()))?;
        ensure!(deb.exists(), "apt-get has left no {}", deb.display());
        Ok(deb)
    }

    /// Downloads packages and all their dependencies, and returns the files.
    /// Deletes the files that an earlier call downloaded.
    pub fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let archives = self.dir.join("cache/archives");
        for deb in debs_in(&archives)? {
            fs::remove_file(deb)?;
        }
        let mut install = self.command("apt-get");
        install
            .args(["-qq", "-y", "--no-install-recommends", "--download-only"])
            .arg("install")
            .args(packages)
            .stdout(Stdio::null());
        command::run(&mut install)?;
        debs_in(&archives)
    }
}

/// Unpacks packages into `root`, over any files that are there.
pub fn unpack(debs: &[PathBuf], root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for deb in debs {
        command::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(root))?;
    }
    Ok(())
}

fn debs_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut debs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            debs.push(path);
        }
    }
    Ok(debs)
}

/// Returns the list of sources, at the mirrors that this machine's apt uses.
fn list(sources: &[Source], architecture: &str) -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)"]);
    let known = command::output(&mut targets).unwrap_or_default();
    let mut list = String::new();
    for (ending, suite) in sources {
        let mut mirrors = known.lines().map(|line| line.trim_end_matches('/'));
        let mirror = mirrors.rfind(|line| line.ends_with(ending));
        let mirror = mirror.with_context(|| {
            format!(
                "this machine's apt has no archive that ends in {ending}: packages for other \
                 machines, kernels and QEMU come from Debian's"
            )
        })?;
        list.push_str(&format!(
            "deb [arch={architecture} signed-by={KEYRING}] {mirror} {suite}\n"
        ));
    }
    Ok(list)
}
