//! A network namespace with a name under /run/netns, so that `ip netns` lists
//! it. Its name is removed with its owner.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use crate::cleanup::Cleanup;
use crate::process::{self, output_of};

const RUN_NETNS: &str = "/run/netns";
const PREFIX: &str = "mptcp-";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    file: Arc<File>,
    /// Removes the name when dropped; `None` once that has happened.
    removal: Mutex<Option<Cleanup>>,
}

impl Namespace {
    /// Makes `mptcp-<pid>-<n>-<label>`.
    pub(crate) fn create(label: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        let path = Path::new(RUN_NETNS).join(&name);
        let removal = Cleanup::new({
            let path = path.clone();
            move || unmount(&path)
        });
        output_of(process::command("ip").args(["netns", "add", &name]))?;
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self {
            name,
            file: Arc::new(file),
            removal: Mutex::new(Some(removal)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(RUN_NETNS).join(&self.name)
    }

    /// Moves the calling thread into the namespace.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("enter the namespace {}", self.name))
    }

    /// Returns a closure that moves its caller into the namespace. It is fit for
    /// `CommandExt::pre_exec`: one system call, no allocation.
    pub(crate) fn enter_after_fork(
        &self,
    ) -> impl FnMut() -> std::io::Result<()> + Send + Sync + use<> {
        let file = Arc::clone(&self.file);
        move || {
            // SAFETY: `file` stays open as long as this closure lives, and a
            // forked child has a copy of it until exec.
            let fd = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
            setns(fd, CloneFlags::CLONE_NEWNET).map_err(Into::into)
        }
    }

    /// Removes the name. The kernel frees the namespace after its last socket, open
    /// file and process are gone.
    pub(crate) fn remove(&self) {
        let removal = self
            .removal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(removal);
    }
}

/// Removes the namespaces that killed processes left behind.
pub(crate) fn sweep() {
    let Ok(entries) = std::fs::read_dir(RUN_NETNS) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(owner).is_some_and(is_dead) {
            unmount(&entry.path());
        }
    }
}

/// Returns the process that made the namespace `name`, if a lab made it.
fn owner(name: &str) -> Option<Pid> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let (number, _label) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse()
        .ok()
        .filter(|&pid: &i32| pid > 0)
        .map(Pid::from_raw)
}

fn is_dead(pid: Pid) -> bool {
    nix::sys::signal::kill(pid, None) == Err(Errno::ESRCH)
}

fn unmount(path: &Path) {
    // Ignore errors: either step may have been done already.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_lab_have_an_owner() {
        assert_eq!(owner("mptcp-42-7-client"), Some(Pid::from_raw(42)));
        for other in [
            "client",
            "mptcp-42",
            "mptcp-42-client",
            "mptcp-x-1-client",
            "mptcp--1-1-c",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
