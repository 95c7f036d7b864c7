//! The system call bpf(2), for what aya does not do.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// `BPF_OBJ_GET` of `enum bpf_cmd` (linux/bpf.h).
const OBJ_GET: libc::c_int = 7;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
#[derive(Default)]
struct ObjectAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Calls bpf(2) with a command that only reads `attributes`: the part of `union
/// bpf_attr` that belongs to it. What they point to must live until the call
/// returns.
///
/// # Errors
/// The kernel refuses.
pub fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: the pointer is that of a value of this size, which the command
    // only reads; the caller keeps alive what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does the same with a command that returns a new file descriptor.
///
/// # Errors
/// The kernel refuses.
pub fn open<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel has just made the descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the object that is pinned at `path`.
///
/// # Errors
/// There is no pin.
pub(super) fn open_pin(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;

    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectAttributes {
        path: name.as_ptr().expose_provenance() as u64,
        ..ObjectAttributes::default()
    };
    open(OBJ_GET, &attributes)
}
