//! The cgroup2 directory that sockops attaches to.
//!
//! The hierarchy may be mounted anywhere. From inside `ip netns exec`, which
//! mounts a /sys of its own, no mount of it is visible. But the whole host has
//! only one hierarchy, so a private mount of it, which never enters the mount
//! table, does as well.
//!
//! Inside a cgroup namespace (a container's, say) a new mount shows the
//! namespace's part of the hierarchy as if that were all. The root of the whole
//! hierarchy can be told by a file that every other cgroup has and the root
//! lacks. Inside a namespace the root can be reached only through a mount that
//! was made outside.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, fstatfs, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const MAGIC: u64 = 0x6367_7270;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A cgroup2 directory, held by its descriptor. If it is removed, another one
/// may appear at its path.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
    /// `None` for a root, which is never removed.
    path: Option<PathBuf>,
    gone: bool,
}

impl Cgroup {
    /// Opens `wanted`, or else a cgroup that holds every socket of the host, if
    /// one can be reached.
    ///
    /// # Errors
    /// There is none; the error is one line.
    pub fn open(wanted: Option<&Path>) -> Result<Self> {
        Ok(Self {
            directory: open(wanted)?,
            path: wanted.map(Path::to_owned),
            gone: false,
        })
    }

    /// Returns whether every socket of the host is in it.
    pub fn is_root(&self) -> bool {
        is_root(&self.directory)
    }

    /// Returns a warning for the user if no cgroup was asked for, and yet only
    /// a part of the hierarchy can be reached.
    pub fn warning(&self) -> Option<&'static str> {
        (self.path.is_none() && !self.is_root()).then_some(
            "only sockets of this cgroup namespace (a container's?) are seen: connections of other \
             cgroups in this network namespace are neither counted nor steered, nor are those that \
             are older than the agent; run the agent in the host's cgroup namespace (docker run \
             --cgroupns=host), or mount the host's /sys/fs/cgroup where the agent sees it, which \
             then finds it by itself",
        )
    }

    /// Returns a second handle on the same cgroup.
    ///
    /// # Errors
    /// Too many open files.
    pub fn follow(&self) -> Result<Self> {
        Ok(Self {
            directory: self
                .directory
                .try_clone()
                .context("cannot hold the cgroup")?,
            path: self.path.clone(),
            gone: self.gone,
        })
    }

    /// Returns what has become of the cgroup since the last call: `Some(None)`
    /// if it is gone, `Some(Some(_))` if another one is in its place, `None` if
    /// nothing has changed.
    pub fn changed(&mut self) -> Option<Option<OwnedFd>> {
        let path = self.path.as_deref()?;
        if !self.gone {
            self.gone = !is_there(&self.directory);
            return self.gone.then_some(None);
        }
        let directory = open(Some(path)).ok()?;
        self.gone = false;
        self.directory = directory.try_clone().ok()?;
        Some(Some(directory))
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Returns where cgroup2 is mounted, as this process sees it.
///
/// # Errors
/// The table of mounts cannot be read.
pub fn mounts() -> Result<Vec<PathBuf>> {
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    Ok(cgroup2_mounts(&mounts).collect())
}

/// Returns whether a cgroup2 directory is the root of the whole hierarchy. All
/// others have the file `cgroup.type`.
pub fn is_root(directory: &impl AsFd) -> bool {
    accessat(directory, "cgroup.type", Access::EXISTS, AtFlags::empty()).is_err()
}

/// Returns whether a cgroup still exists. A removed one has no files.
fn is_there(directory: &OwnedFd) -> bool {
    accessat(directory, "cgroup.procs", Access::EXISTS, AtFlags::empty()).is_ok()
}

/// Opens `wanted`. Without it, opens the root of the hierarchy, through a
/// visible mount or a private one; else the first visible cgroup2 mount; else
/// the part that a private mount shows.
///
/// # Errors
/// `wanted` is no cgroup2 directory, or there is no cgroup2 to be had.
fn open(wanted: Option<&Path>) -> Result<OwnedFd> {
    if let Some(path) = wanted {
        let shown = path.display();
        let directory = openat(CWD, path, DIRECTORY, Mode::empty())
            .with_context(|| format!("cannot open --cgroup {shown} as a directory"))?;
        ensure!(
            is_cgroup2(&directory),
            "--cgroup {shown} is not in a cgroup2 file system: see `findmnt -t cgroup2`, or leave \
             --cgroup out"
        );
        return Ok(directory);
    }
    let visible = mounts()?.into_iter().filter_map(|path| {
        // Another file system may be mounted over it.
        openat(CWD, path, DIRECTORY, Mode::empty())
            .ok()
            .filter(is_cgroup2)
    });
    let mut visible: Vec<OwnedFd> = visible.collect();
    if let Some(root) = visible.iter().position(is_root) {
        return Ok(visible.swap_remove(root));
    }
    let private = private_mount();
    match visible.into_iter().next() {
        // Only a part of the hierarchy is mounted (a bind mount).
        Some(part) => Ok(private.ok().filter(is_root).unwrap_or(part)),
        None => private.context(
            "no cgroup2 mount is visible, and none could be made: mount one (mount -t cgroup2 \
             cgroup2 DIRECTORY) and name it with --cgroup",
        ),
    }
}

fn is_cgroup2(directory: &OwnedFd) -> bool {
    fstatfs(directory).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC))
}

/// Returns the mount points of type cgroup2 in a mount table (fstab(5)).
fn cgroup2_mounts(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (target, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescaped(target)))
    })
}

/// Undoes the octal escapes (`\040` is a blank) of a mount table. The crate
/// procfs leaves blanks escaped, and fails as a whole at one odd line.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// Opens the root of the hierarchy (of the cgroup namespace) without a mount
/// point.
fn private_mount() -> Result<OwnedFd> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen")?;
    fsconfig_create(&context).context("fsconfig")?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .context("fsmount")?;
    // fsmount returns an O_PATH descriptor, but BPF wants an open file.
    openat(&mount, ".", DIRECTORY, Mode::empty()).context("open")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn mounts_of_the_right_type_in_order() {
        let mounts = "proc /proc proc rw 0 0\n\
                      tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      none /mnt/my\\040groups\\134x cgroup2 rw 0 0\n\
                      short\n";
        let found: Vec<PathBuf> = cgroup2_mounts(mounts).collect();
        assert_eq!(
            found,
            [
                Path::new("/sys/fs/cgroup/unified"),
                Path::new("/mnt/my groups\\x")
            ]
        );
        assert_eq!(unescaped("a\\b\\04"), "a\\b\\04");
    }

    #[test]
    fn a_directory_of_another_kind_is_refused() {
        let error = open(Some(Path::new("/proc"))).unwrap_err().to_string();
        assert!(
            error.contains("--cgroup /proc is not in a cgroup2"),
            "{error}"
        );
        let error = format!("{:#}", open(Some(Path::new("/nonexistent"))).unwrap_err());
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_private_mount_is_a_cgroup2() {
        match private_mount() {
            Ok(directory) => assert!(is_cgroup2(&directory)),
            // Only root may try.
            Err(error) => assert!(format!("{error:#}").contains("Operation not permitted")),
        }
    }
}
