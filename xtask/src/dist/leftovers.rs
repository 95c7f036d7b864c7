//! Compares the files of a system before and after: what a purge left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Places whose content the system itself changes: mounts, logs, caches, the
/// databases of packages and of users. Debian's packages do not remove the users
/// that they make, so that nobody gets their ids.
const NOT_OURS: [&str; 12] = [
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "root",
    "var/cache",
    "var/log",
    "var/tmp",
    "var/lib/dpkg",
    "var/lib/systemd",
    "etc/.pwd.lock",
];

/// The files of a system, relative to its root.
pub struct Files(BTreeSet<PathBuf>);

impl Files {
    /// Lists all files and directories below `root` but those that are not ours.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn of(root: &Path) -> Result<Self> {
        let (mut files, mut directories) = (BTreeSet::new(), vec![root.to_owned()]);
        while let Some(directory) = directories.pop() {
            let cannot = || format!("cannot read {}", directory.display());
            for entry in fs::read_dir(&directory).with_context(cannot)? {
                let entry = entry.with_context(cannot)?;
                let path = entry.path();
                let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
                if is_not_ours(&relative) {
                    continue;
                }
                if entry.file_type().with_context(cannot)?.is_dir() {
                    directories.push(path);
                }
                files.insert(relative);
            }
        }
        Ok(Self(files))
    }

    /// Returns the files that are here and not in `earlier`.
    pub fn since<'a>(&'a self, earlier: &'a Self) -> Vec<&'a Path> {
        self.0
            .difference(&earlier.0)
            .map(PathBuf::as_path)
            .collect()
    }
}

fn is_not_ours(path: &Path) -> bool {
    // `passwd-` and its like are copies of the databases before the last change.
    let is_copy = path.parent() == Some(Path::new("etc")) && path.to_string_lossy().ends_with('-');
    is_copy || NOT_OURS.iter().any(|place| path.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_package_can_leave_counts() {
        for path in ["run/x", "var/log/dpkg.log", "etc/passwd-", "proc"] {
            assert!(is_not_ours(Path::new(path)), "{path}");
        }
        for path in [
            "etc/mptcp-agent",
            "var/lib/mptcp-agent",
            "running",
            "etc/a/b-",
        ] {
            assert!(!is_not_ours(Path::new(path)), "{path}");
        }
    }
}
