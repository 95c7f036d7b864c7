//! Finds what rules need of the host.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, FileType, statat};

use super::Rules;
use crate::policy::{self, Key};

/// Rules, and what their policies need of the host that can take long to get.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provided {
    /// The rules.
    pub rules: Rules,
    /// The content of the key file of the policies that copy.
    pub key: Key,
}

/// Gets what the policies need. Waits for file systems, and for the kernel to
/// load a module, so the agent's loop never calls it.
///
/// # Errors
/// The host lacks something; the error is one line.
pub fn provide(rules: Rules) -> Result<Provided> {
    let mut key = Key::default();
    for named in &rules.named {
        let provided = policy::provide(named.policy.clone())
            .with_context(|| format!("policy `{}`", named.name))?;
        if named.policy.copies().is_some() {
            key = provided.key;
        }
    }
    Ok(Provided { rules, key })
}

/// Returns the ids of the cgroups that the rules name and that exist, below the
/// directory `root` of a cgroup2 hierarchy.
pub fn cgroups(rules: &Rules, root: impl AsFd) -> BTreeMap<String, u64> {
    let ids = rules.cgroups().into_iter().filter_map(|path| {
        let below = match path.trim_matches('/') {
            "" => ".",
            below => below,
        };
        // A cgroup's id is the number of its directory's inode.
        let found = statat(&root, below, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        is_directory.then(|| (path.to_owned(), found.st_ino))
    });
    ids.collect()
}
