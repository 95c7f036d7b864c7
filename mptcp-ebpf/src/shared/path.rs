//! Finds the path that carries a subflow: the most specific selector that the
//! agent listed, else the device.

use aya_ebpf::maps::lpm_trie::Key;
use mptcp_common::abi::{Tuple, id_kind, subflow_flag};

use crate::shared::maps::{SELECT_DEVICE, SELECT_ID, SELECT_PREFIX, SELECT_REMOTE};

const ADDRESS_BITS: u32 = 128;

/// Returns the path's index in `PATHS`. Returns `None` if no selector matches
/// and the device does not tell either: the subflow has no route, or the agent
/// has not registered the device yet, or the device is gone.
///
/// Tries in this order: the local id, the remote id, the longest prefix of the
/// local address, that of the remote address, the remote port, and the device
/// (`ifindex`, 0 if unknown).
#[inline(always)]
pub fn find(tuple: *const Tuple, ifindex: u32) -> Option<u32> {
    match find_path(tuple, ifindex) {
        NONE => None,
        path => Some(path),
    }
}

/// [`find_path`]: no path. No path has this index.
const NONE: u32 = u32::MAX;

/// Does the work of [`find`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_path(tuple: *const Tuple, ifindex: u32) -> u32 {
    if tuple.is_null() {
        return NONE;
    }
    // SAFETY: a map value or the caller's stack. Another CPU may change the ids
    // and flags, which are bytes.
    let tuple = unsafe { tuple.read() };
    select(&tuple, ifindex).unwrap_or(NONE)
}

#[inline(always)]
fn select(tuple: &Tuple, ifindex: u32) -> Option<u32> {
    if tuple.flags & subflow_flag::IDS != 0 {
        if let Some(path) = by_id(id_kind::LOCAL, tuple.local_id) {
            return Some(path);
        }
        if let Some(path) = by_id(id_kind::REMOTE, tuple.remote_id) {
            return Some(path);
        }
    }
    if let Some(path) = SELECT_PREFIX.get(Key::new(ADDRESS_BITS, tuple.local)) {
        return Some(*path);
    }
    if let Some(path) = SELECT_REMOTE.get(Key::new(ADDRESS_BITS, tuple.remote)) {
        return Some(*path);
    }
    let port = id_kind::REMOTE_PORT | u32::from(tuple.remote_port);
    // SAFETY: a `u32` that user space replaces as a whole.
    if let Some(path) = unsafe { SELECT_ID.get(port) } {
        return Some(*path);
    }
    if ifindex == 0 {
        return None;
    }
    // SAFETY: a `u32` that user space replaces as a whole.
    unsafe { SELECT_DEVICE.get(ifindex) }.copied()
}

#[inline(always)]
fn by_id(kind: u32, id: u8) -> Option<u32> {
    // SAFETY: as above.
    unsafe { SELECT_ID.get(kind << 8 | u32::from(id)) }.copied()
}
