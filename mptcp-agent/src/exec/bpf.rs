//! A program on `update_socket_protocol` that makes TCP sockets of one cgroup MPTCP
//! sockets.
//!
//! ```text
//!   fmod_ret/update_socket_protocol
//!   int update_socket_protocol(int family, int type, int protocol)    Linux 6.6
//! ```
//!
//! `socket(2)` asks this function for the protocol, and the function returns the one
//! that it is given. If the BPF program returns something other than 0, that takes the
//! place of the function's result. The BPF program is a few instructions long. It is
//! not in the agent's eBPF object, because `exec` loads it without a running agent, and
//! it lives only as long as the command that `exec` has started.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use btf_rs::{Btf, Type};

use crate::host::types;

/// The function that the program is attached to.
const FUNCTION: &str = "update_socket_protocol";

// `enum bpf_cmd` (linux/bpf.h).
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `BPF_MAP_TYPE_CGROUP_ARRAY`.
const CGROUP_ARRAY: u32 = 8;
/// `BPF_PROG_TYPE_TRACING`.
const TRACING: u32 = 26;
/// `BPF_MODIFY_RETURN` of `enum bpf_attach_type`.
const MODIFY_RETURN: u32 = 26;
/// `BPF_FUNC_current_task_under_cgroup`.
const TASK_UNDER_CGROUP: i32 = 37;
/// `BPF_PSEUDO_MAP_FD`: the source register of a load of a map's address.
const PSEUDO_MAP_FD: u8 = 1;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct MapAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct UpdateAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

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
    device: u32,
    attach_type: u32,
    btf: u32,
    func_info_size: u32,
    func_info: u64,
    func_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_btf_id: u32,
}

#[repr(C)]
#[derive(Default)]
struct OpenAttributes {
    name: u64,
    program: u32,
    padding: u32,
}

/// Attaches the program for a cgroup and all below it. It stays attached as long as
/// the descriptor that this returns, or a copy of it, is open.
///
/// # Errors
/// The kernel has no such function, this process may not load programs, or the
/// kernel refuses to attach it.
pub fn attach(cgroup: &impl AsFd) -> Result<OwnedFd> {
    let function = function()?;
    let map = MapAttributes {
        kind: CGROUP_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
    };
    let map = open(MAP_CREATE, &map).context("cannot make a BPF map")?;
    let (key, value) = (0_u32, cgroup.as_fd().as_raw_fd());
    let update = UpdateAttributes {
        map: map.as_raw_fd().cast_unsigned(),
        key: (&raw const key).expose_provenance() as u64,
        value: (&raw const value).expose_provenance() as u64,
        ..UpdateAttributes::default()
    };
    call(MAP_UPDATE, &update).context("cannot put the cgroup into a BPF map")?;
    let code = instructions(map.as_raw_fd());
    let mut name = [0; 16];
    name[..13].copy_from_slice(b"mptcp_exec_sk");
    let load = LoadAttributes {
        kind: TRACING,
        instructions: code.len() as u32,
        code: code.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        name,
        attach_type: MODIFY_RETURN,
        attach_btf_id: function,
        ..LoadAttributes::default()
    };
    let program = open(PROG_LOAD, &load)
        .with_context(|| format!("the kernel refuses a BPF program on {FUNCTION}"))?;
    let link = OpenAttributes {
        program: program.as_raw_fd().cast_unsigned(),
        ..OpenAttributes::default()
    };
    open(RAW_TRACEPOINT_OPEN, &link).with_context(|| {
        format!("the kernel refuses to attach a BPF program to {FUNCTION} (by a trampoline)")
    })
}

/// Returns the number of the function in the kernel's types.
fn function() -> Result<u32> {
    let failed = || format!("cannot read the kernel's types from {}", types::VMLINUX);
    let btf = Btf::from_file(types::VMLINUX).with_context(failed)?;
    let ids = btf.resolve_ids_by_name(FUNCTION).unwrap_or_default();
    let is_function = |&id: &u32| matches!(btf.resolve_type_by_id(id), Ok(Type::Func(_)));
    ids.into_iter()
        .find(is_function)
        .with_context(|| format!("this kernel has no {FUNCTION}, which came with Linux 6.6"))
}

/// Returns the program: 262 (MPTCP) for a TCP socket of a task in the cgroup, else 0.
fn instructions(map: libc::c_int) -> [Instruction; 18] {
    const LOAD_DOUBLE: u8 = 0x79;
    const LOAD_ADDRESS: u8 = 0x18;
    const AND: u8 = 0x54;
    const MOVE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    // These compare the lower half of a register, since the bits above an `int` are
    // not defined.
    const IF_EQUAL: u8 = 0x16;
    const IF_NOT: u8 = 0x56;
    let op = |code, to, from: u8, offset, immediate| Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    };
    [
        op(LOAD_DOUBLE, 2, 1, 0, 0),
        op(LOAD_DOUBLE, 3, 1, 8, 0),
        op(LOAD_DOUBLE, 4, 1, 16, 0),
        op(IF_EQUAL, 2, 0, 1, libc::AF_INET),
        op(IF_NOT, 2, 0, 11, libc::AF_INET6),
        // Mask out the flags SOCK_CLOEXEC and SOCK_NONBLOCK.
        op(AND, 3, 0, 0, 0xf),
        op(IF_NOT, 3, 0, 9, libc::SOCK_STREAM),
        op(IF_EQUAL, 4, 0, 1, 0),
        op(IF_NOT, 4, 0, 7, libc::IPPROTO_TCP),
        op(LOAD_ADDRESS, 1, PSEUDO_MAP_FD, 0, map),
        op(0, 0, 0, 0, 0),
        op(MOVE, 2, 0, 0, 0),
        op(CALL, 0, 0, 0, TASK_UNDER_CGROUP),
        op(IF_NOT, 0, 0, 2, 1),
        op(MOVE, 0, 0, 0, libc::IPPROTO_MPTCP),
        op(EXIT, 0, 0, 0, 0),
        op(MOVE, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]
}

/// Calls bpf(2) with a command that only reads `attributes`, and what they point to.
fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: the pointer is that of a value of this size, which the command only
    // reads; the caller keeps alive what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls bpf(2) with a command that returns a new descriptor.
fn open<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just made the descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_leads_to_one_of_the_two_results() {
        const JUMPS: [u8; 2] = [0x16, 0x56];
        const EXIT: u8 = 0x95;
        let code = instructions(3);
        let is_jump = |one: &Instruction| JUMPS.contains(&one.code);
        let targets = code.iter().enumerate().filter(|(_, one)| is_jump(one));
        let targets: Vec<usize> = targets
            .map(|(at, one)| at + 1 + one.offset as usize)
            .collect();
        // Each jump leads to the next test, or to `return 0` at the end.
        let last = code.len() - 2;
        assert_eq!(targets, [5, last, last, 9, last, last]);
        assert_eq!((code[last].code, code[last].immediate), (0xb7, 0));
        let results: Vec<i32> = (1..code.len())
            .filter(|&at| code[at].code == EXIT)
            .map(|at| code[at - 1].immediate)
            .collect();
        assert_eq!(results, [libc::IPPROTO_MPTCP, 0]);
    }
}
