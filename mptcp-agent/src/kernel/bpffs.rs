//! The BPF file system: where it is, and directories in it, by handle.
//!
//! Anybody who may write to the file system may put anything there, and a plain
//! `mount -t bpf` lets everybody in. So a name is never followed. Each
//! directory is opened by itself, without following symbolic links, and is used
//! only if it lies in this very file system, belongs to root, to the user of
//! this process or to that of the systemd unit, and nobody else may write to it.
//! Only entries of such directories are removed, and so never anything outside of
//! the file system.

use std::fs;
use std::iter;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::unistd::User;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, fstatfs, mkdirat, openat, renameat,
    stat, statat, statfs, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::geteuid;
use thiserror::Error;

/// `BPF_FS_MAGIC` (linux/magic.h).
const MAGIC: u64 = 0xcafe_4a11;

/// Where every host mounts it.
pub const USUAL: &str = "/sys/fs/bpf";

/// The host's mount as seen from a mount namespace with a /sys of its own,
/// which `ip netns exec` makes. A mount inside that namespace would not outlive
/// the process.
const OF_THE_HOST: &str = "/proc/1/root/sys/fs/bpf";

/// The mode bits that let others write to a directory. A directory with any of
/// them is not used.
const OTHERS_WRITE: u32 = 0o022;

/// How often a directory that belongs to somebody else is moved out of the way,
/// in case its owner keeps putting another in its place.
const ATTEMPTS: u32 = 16;

/// The most ancestors of this process that are looked at.
const MAX_ANCESTORS: usize = 64;

/// A directory of the BPF file system that nobody else may write to, or the
/// root of it.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    /// The directory's path, for messages.
    shown: PathBuf,
}

/// The mounted file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub path: &'static str,
    /// The mode bits of its root.
    pub mode: u32,
    /// The user that owns its root.
    pub user: u32,
    ours: bool,
}

impl Mounted {
    fn of(path: &'static str, stat: &Stat) -> Self {
        Self {
            path,
            mode: stat.st_mode & 0o7777,
            user: stat.st_uid,
            ours: is_ours(stat),
        }
    }

    /// Returns whether somebody else may rename what an agent pins there.
    pub fn is_open_to_all(&self) -> bool {
        !self.ours || (self.lets_all_write() && self.mode & Mode::SVTX.bits() == 0)
    }

    /// Returns whether others may make entries there.
    pub fn lets_all_write(&self) -> bool {
        self.mode & OTHERS_WRITE != 0
    }
}

/// Looks for the mounted file system, and changes nothing.
///
/// # Errors
/// It is mounted, but does not show its mode.
pub fn mounted() -> Result<Option<Mounted>> {
    // By path, since not every user may open it.
    for path in [USUAL, OF_THE_HOST] {
        if statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC)) {
            let stat = stat(path).context("cannot look at the BPF file system")?;
            return Ok(Some(Mounted::of(path, &stat)));
        }
    }
    Ok(None)
}

fn open_root() -> Option<(&'static str, OwnedFd)> {
    [USUAL, OF_THE_HOST].into_iter().find_map(|path| {
        let handle = openat(CWD, path, DIRECTORY, Mode::empty()).ok()?;
        let stat = fstatfs(&handle).ok()?;
        (u64::try_from(stat.f_type) == Ok(MAGIC)).then_some((path, handle))
    })
}

/// Opens the root of the file system, if it is mounted and can be trusted.
///
/// # Errors
/// Everybody may rename the entries of others; the error is one line.
pub(super) fn find() -> Result<Option<Directory>> {
    let Some((path, handle)) = open_root() else {
        return Ok(None);
    };
    let stat = fstat(&handle).context("cannot look at the BPF file system")?;
    let found = Mounted::of(path, &stat);
    ensure!(
        !found.is_open_to_all(),
        "everybody may rename what is in the BPF file system {path} (mode {:04o}, user {}): chmod \
         0700 {path}",
        found.mode,
        found.user
    );
    Ok(Some(Directory {
        handle,
        shown: PathBuf::from(path),
    }))
}

