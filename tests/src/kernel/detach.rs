//! Detaches a program that another process has attached, as `bpftool link
//! detach` does.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Commands of bpf(2) (linux/bpf.h).
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_DETACH` reads.
#[repr(C)]
#[derive(Default)]
struct DetachAttr {
    link_fd: u32,
}

/// Detaches the program of a pinned link. The pin stays, and any process that
/// holds the link keeps it, but the program no longer runs.
///
/// # Errors
/// There is no link at `path`, or it cannot be detached.
pub fn detach_pinned_link(path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let get = ObjectAttr {
        path: name.as_ptr() as u64,
        ..ObjectAttr::default()
    };
    // SAFETY: the attribute and the path in it live until the call returns.
    let fd = unsafe { bpf(BPF_OBJ_GET, &get) }
        .with_context(|| format!("no pin at {}", path.display()))?;
    // SAFETY: the call has just made the descriptor; nothing else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
    let detach = DetachAttr {
        link_fd: u32::try_from(link.as_raw_fd())?,
    };
    // SAFETY: the attribute lives until the call returns.
    unsafe { bpf(BPF_LINK_DETACH, &detach) }.context("the link cannot be detached")?;
    Ok(())
}

/// Calls bpf(2).
///
/// # Safety
/// `attr` must be what the command reads, and pointers in it must be valid.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: the caller guarantees a valid attribute, and its size is passed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
