//! A network namespace, named so that it can be told later whether it is gone.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `SO_NETNS_COOKIE`: never used again while the host is up.
    pub cookie: u64,
    /// Of its file in nsfs: by this processes and mounts can be seen to have it.
    pub inode: u64,
}

impl Namespace {
    /// The one of this process, whose cookie is known.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn own(cookie: u64) -> Result<Self> {
        let file = fs::metadata("/proc/self/ns/net").context("cannot read /proc/self/ns/net")?;
        let inode = file.ino();
        Ok(Self { cookie, inode })
    }

    /// The inode in what [`Namespace`] prints.
    pub fn inode_of(name: &str) -> Option<u64> {
        name.rsplit_once('-')?.1.parse().ok()
    }

    /// Inodes of all network namespaces that a process is in, or a mount holds
    /// (`ip netns add`). One that only an open file holds is not found.
    pub fn all_live() -> HashSet<u64> {
        let mut live = HashSet::new();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            // What is no process has no such file.
            if let Ok(target) = fs::read_link(process.path().join("ns/net")) {
                live.extend(inode_in(&target.to_string_lossy()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        live.extend(mounts.split_ascii_whitespace().filter_map(inode_in));
        live
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cookie, self.inode)
    }
}

/// The number in `net:[4026531840]`.
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
        assert!(Namespace::all_live().contains(&own.inode));
        assert_eq!(Namespace::inode_of("abc"), None);
        assert_eq!(inode_in("mnt:[12]"), None);
        assert_eq!(inode_in("net:[12]"), Some(12));
    }
}
