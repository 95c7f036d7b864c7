//! The system call bpf(2), for what aya does not do.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

/// `BPF_PROG_LOAD` of `enum bpf_cmd` (linux/bpf.h).
const PROG_LOAD: libc::c_int = 5;

/// `BPF_OBJ_GET` of `enum bpf_cmd`.
const OBJ_GET: libc::c_int = 7;

/// `BPF_PROG_TYPE_SOCK_OPS` of `enum bpf_prog_type`.
const SOCK_OPS: u32 = 13;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Makes an instruction of a program that is written by hand.
pub fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

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

/// Loads a sockops program. The kernel shows the first 15 bytes of its `name`.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn load_sockops(name: &str, code: &[Instruction]) -> Result<OwnedFd> {
    load(SOCK_OPS, name, code).context("load a sockops program")
}

/// Loads a program of this kind (`enum bpf_prog_type`). The kernel shows the first 15
/// bytes of its `name`.
///
/// # Errors
/// The kernel refuses it.
pub fn load(kind: u32, name: &str, code: &[Instruction]) -> io::Result<OwnedFd> {
    let mut shown = [0; 16];
    for (place, byte) in shown[..15].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    let attributes = LoadAttributes {
        kind,
        instructions: code.len() as u32,
        code: code.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        name: shown,
        ..LoadAttributes::default()
    };
    open(PROG_LOAD, &attributes)
}
