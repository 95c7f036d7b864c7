//! Finds the sockops programs of others, and one that holds a cgroup for itself.
//!
//! A program that was attached without `BPF_F_ALLOW_MULTI` allows no other one
//! beside it, in this cgroup or further down. The kernel then says only EPERM.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::programs::{loaded_links, loaded_programs};
use mptcp_common::names;
use rustix::fs::{Mode, OFlags, openat};

/// `enum bpf_cmd` and `enum bpf_attach_type` (linux/bpf.h).
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_CGROUP_SOCK_OPS: u32 = 3;

/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 1 << 1;

/// How many programs are listed at most. A program that holds a cgroup for
/// itself is alone there.
const MOST: usize = 8;

/// How many bytes of a program's name the kernel keeps.
pub(super) const NAME: usize = 15;

/// How many levels of the hierarchy are searched, from the cgroup upwards.
const LEVELS: usize = 32;

/// `union bpf_attr` for `BPF_PROG_QUERY`, up to its last member of today.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// A sockops program that runs for the sockets of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SockopsProgram {
    /// The kernel's id of the program.
    pub id: u32,
    /// The program's name, of which the kernel keeps 15 bytes; empty if it
    /// cannot be read.
    pub name: String,
    /// How many levels above the cgroup it is attached.
    pub above: usize,
    /// Whether it allows no other program beside it or further down.
    pub exclusive: bool,
    /// The id of the BPF link that keeps it attached, if one does.
    pub link: Option<u32>,
}

impl SockopsProgram {
    /// Returns whether it is an agent's.
    pub fn is_ours(&self) -> bool {
        let own = names::program::SOCKOPS;
        self.name == own[..own.len().min(NAME)]
    }
}

impl fmt::Display for SockopsProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() {
            "?"
        } else {
            &self.name
        };
        write!(f, "`{name}` (id {})", self.id)
    }
}

/// Lists the sockops programs of `cgroup` and of those above it, nearest first.
///
/// # Errors
/// This process may not ask (it takes CAP_NET_ADMIN), or it is no cgroup2
/// directory.
pub fn sockops(cgroup: BorrowedFd<'_>) -> io::Result<Vec<SockopsProgram>> {
    let mut found = Vec::new();
    let mut directory: Option<OwnedFd> = None;
    for above in 0..LEVELS {
        let here = directory
            .as_ref()
            .map_or(cgroup, |directory| directory.as_fd());
        let (flags, ids) = match attached(here) {
            Ok(attached) => attached,
            // This ends above the root of the hierarchy, where there is another
            // file system.
            Err(_) if above > 0 => break,
            Err(error) => return Err(error),
        };
        found.extend(ids.into_iter().map(|id| SockopsProgram {
            id,
            name: name(id),
            above,
            exclusive: flags & ALLOW_MULTI == 0,
            link: link_of(id),
        }));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(here, "..", flags, Mode::empty()) {
            Ok(parent) => directory = Some(parent),
            Err(_) => break,
        }
    }
    Ok(found)
}

/// Names the sockops program that keeps others from `cgroup`, if there is one.
pub(super) fn exclusive(cgroup: BorrowedFd<'_>) -> Option<String> {
    let found = sockops(cgroup).ok()?;
    let exclusive = found.into_iter().find(|program| program.exclusive);
    exclusive.map(|program| program.to_string())
}

/// Returns the flags and ids of the sockops programs that are attached to a
/// cgroup itself.
fn attached(cgroup: BorrowedFd<'_>) -> io::Result<(u32, Vec<u32>)> {
    let mut ids = [0_u32; MOST];
    let mut query = Query {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_SOCK_OPS,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MOST as u32,
        ..Query::default()
    };
    let size = size_of::<Query>();
    // SAFETY: the kernel writes to `query`, which is `size` bytes, and at most
    // `prog_cnt` ids to `ids`; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            (&raw mut query).cast::<u8>(),
            size,
        )
    };
    let error = io::Error::last_os_error();
    // ENOSPC means that there are more programs. Flags and ids are there all
    // the same.
    if result != 0 && error.raw_os_error() != Some(libc::ENOSPC) {
        return Err(error);
    }
    let count = (query.prog_cnt as usize).min(MOST);
    Ok((query.attach_flags, ids[..count].to_vec()))
}

/// Returns the id of a BPF link that keeps a program attached, if there is one.
pub(super) fn link_of(program: u32) -> Option<u32> {
    let mut links = loaded_links().filter_map(Result::ok);
    links
        .find(|link| link.program_id() == program)
        .map(|link| link.id())
}

/// Returns a program's name; empty if it cannot be read.
fn name(id: u32) -> String {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id);
    let name = program.as_ref().and_then(|program| program.name_as_str());
    name.unwrap_or_default().to_owned()
}
