//! A fresh Debian below a directory: first as a chroot, then booted, with systemd
//! as process 1 of namespaces of its own. Nothing in it can reach this machine's
//! network, processes or services.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::roots::Root;
use xtask::workspace::Workspace;

/// A fresh Debian of this machine's own release: its essential packages, and systemd.
const DEBIAN: Root = Root {
    name: "debian-root",
    release: None,
    options: &["--variant=minbase", "--include=systemd-sysv"],
};

/// What a boot takes, and what ends it: systemd expects these mounts of whoever
/// starts it in a container. `$1` is the root.
const BOOT: &str = r#"
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ip link set lo up
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot . /lib/systemd/systemd --system --log-target=console
"#;

/// How long systemd may take to start and to stop what it runs.
const SOON: Duration = Duration::from_secs(60);

/// A Debian below a directory, removed at the end.
pub struct Guest {
    /// Its root directory.
    pub root: PathBuf,
    /// `unshare`, whose child is systemd, once it is booted.
    init: Option<Child>,
}

impl Guest {
    /// Unpacks a fresh Debian of this machine's own release.
    pub fn fresh(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target.join("dist-root");
        let guest = Self { root, init: None };
        // What a killed run left.
        guest.remove();
        DEBIAN.unpack(workspace, &guest.root)?;
        Ok(guest)
    }

    /// Returns a shell that runs a script in the guest: in its namespaces if it is
    /// booted, else in a chroot.
    pub fn shell(&self, script: &str) -> Result<Command> {
        let mut shell = match &self.init {
            None => {
                let mut chroot = Command::new("chroot");
                chroot.arg(&self.root);
                chroot
            }
            Some(unshare) => {
                let init = init_of(unshare).context("the guest's systemd has ended")?;
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--target={init}"));
                enter.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]);
                enter.args(["--root", "--wd"]);
                enter
            }
        };
        shell
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .args(["/bin/sh", "-euc", script])
            .stdin(Stdio::null());
        Ok(shell)
    }

    /// Runs a script in the guest and returns what it prints.
    ///
    /// # Errors
    /// It fails; the error has all that it printed.
    pub fn run(&self, script: &str) -> Result<String> {
        let output = self
            .shell(script)?
            .output()
            .with_context(|| format!("cannot run `{script}` in the guest"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        ensure!(
            output.status.success(),
            "{} from `{script}` in the guest:\n{}\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Waits until a script succeeds, for [`SOON`] at most.
    ///
    /// # Errors
    /// It does not; the error is that of the last try.
    pub fn wait(&self, script: &str) -> Result<String> {
        let deadline = Instant::now() + SOON;
        loop {
            match self.run(script) {
                Ok(text) => return Ok(text),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Copies a file into the guest's root directory, where it has the same name.
    pub fn give(&self, file: &Path) -> Result<()> {
        let name = file.file_name().context("a file has a name")?;
        let place = self.root.join(name);
        fs::copy(file, &place).with_context(|| format!("cannot write {}", place.display()))?;
        Ok(())
    }

    /// Boots the guest, and waits until its services are up.
    pub fn boot(&mut self) -> Result<()> {
        let log = self.root.with_extension("log");
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"])
            .args(["--fork", "--kill-child=KILL", "sh", "-euc", BOOT, "boot"])
            .arg(&self.root)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        self.init = Some(unshare.spawn().context("cannot start unshare")?);
        // `degraded`: a container lacks this and that; our unit is asked for by name.
        let up = "case $(systemctl is-system-running) in running|degraded) ;; *) false;; esac";
        if let Err(error) = self.wait(up) {
            bail!(
                "the guest does not boot ({} has its log): {error}",
                log.display()
            );
        }
        Ok(())
    }

    /// Ends all processes of the guest, and removes its files.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(mut unshare) = self.init.take() {
            // Its child, process 1 of the guest, dies with it, and all others with that.
            let _ = unshare.kill();
            let _ = unshare.wait();
        }
        self.remove();
    }
}

/// Returns the only child of `unshare`.
fn init_of(unshare: &Child) -> Option<u32> {
    let id = unshare.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