/// Opens the root. Mounts the file system if it is missing, as systemd and
/// bpftool do.
///
/// # Errors
/// It cannot be mounted, or only for this process, or it cannot be trusted; the
/// error is one line that says why.
pub(super) fn find_or_mount() -> Result<Directory> {
    if let Some(root) = find()? {
        return Ok(root);
    }
    ensure!(
        !in_mount_namespace_of_its_own(),
        "no BPF file system of the host is seen from this mount namespace: mount -t bpf -o \
         mode=0700 bpf {USUAL}, outside of `ip netns exec`, if none is mounted there, or start \
         the agent with `nsenter --net=FILE` instead"
    );
    mount("bpf", USUAL, "bpf", MountFlags::empty(), Some(c"mode=0700"))
        .with_context(|| format!("cannot mount the BPF file system at {USUAL}"))?;
    tracing::info!("mounted the BPF file system at {USUAL}");
    find()?.context("the BPF file system was mounted, and is not there")
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Directory {
    /// Opens a directory in this one; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be trusted; the error is one line that says whose it is.
    pub(super) fn open(&self, name: &str) -> Result<Option<Self>, Unusable> {
        let shown = self.shown.join(name);
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let handle = match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            // The name is a symbolic link, or a file.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let stat = statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
                return Err(Unusable::foreign(&shown, &stat));
            }
            Err(error) => {
                let error = anyhow!(error).context(format!("cannot open {}", shown.display()));
                return Err(error.into());
            }
        };
        let (stat, own) = (fstat(&handle)?, fstat(&self.handle)?);
        let is_safe = is_ours(&stat) && stat.st_mode & OTHERS_WRITE == 0;
        // Another device number means that something else is mounted there.
        if !is_safe || stat.st_dev != own.st_dev {
            return Err(Unusable::foreign(&shown, &stat));
        }
        Ok(Some(Self { handle, shown }))
    }

    /// Opens a directory in this one, and makes it if there is none.
    ///
    /// # Errors
    /// It cannot be made, or what is there cannot be trusted; the error is one
    /// line.
    pub(super) fn open_or_make(&self, name: &str) -> Result<Self, Unusable> {
        match mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                let shown = self.shown.join(name);
                let error = anyhow!(error).context(format!("cannot make {}", shown.display()));
                return Err(error.into());
            }
        }
        self.open(name)?
            .ok_or_else(|| anyhow!("{} is gone again", self.shown.join(name).display()).into())
    }

    /// Does the same as [`Directory::open_or_make`], but moves what is there
    /// and cannot be trusted out of the way, under another name.
    ///
    /// # Errors
    /// Those of [`Directory::open_or_make`]; or the untrusted entry cannot be moved.
    pub(super) fn open_or_replace(&self, name: &str) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let error = match self.open_or_make(name) {
                Ok(directory) => return Ok(directory),
                Err(error @ Unusable::Foreign { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            // The file system allows no dot in a name.
            let aside = format!("{name}-foreign-{:016x}", getrandom::u64()?);
            renameat(&self.handle, name, &self.handle, &aside)
                .with_context(|| format!("{error}, and cannot be moved out of the way"))?;
            tracing::warn!("{error}: moved out of the way, to {aside}");
            last = Some(error);
        }
        Err(last.map_or_else(|| anyhow!("{name} cannot be made"), Into::into))
    }

    /// Returns the names of its entries, in order.
    pub(super) fn entries(&self) -> Vec<String> {
        let mut names = Vec::new();
        // Use another handle, because reading moves the position.
        let Ok(handle) = openat(&self.handle, ".", DIRECTORY, Mode::empty()) else {
            return names;
        };
        let mut buffer = Vec::with_capacity(8192);
        let mut read = RawDir::new(handle, buffer.spare_capacity_mut());
        while let Some(Ok(entry)) = read.next() {
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort();
        names
    }

    /// Returns whether there is a pin of this name: a regular file, and not a
    /// link to one.
    pub(super) fn has(&self, name: &str) -> bool {
        self.inode(name).is_some()
    }

    /// Returns the inode of the pin of this name.
    pub(super) fn inode(&self, name: &str) -> Option<u64> {
        let stat = statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then_some(stat.st_ino)
    }

    /// Returns the directory's own inode.
    pub(super) fn own_inode(&self) -> Option<u64> {
        Some(fstat(&self.handle).ok()?.st_ino)
    }

    /// Returns a path to an entry that leads through the handle, for calls that
    /// accept only paths. It is valid as long as `self` lives.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        let handle = self.handle.as_raw_fd();
        Path::new("/proc/self/fd")
            .join(handle.to_string())
            .join(name)
    }

    /// Removes a file, or a symbolic link, which is not followed. Returns
    /// whether it was there.
    pub(super) fn remove_file(&self, name: &str) -> bool {
        unlinkat(&self.handle, name, AtFlags::empty()).is_ok()
    }

    /// Removes an empty directory. Returns whether it is gone.
    pub(super) fn remove_directory(&self, name: &str) -> bool {
        let removed = unlinkat(&self.handle, name, AtFlags::REMOVEDIR);
        if let Err(error) = removed
            && error != Errno::NOENT
        {
            tracing::debug!("cannot remove {}: {error}", self.shown.join(name).display());
        }
        removed.is_ok()
    }
}

