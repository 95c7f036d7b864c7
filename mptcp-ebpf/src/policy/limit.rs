//! The ceilings of the host's paths (`--limit`), under every policy.
//!
//! While no path is limited, each of these functions reads one word of the
//! default policy and does nothing more. All of them are behind global functions,
//! which the verifier walks through once, and without a branch before the call,
//! both sides of which it would follow.

use mptcp_common::{
    abi::Subflow,
    controller::{Limits, NO_CAP, Slot, ceiling::Ceiling},
};

use crate::shared::entry::Entry;
use crate::shared::global::any;
use crate::shared::maps::{ceiling, has_limits, limit};

/// Notes that a subflow on `path` had `acked` more bytes acked (maybe none), and
/// runs a step of the path's ceiling if one is due.
#[inline(always)]
pub fn note(path: u32, acked: u64, srtt_us: u32, now_ns: u64) {
    limit_note(path, acked, u64::from(srtt_us), now_ns);
}

/// Lowers the limits that the policy wants for a subflow to its path's ceiling.
#[inline(always)]
pub fn lower(subflow: Entry, now_ns: u64) {
    limit_lower(subflow.as_ptr(), now_ns);
}

/// Returns whether the path is limited. Its subflows never rest.
#[inline(always)]
pub fn is_limited(path: u32, now_ns: u64) -> bool {
    any(limit_of(path, now_ns)) != 0
}

/// Tells a connection's slot the limit of its path.
#[inline(always)]
pub fn tell(slot: &Slot, now_ns: u64) {
    limit_tell(slot, now_ns);
}

/// Returns the ceiling of a path that is limited, and the limit.
#[inline(always)]
fn limited(path: u32, now_ns: u64) -> Option<(&'static Ceiling, u32)> {
    if !has_limits() {
        return None;
    }
    let limit = limit(path, now_ns);
    if limit == 0 {
        return None;
    }
    ceiling(path).map(|ceiling| (ceiling, limit))
}

/// Returns the limit of a path, bytes per second; 0: none. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn limit_of(path: u32, now_ns: u64) -> u32 {
    limited(path, now_ns).map_or(0, |(_, limit)| limit)
}

/// Does the work of [`tell`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn limit_tell(slot: *const Slot, now_ns: u64) -> u32 {
    // SAFETY: null, or a part of a map value, of atomics.
    let Some(slot) = (unsafe { slot.as_ref() }) else {
        return 0;
    };
    let path = slot.path.get().wrapping_sub(1) as u32;
    let (level, limit) = match limited(path, now_ns) {
        Some((ceiling, limit)) => (ceiling.level(), limit),
        None => (NO_CAP, 0),
    };
    slot.limit.set(u64::from(limit));
    slot.ceiling.set(u64::from(level));
    0
}

/// Does the work of [`note`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn limit_note(path: u32, acked: u64, srtt_us: u64, now_ns: u64) -> u32 {
    if let Some((ceiling, limit)) = limited(path, now_ns) {
        ceiling.progress(acked, srtt_us);
        if let Some(elapsed_ns) = ceiling.claim_step(now_ns) {
            ceiling.step(u64::from(limit), elapsed_ns);
        }
    }
    0
}

/// Does the work of [`lower`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn limit_lower(subflow: *mut Subflow, now_ns: u64) -> u32 {
    let Some(subflow) = Entry::at(subflow) else {
        return 0;
    };
    if let Some((ceiling, _)) = limited(subflow.path(), now_ns) {
        let limits = ceiling.lower(Limits {
            cap: subflow.wanted_cap(),
            lowat: subflow.wanted_lowat(),
        });
        subflow.set_wanted_cap(limits.cap);
        subflow.set_wanted_lowat(limits.lowat);
    }
    0
}
