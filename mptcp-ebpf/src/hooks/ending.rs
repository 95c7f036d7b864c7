//! How a subflow ended: why its socket closed, and who reset it for what
//! reason.
//!
//! The kernel keeps the reason of a reset (RFC 8684, 3.6) in
//! `mptcp_subflow_context` since Linux 5.13. At the end that sends the reset, it
//! sets the reason before the socket closes. At the other end,
//! `mptcp_incoming_options` does so before `tcp_reset` closes the socket. So
//! both ends find it there when `BPF_SOCK_OPS_STATE_CB` reports the close.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mptcp_common::abi::{Subflow, close_reason, reset, subflow_flag};

use crate::shared::entry::Entry;
use crate::shared::global::any;
use crate::shared::member::{offset, probe, probe_bits};
use crate::shared::socket::KeptReset;

const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE_WAIT: u32 = 8;

const EPIPE: u32 = 32;
const EBADMSG: u32 = 74;
const ENETUNREACH: u32 = 101;
const ECONNABORTED: u32 = 103;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const EHOSTUNREACH: u32 = 113;

/// How a subflow ended: one of [`close_reason`] in the lowest byte, and bits of
/// [`reset`] in the next.
#[derive(Clone, Copy)]
pub struct Ending(pub u32);

impl Ending {
    /// The socket is gone, and nothing more is known.
    pub const GONE: Self = Self::without_reset(close_reason::ERROR);

    const fn without_reset(reason: u8) -> Self {
        Self(reason as u32 | (reset::NONE as u32) << 8)
    }

    /// Judges the end of a subflow whose socket has just closed, by the socket's
    /// error, the TCP state that it left and what the kernel keeps of a reset.
    #[inline(always)]
    pub fn of(subflow: Entry, error: i32, old_state: u32, kept: KeptReset) -> Self {
        let subflow = subflow.as_ptr();
        Self(any(judge_ending(subflow, error as u32, old_state, kept.0)))
    }

    /// Returns why the socket closed: one of [`close_reason`].
    #[inline(always)]
    pub fn reason(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// Returns the reason of the reset.
    #[inline(always)]
    pub fn reset_reason(self) -> usize {
        (self.0 >> 8 & reset::REASON as u32) as usize
    }

    /// Returns whether the subflow was reset soon after its join.
    #[inline(always)]
    pub fn is_early(self) -> bool {
        self.0 >> 8 & reset::EARLY as u32 != 0
    }
}

/// Does the work of [`Ending::of`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_ending(subflow: *const Subflow, error: u32, old_state: u32, kept: u8) -> u32 {
    if subflow.is_null() {
        return 0;
    }
    let reason = close_reason(error, old_state);
    let by = sender(reason, error);
    if by == 0 {
        return Ending::without_reset(reason).0;
    }
    // SAFETY: a map value, read word by word.
    let (key, opened_ns, flags) = unsafe {
        (
            (*subflow).connection,
            (*subflow).opened_ns,
            (*subflow).tuple.flags,
        )
    };
    // SAFETY: the helper has no preconditions.
    let age_ns = unsafe { bpf_ktime_get_ns() }.wrapping_sub(opened_ns);
    let mut bits = by | why(KeptReset(kept), by);
    if flags & subflow_flag::JOIN != 0
        && opened_ns != 0
        && age_ns < reset::EARLY_NS
        && is_in_use(key)
    {
        bits |= reset::EARLY;
    }
    u32::from(reason) | u32::from(bits) << 8
}

/// Returns why a socket closed.
#[inline(always)]
fn close_reason(error: u32, old_state: u32) -> u8 {
    match error {
        0 if old_state == TCP_ESTABLISHED || old_state == TCP_CLOSE_WAIT => close_reason::ABORTED,
        0 => close_reason::FIN,
        ECONNRESET | EPIPE => close_reason::RESET,
        ETIMEDOUT => close_reason::TIMEOUT,
        EHOSTUNREACH | ENETUNREACH => close_reason::UNREACHABLE,
        _ => close_reason::ERROR,
    }
}

/// Returns who sent a reset: `reset::BY_PEER`, `reset::BY_US`, or 0 for nobody.
#[inline(always)]
fn sender(reason: u8, error: u32) -> u8 {
    match reason {
        close_reason::RESET => reset::BY_PEER,
        // `mptcp_subflow_reset`, or a close that threw data away.
        close_reason::ABORTED => reset::BY_US,
        // A mapping that contradicts an earlier one; or somebody destroyed the
        // socket (`ss -K`).
        close_reason::ERROR if error == EBADMSG || error == ECONNABORTED => reset::BY_US,
        _ => 0,
    }
}

/// Returns the reason of a reset, and `reset::TRANSIENT` if the condition is
/// transient.
#[inline(always)]
fn why(kept: KeptReset, by: u8) -> u8 {
    if kept.0 & KeptReset::READ == 0 || by == reset::BY_PEER && kept.0 & KeptReset::SEEN == 0 {
        return reset::NONE;
    }
    // The RFC has assigned no other codes.
    let code = match kept.0 & reset::REASON {
        code if code < reset::NONE => code,
        _ => reset::UNSPECIFIED,
    };
    code | kept.0 & reset::TRANSIENT
}

/// Returns whether neither end has begun to close the connection. Closing or
/// aborting it may reset its subflows, and that is no loss.
#[inline(always)]
fn is_in_use(msk: u64) -> bool {
    let state: u8 = probe(msk, &offset::SK_STATE).unwrap_or(TCP_ESTABLISHED as u8);
    let in_use = state == TCP_ESTABLISHED as u8 || state == TCP_CLOSE_WAIT as u8;
    // The peer has aborted the connection, and the kernel has not followed yet.
    in_use && probe_bits(msk, &offset::MSK_RCV_FASTCLOSE, 1) == 0
}
