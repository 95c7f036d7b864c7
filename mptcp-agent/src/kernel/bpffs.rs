//! The BPF file system: where it is, and mounted if it is not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// `BPF_FS_MAGIC` (linux/magic.h).
const MAGIC: u64 = 0xcafe_4a11;

/// Where every host has it.
const USUAL: &str = "/sys/fs/bpf";

/// The same from inside a mount namespace with a /sys of its own, as `ip netns
/// exec` makes one: it would not outlive the process.
const OF_THE_HOST: &str = "/proc/1/root/sys/fs/bpf";

/// The file system, if it is mounted.
pub fn find() -> Option<PathBuf> {
    [USUAL, OF_THE_HOST]
        .map(Path::new)
        .into_iter()
        .find(|path| is_bpffs(path))
        .map(Path::to_owned)
}

/// The file system; mounts it where it is missing, as systemd and bpftool do.
///
/// # Errors
/// It cannot be mounted, or only for this process: one line that says why.
pub fn find_or_mount() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    ensure!(
        !in_mount_namespace_of_its_own(),
        "no BPF file system is mounted for the host: mount -t bpf bpf {USUAL}, outside of `ip \
         netns exec`"
    );
    mount("bpf", USUAL, "bpf", MountFlags::empty(), Some(c"mode=0700"))
        .with_context(|| format!("cannot mount the BPF file system at {USUAL}"))?;
    tracing::info!("mounted the BPF file system at {USUAL}");
    Ok(PathBuf::from(USUAL))
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC))
}

/// Whether the first process has another one; where that cannot be read, no.
fn in_mount_namespace_of_its_own() -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt"));
    match (of("1"), of("self")) {
        (Ok(first), Ok(own)) => first != own,
        _ => false,
    }
}
