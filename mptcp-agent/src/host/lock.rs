//! A lock file that only root and the agent's user can take.
//!
//! flock(2) asks for no rights beyond an open file, so everybody can lock a
//! directory, or any file that others can read. Only its owner can open this
//! file.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, stat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// A locked file. It is unlocked and removed when this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: OwnedFd,
}

/// Why there is no lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoLock {
    /// Another agent has it.
    Held,
    /// It cannot be had at all, for this reason.
    Unavailable(String),
}

impl Lock {
    /// Takes the lock at `path`, or says at once why not.
    ///
    /// # Errors
    /// Somebody else holds the lock, or it cannot be had at all.
    pub(super) fn take(path: &Path) -> Result<Self, NoLock> {
        let unavailable =
            |error: Errno| NoLock::Unavailable(format!("cannot lock {}: {error}", path.display()));
        // Try again as long as a holder removes the file at the very same
        // moment.
        for _ in 0..100 {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // NONBLOCK is for a FIFO that somebody else may have made there.
            let flags = flags | OFlags::NONBLOCK;
            let file = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR).map_err(unavailable)?;
            let own = fstat(&file).map_err(unavailable)?;
            let is_ours = own.st_uid == 0 || own.st_uid == geteuid().as_raw();
            let is_file = FileType::from_raw_mode(own.st_mode) == FileType::RegularFile;
            if !is_ours || !is_file || own.st_mode & 0o077 != 0 {
                return Err(NoLock::Unavailable(format!(
                    "{} is not the agent's: it belongs to user {} and has mode {:04o}",
                    path.display(),
                    own.st_uid,
                    own.st_mode & 0o7777
                )));
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(NoLock::Held),
                Err(error) => return Err(unavailable(error)),
            }
            // The previous holder may have removed the file between the two
            // calls.
            if stat(path)
                .is_ok_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino))
            {
                let path = path.to_owned();
                return Ok(Self { path, _file: file });
            }
        }
        Err(NoLock::Held)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Remove the file while the lock is still held: a process that opens
        // the path later makes another file.
        let _ = unlinkat(CWD, &self.path, rustix::fs::AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_has_it_and_the_file_goes_with_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        assert_eq!(Lock::take(&path).unwrap_err(), NoLock::Held);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(first);
        assert!(!path.exists());
        drop(Lock::take(&path).unwrap());
    }

    #[test]
    fn what_others_can_open_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let reason = || match Lock::take(&path).unwrap_err() {
            NoLock::Unavailable(reason) => reason,
            NoLock::Held => panic!("it is not held"),
        };
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(reason().contains("mode 0644"), "{}", reason());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.path().join("other"), &path).unwrap();
        assert!(reason().contains("cannot lock"), "{}", reason());
        assert!(!dir.path().join("other").exists());
        let missing = Lock::take(&dir.path().join("none/lock")).unwrap_err();
        assert!(matches!(missing, NoLock::Unavailable(_)), "{missing:?}");
    }
}
