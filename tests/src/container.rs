//! Mount, PID and cgroup namespaces, for programs that run as in a container.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::cleanup::Cleanup;

/// A limit above the number of mounts ever stacked on /run/netns.
const STACK_MAX: usize = 16;
/// An absent string argument of `mount`.
const NONE: Option<&std::ffi::CStr> = None;

/// The namespaces that a program gets for itself. A [`Container::default`]
/// shares everything with the caller.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// # let (host, binary) = (mptcp_lab::Lab::new()?.host("client")?, std::path::Path::new(""));
/// use mptcp_lab::{Agent, Container};
/// let inside = host.container(Container::default().pids());
/// let agent = Agent::start(&inside, binary, &["--policy", "default"])?;
/// # drop(agent); Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Container {
    mounts: bool,
    pids: bool,
    binds: Vec<(CString, CString)>,
    cgroup: Option<(File, CString)>,
}

impl Container {
    /// Adds a mount namespace. It lacks the mounts that hold named network
    /// namespaces; all other file systems are the caller's.
    #[must_use]
    pub fn mounts(mut self) -> Self {
        self.mounts = true;
        self
    }

    /// Adds a PID namespace, with a /proc that shows only its processes, and thus
    /// a mount namespace too. Each program becomes process 1 of its own namespace,
    /// so signals without a handler do nothing to it, except SIGKILL.
    #[must_use]
    pub fn pids(mut self) -> Self {
        self.pids = true;
        self.mounts()
    }

    /// Adds a mount namespace in which `source` is also visible at `target`.
    ///
    /// # Errors
    /// A path has a zero byte.
    pub fn bind(mut self, source: &Path, target: &Path) -> Result<Self> {
        self.binds.push((c_string(source)?, c_string(target)?));
        Ok(self.mounts())
    }

    /// Adds a cgroup namespace, in which `cgroup` appears as the root.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn cgroup(mut self, cgroup: &Cgroup) -> Result<Self> {
        let procs = cgroup.path.join("cgroup.procs");
        let procs = OpenOptions::new().write(true).open(procs)?;
        self.cgroup = Some((procs, c_string(&cgroup.mount)?));
        Ok(self.mounts())
    }

    /// Returns whether the starting thread has to create a PID namespace before it
    /// starts the process: only children enter a PID namespace.
    pub(crate) fn has_pids(&self) -> bool {
        self.pids
    }

    /// Moves the calling process into the namespaces. The process has just been
    /// forked to run a program and has one thread. Makes system calls only.
    pub(crate) fn enter_after_fork(&self) -> std::io::Result<()> {
        if !self.mounts {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Keep mounts made in here invisible outside.
        mount(
            NONE,
            c"/",
            NONE,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            NONE,
        )?;
        for _ in 0..STACK_MAX {
            if umount2(c"/run/netns", MntFlags::MNT_DETACH).is_err() {
                break;
            }
        }
        if self.pids {
            mount(
                Some(c"proc"),
                c"/proc",
                Some(c"proc"),
                MsFlags::empty(),
                NONE,
            )?;
        }
        for (source, target) in &self.binds {
            mount(Some(&**source), &**target, NONE, MsFlags::MS_BIND, NONE)?;
        }
        if let Some((procs, target)) = &self.cgroup {
            // Writing 0 moves the writing process.
            (&*procs).write_all(b"0")?;
            unshare(CloneFlags::CLONE_NEWCGROUP)?;
            // The kernel refuses to mount a file system on top of itself.
            umount2(&**target, MntFlags::MNT_DETACH)?;
            let kind = Some(c"cgroup2");
            mount(kind, &**target, kind, MsFlags::empty(), NONE)?;
        }
        Ok(())
    }
}

/// A cgroup for the tests of this process. Dropping it removes the cgroup.
#[derive(Debug)]
pub struct Cgroup {
    mount: PathBuf,
    path: PathBuf,
    _removal: Cleanup,
}

impl Cgroup {
    /// Makes the cgroup `mptcp-e2e-<pid>-<number>`, below the root of cgroup2.
    ///
    /// # Errors
    /// cgroup2 is not mounted, or the cgroup exists.
    pub fn create() -> Result<Self> {
        let mount = cgroup2_mount()?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = mount.join(own.context("no cgroup of our own")?);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = mount.join(format!("mptcp-e2e-{}-{number}", std::process::id()));
        let removal = Cleanup::new({
            let path = path.clone();
            move || {
                // Leave the cgroup first: it can only be removed when empty.
                let _ = fs::write(home.join("cgroup.procs"), std::process::id().to_string());
                let _ = fs::remove_dir(path);
            }
        });
        fs::create_dir(&path)?;
        Ok(Self {
            mount,
            path,
            _removal: removal,
        })
    }

    /// Returns the cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this process, and so all sockets that it makes later, into the cgroup.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        fs::write(procs, std::process::id().to_string()).context("enter a cgroup")
    }
}

/// Returns where cgroup2 is mounted.
pub(crate) fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let target = fields.next()?;
        (fields.next()? == "cgroup2").then_some(target)
    });
    Ok(PathBuf::from(mount.context("no cgroup2 mount")?))
}

fn c_string(path: &Path) -> Result<CString> {
    let text = CString::new(path.as_os_str().as_bytes());
    text.with_context(|| format!("a zero byte in {}", path.display()))
}
