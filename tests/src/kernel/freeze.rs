//! Makes a map refuse every further write from user space: a fault that a
//! change of policy has to survive.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// `enum bpf_cmd` (linux/bpf.h).
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_MAP_FREEZE: libc::c_int = 22;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
#[derive(Default)]
struct ObjectAttributes {
    pathname: u64,
    fd: u32,
    flags: u32,
}

/// Freezes the map that is pinned at `path`, for as long as the map exists.
///
/// # Errors
/// There is no map at `path`, or the kernel refuses.
pub fn freeze(path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let get = ObjectAttributes {
        pathname: name.as_ptr() as u64,
        ..ObjectAttributes::default()
    };
    let fd = call(BPF_OBJ_GET, (&raw const get).cast(), size_of_val(&get))
        .with_context(|| format!("open {}", path.display()))?;
    // SAFETY: the kernel has just made the descriptor; nothing else owns it.
    let map = unsafe { OwnedFd::from_raw_fd(fd) };
    let number = std::os::fd::AsRawFd::as_raw_fd(&map).cast_unsigned();
    call(
        BPF_MAP_FREEZE,
        (&raw const number).cast(),
        size_of_val(&number),
    )
    .with_context(|| format!("freeze {}", path.display()))?;
    Ok(())
}

pub(super) fn call(
    command: libc::c_int,
    attributes: *const u8,
    size: usize,
) -> io::Result<libc::c_int> {
    // SAFETY: the pointer is that of a local variable of this size, and the
    // command only reads it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