/// Why a directory cannot be used.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    /// Its place holds what belongs to somebody else.
    #[error(
        "{} is {what} that belongs to user {user} (mode {mode:04o}), which is not safe to use",
        .path.display()
    )]
    Foreign {
        path: PathBuf,
        what: &'static str,
        user: u32,
        mode: u32,
    },
    /// The kernel does not show what is there.
    #[error(transparent)]
    Unseen(#[from] Errno),
    /// Something else went wrong.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Unusable {
    fn foreign(path: &Path, stat: &Stat) -> Self {
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => "a directory",
            FileType::Symlink => "a symbolic link",
            _ => "a file",
        };
        Self::Foreign {
            path: path.to_owned(),
            what,
            user: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        }
    }
}

/// The user that the systemd unit runs the agent as.
const USER_OF_UNIT: &str = "mptcp-agent";

/// Returns whether root, or the user of this process, owns it. For root, the user
/// of the systemd unit is an agent like this one, whose pins root's agents and
/// `cleanup` find.
fn is_ours(stat: &Stat) -> bool {
    static OF_UNIT: OnceLock<Option<u32>> = OnceLock::new();
    let of_unit = || {
        *OF_UNIT.get_or_init(|| {
            let user = User::from_name(USER_OF_UNIT).ok().flatten();
            user.map(|user| user.uid.as_raw())
        })
    };
    let own = geteuid();
    stat.st_uid == 0
        || stat.st_uid == own.as_raw()
        || (own.is_root() && Some(stat.st_uid) == of_unit())
}

/// Returns whether this process is in another mount namespace than the first process,
/// or, where that one's cannot be read, than one of its own ancestors; false if no
/// ancestor's can be read. What is mounted in such a namespace goes with its last
/// process.
fn in_mount_namespace_of_its_own() -> bool {
    let Ok(own) = mount_namespace("self") else {
        return false;
    };
    if let Ok(first) = mount_namespace("1") {
        return first != own;
    }
    let ancestors = iter::successors(parent("self"), |process| parent(process));
    ancestors
        .take(MAX_ANCESTORS)
        .any(|process| mount_namespace(&process).is_ok_and(|theirs| theirs != own))
}

fn mount_namespace(process: &str) -> std::io::Result<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/mnt"))
}

/// Returns the parent of a process, as a name in /proc; `None` for the first one.
fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    let parent = line.trim();
    (parent != "0").then(|| parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_end_with_the_first_process() {
        let own = parent("self").expect("a test has a parent");
        assert_eq!(own, std::os::unix::process::parent_id().to_string());
        let ancestors: Vec<String> = iter::successors(Some(own), |one| parent(one)).collect();
        assert!(ancestors.len() < MAX_ANCESTORS, "{ancestors:?}");
        assert_eq!(parent("none"), None);
    }
}
