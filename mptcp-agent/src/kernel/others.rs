//! Finds a sockops program of somebody else that holds a cgroup for itself.
//!
//! A program that was attached without `BPF_F_ALLOW_MULTI` allows no other one
//! beside it, in this cgroup or further down. The kernel then says only EPERM.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::programs::loaded_programs;
use rustix::fs::{Mode, OFlags, openat};

/// `enum bpf_cmd` and `enum bpf_attach_type` (linux/bpf.h).
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_CGROUP_SOCK_OPS: u32 = 3;

/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 1 << 1;

/// How many programs are listed at most. A program that holds a cgroup for
/// itself is alone there.
const MOST: usize = 8;

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

/// Names the sockops program that keeps others from `cgroup`, if there is one.
pub(super) fn exclusive(cgroup: BorrowedFd<'_>) -> Option<String> {
    let mut above: Option<OwnedFd> = None;
    for _ in 0..LEVELS {
        let here = above.as_ref().map_or(cgroup, |directory| directory.as_fd());
        // This ends above the root of the hierarchy, where there is another
        // file system.
        let (flags, ids) = attached(here).ok()?;
        if let Some(&id) = ids.first()
            && flags & ALLOW_MULTI == 0
        {
            return Some(describe(id));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        above = Some(openat(here, "..", flags, Mode::empty()).ok()?);
    }
    None
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

fn describe(id: u32) -> String {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id);
    let name = program.as_ref().and_then(|program| program.name_as_str());
    format!("`{}` (id {id})", name.unwrap_or("?"))
}
