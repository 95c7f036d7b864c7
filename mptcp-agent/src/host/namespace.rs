//! A network namespace, named so that the name can tell later whether it is
//! gone.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `SO_NETNS_COOKIE`: never used again while the host is up.
    pub cookie: u64,
    /// The inode of its file in nsfs, which shows what processes and mounts
    /// hold it.
    pub inode: u64,
}

impl Namespace {
    /// Returns the namespace of this process, whose cookie is known.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn own(cookie: u64) -> Result<Self> {
        let file = fs::metadata("/proc/self/ns/net").context("cannot read /proc/self/ns/net")?;
        let inode = file.ino();
        Ok(Self { cookie, inode })
    }

    /// Returns the inode in the printed form of a [`Namespace`].
    pub fn inode_of(name: &str) -> Option<u64> {
        name.rsplit_once('-')?.1.parse().ok()
    }

    /// Finds all network namespaces that a process is in, or a mount holds (`ip
    /// netns add`), in whatever mount namespace. One that only an open file
    /// holds is not found.
    pub fn all_live() -> Live {
        let mut live = Live {
            seen: HashSet::new(),
            complete: is_initial_pid_namespace(),
        };
        let mut mount_namespaces = HashSet::new();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let is_process = process
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit());
            if !is_process {
                continue;
            }
            let path = process.path();
            match fs::read_link(path.join("ns/net")) {
                Ok(target) => live.seen.extend(inode_in(&target.to_string_lossy())),
                // The process has ended, or is about to.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                // A host may hide its init even from root. Init shares its network
                // namespace with the kernel's threads, which are seen.
                Err(_) if process.file_name() == "1" => {}
                Err(_) => live.complete = false,
            }
            // Many processes share few mount namespaces, so each one is read
            // once.
            if let Ok(mounts) = fs::read_link(path.join("ns/mnt"))
                && mount_namespaces.insert(mounts)
            {
                let mounts = fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
                let held = mounts.split_ascii_whitespace().filter_map(inode_in);
                live.seen.extend(held);
            }
        }
        live
    }
}

/// The network namespaces of the host.
#[derive(Debug)]
pub struct Live {
    /// Inodes of those that were found.
    pub seen: HashSet<u64>,
    /// Whether there are no others, because this process sees every process of
    /// the host.
    pub complete: bool,
}

/// Returns whether /proc shows the processes of all PID namespaces. That is so
/// if this process is in the initial one, whose inode is fixed
/// (`PROC_PID_INIT_INO`), and /proc numbers it as that namespace does.
fn is_initial_pid_namespace() -> bool {
    const INITIAL: &str = "pid:[4026531836]";
    let reads = |link: &str, wanted: &str| {
        fs::read_link(link).is_ok_and(|target| target.as_os_str() == wanted)
    };
    reads("/proc/self/ns/pid", INITIAL) && reads("/proc/self", &std::process::id().to_string())
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cookie, self.inode)
    }
}

/// Returns the number in `net:[4026531840]`.
fn inode_in(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_own_one_is_live_and_found_by_its_name() {
        let own = Namespace::own(7).unwrap();
        assert_eq!(own.cookie, 7);
        assert_eq!(Namespace::inode_of(&own.to_string()), Some(own.inode));
        assert!(Namespace::all_live().seen.contains(&own.inode));
        assert_eq!(Namespace::inode_of("abc"), None);
        assert_eq!(inode_in("mnt:[12]"), None);
        assert_eq!(inode_in("net:[12]"), Some(12));
    }
}
