//! The cgroup in which a program runs whose sockets are changed by BPF, and the
//! process that keeps the BPF program attached.
//!
//! ```text
//!   mptcp-agent exec ---- fork ---> keeper: holds the link, waits
//!        |                            :
//!        | enters the cgroup          :
//!        v                            :
//!      CMD and what it starts         :
//!        :                            v
//!      the last one ends -----------> removes the cgroup, lets go of the link
//! ```
//!
//! The keeper starts before this process enters the cgroup, and so it is outside. A
//! pipe that ends when this process has become CMD, or is dead, tells it when the
//! cgroup counts. If somebody kills the keeper, the kernel detaches the program: new
//! sockets are plain TCP then, and the empty cgroup is removed by the next `exec`.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::bpf;
use crate::host;

/// The beginning of such a cgroup's name. The number of the process follows.
const PREFIX: &str = "mptcp-agent-exec-";

/// How long the keeper waits for news of the cgroup, before it looks by itself.
const LOOK: Duration = Duration::from_secs(5);

/// A cgroup of its own below that of this process, with the program attached.
pub struct Group {
    path: PathBuf,
    /// The pipe to the keeper. It closes when this process becomes another program.
    started: Option<PipeWriter>,
}

impl Group {
    /// Makes the cgroup, attaches the program, and starts the keeper.
    ///
    /// # Errors
    /// There is no cgroup2 that this process may change, or the program cannot be
    /// attached. Nothing is left behind then.
    pub fn make() -> Result<Self> {
        let parent = own()?;
        remove_abandoned(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut group = Self {
            path,
            started: None,
        };
        let directory = File::open(&group.path).context("cannot open the cgroup")?;
        let link = bpf::attach(&directory)?;
        let events =
            File::open(group.path.join("cgroup.events")).context("cannot watch the cgroup")?;
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        group.started = Some(writer);
        group.start_keeper(link, events, reader)?;
        Ok(group)
    }

    /// Moves this process into the cgroup.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(self) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        fs::write(&procs, "0").with_context(|| format!("cannot enter {}", self.path.display()))?;
        // The pipe ends with this process's image, and the keeper removes the cgroup.
        std::mem::forget(self);
        Ok(())
    }

    /// Starts the keeper, which takes these descriptors with it.
    fn start_keeper(&mut self, link: OwnedFd, events: File, started: PipeReader) -> Result<()> {
        // SAFETY: this process has one thread, so the child may do what it likes.
        match unsafe { fork() }.context("cannot start a process")? {
            ForkResult::Parent { child } => {
                waitpid(child, None).context("cannot wait for a process")?;
                Ok(())
            }
            ForkResult::Child => {
                // This child starts the keeper and ends, so that the program does not
                // find a child that it has not started.
                let _ = setsid();
                self.started.take();
                // SAFETY: this process has one thread, so the child may do what it likes.
                if let Ok(ForkResult::Child) = unsafe { fork() } {
                    keep(&self.path, &link, events, started);
                }
                exit_now()
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Ends a forked process, without what this process would do at its end.
fn exit_now() -> ! {
    // SAFETY: this ends the process.
    unsafe { libc::_exit(0) }
}

/// Holds the link until the cgroup is empty or gone, then removes the cgroup.
fn keep(path: &Path, link: &OwnedFd, mut events: File, mut started: PipeReader) {
    for one in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGQUIT,
    ] {
        // These signals reach the program as well, which may take its time to end.
        // SAFETY: this installs no handler.
        let _ = unsafe { signal(one, SigHandler::SigIgn) };
    }
    let _ = chdir("/");
    close_others([link.as_raw_fd(), events.as_raw_fd(), started.as_raw_fd()]);
    let _ = prctl::set_name(c"mptcp-exec-keep");
    let _ = started.read(&mut [0]);
    loop {
        let mut text = String::new();
        let read = events
            .rewind()
            .and_then(|()| events.read_to_string(&mut text));
        // A cgroup that is gone cannot be read.
        if read.is_err() || is_empty(&text) {
            break;
        }
        let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut waiting, timeout);
    }
    let _ = remove(path);
}

/// Closes all descriptors but these, so that nobody waits for the end of a stream
/// that the keeper holds open. The first three lead to /dev/null.
fn close_others(mut kept: [RawFd; 3]) {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
    kept.sort_unstable();
    let mut first = 3;
    for one in kept.into_iter().chain([RawFd::MAX]) {
        if one > first {
            // SAFETY: nothing in this process uses the descriptors between those
            // that are kept.
            unsafe { libc::syscall(libc::SYS_close_range, first, one - 1, 0) };
        }
        first = one.saturating_add(1);
    }
}

/// Returns the directory of this process's cgroup.
fn own() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let inside = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let inside = inside.context("this process is in no cgroup2")?;
    let holds_us = |directory: &PathBuf| {
        let own = std::process::id().to_string();
        let procs = fs::read_to_string(directory.join("cgroup.procs"));
        procs.is_ok_and(|procs| procs.lines().any(|line| line == own))
    };
    host::cgroup2_mounts()?
        .into_iter()
        .map(|mount| mount.join(inside))
        .find(holds_us)
        .context("no mount of cgroup2 shows the cgroup of this process")
}

/// Removes cgroups whose keeper was killed.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let path = entry.path();
        let is_over = process.is_some_and(|id| !Path::new("/proc").join(id).exists());
        let events = path.join("cgroup.events");
        if is_over && fs::read_to_string(events).is_ok_and(|text| is_empty(&text)) {
            let _ = remove(&path);
        }
    }
}

/// Returns whether a `cgroup.events` says that nothing runs in the cgroup and below.
fn is_empty(events: &str) -> bool {
    events.lines().any(|line| line == "populated 0")
}

/// Removes a cgroup, and those that the program has left in it.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        // In a file system of this kind, a directory with a file is not removed.
        let make = |name: &str, populated: u8| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.join("below")).unwrap();
            let events = format!("populated {populated}\nfrozen 0\n");
            fs::write(path.join("cgroup.events"), events).unwrap();
            path
        };
        let never = u32::MAX;
        let abandoned = make(&format!("{PREFIX}{never}"), 0);
        let kept = [
            make(&format!("{PREFIX}{}", std::process::id()), 0),
            make(&format!("{PREFIX}{}", never - 1), 1),
            make("other", 0),
        ];
        remove_abandoned(dir.path());
        assert!(!abandoned.join("below").exists());
        assert!(kept.iter().all(|path| path.join("below").exists()));
    }
}
