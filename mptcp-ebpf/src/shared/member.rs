//! Reads of members of the kernel's structures, at offsets that the agent takes
//! from the running kernel's BTF.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_buf};
use mptcp_common::offsets::ABSENT;

/// The globals that hold the offsets: see `mptcp_common::offsets`.
#[allow(
    unreachable_pub,
    reason = "one macro makes them all; not all are used by every module"
)]
pub mod offset {
    use mptcp_common::offsets::ABSENT;

    macro_rules! globals {
        ($($global:ident = $structure:literal . $member:literal $unit:ident $hooks:ident;)*) => {
            $(#[unsafe(no_mangle)] pub static $global: u32 = ABSENT;)*
        };
    }
    mptcp_common::for_each_member!(globals);
}

/// 1 if sockets that are older than the agent may be adopted: the sockops
/// program is attached to the root of the cgroup hierarchy, so it sees all of
/// them.
#[unsafe(no_mangle)]
pub static ADOPT: u32 = 0;

/// 1 where the kernel has BBR, which brings back an idle subflow that was held
/// out; set by the agent. Elsewhere no connection is made to do without a path.
#[unsafe(no_mangle)]
pub static REVIVES: u32 = 0;

/// 1 where the kernel lets programs call `bpf_probe_read_kernel` (not under
/// lockdown `confidentiality`); set by the agent.
#[unsafe(no_mangle)]
pub static PROBE_READ: u32 = 0;

/// Returns a global that the agent sets before load. The map behind it is
/// frozen, so the verifier knows the value.
#[inline(always)]
pub fn global<T: Copy>(value: &'static T) -> T {
    // SAFETY: a valid reference. The read is volatile, because rustc would
    // otherwise use the initialiser.
    unsafe { core::ptr::read_volatile(value) }
}

/// Returns whether the kernel has the member behind `offset`.
#[inline(always)]
pub fn has(offset: &'static u32) -> bool {
    global(offset) != ABSENT
}

/// Loads a member through a BTF-typed pointer.
///
/// # Safety
/// `base` must be a pointer whose type the verifier knows, and `offset` the
/// offset of a member of type `T` in it. The verifier checks both.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: *const u8, offset: &'static u32) -> T {
    // SAFETY: the caller's promise; the kernel handles a faulting address.
    unsafe { core::ptr::read_volatile(base.add(global(offset) as usize).cast()) }
}

/// Loads a flag, whose offset counts bits, through a BTF-typed pointer.
///
/// # Safety
/// The same promise is needed as for [`load`].
#[inline(always)]
pub unsafe fn load_bit(base: *const u8, offset: &'static u32) -> bool {
    let bit = global(offset);
    // SAFETY: the caller's promise.
    let byte: u8 = unsafe { core::ptr::read_volatile(base.add(bit as usize / 8)) };
    byte >> (bit % 8) & 1 != 0
}

/// Reads kernel memory that BTF does not type. Returns `None` where the kernel
/// forbids the read or has no such member.
#[inline(always)]
pub fn probe<T: Copy>(address: u64, offset: &'static u32) -> Option<T> {
    if !can_probe(offset) || address == 0 {
        return None;
    }
    let from = address.wrapping_add(u64::from(global(offset))) as *const T;
    // SAFETY: the helper checks the address; a bad one is an error.
    unsafe { bpf_probe_read_kernel(from) }.ok()
}

/// Returns whether [`probe`] can read the member behind `offset`.
#[inline(always)]
pub fn can_probe(offset: &'static u32) -> bool {
    global(&PROBE_READ) != 0 && has(offset)
}

/// Reads a flag as [`probe`] does: 0 or 1, and 0 where it cannot be read.
#[inline(always)]
pub fn probe_flag(address: u64, offset: &'static u32) -> u8 {
    probe_bits(address, offset, 1)
}

/// Reads a bit-field, which lies within one byte, as [`probe`] does; 0 where it
/// cannot be read. `mask` has its width. No branch depends on it, so that the
/// verifier need not follow each value.
#[inline(always)]
pub fn probe_bits(address: u64, offset: &'static u32, mask: u8) -> u8 {
    if !can_probe(offset) {
        return 0;
    }
    let bit = global(offset);
    let from = address.wrapping_add(u64::from(bit / 8));
    let mut byte = [0_u8];
    // SAFETY: the helper checks the address; for a bad one it writes zero.
    let _ = unsafe { bpf_probe_read_kernel_buf(from as *const u8, &mut byte) };
    byte[0] >> (bit % 8) & mask
}
