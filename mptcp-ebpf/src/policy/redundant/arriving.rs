//! A segment that has arrived, and what becomes of it.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
};
use mptcp_common::{
    abi::redundant::{Arrival, Device, outcome},
    arrival::Verdict,
    packet::Segment,
};

use crate::policy::redundant::headers::Headers;
use crate::policy::redundant::receiver::Receiver;
use crate::policy::redundant::unwrap::strip;
use crate::shared::global::any;
use crate::shared::maps::{ARRIVALS, NEW_ARRIVAL, PATIENCE, add, copy_stats};
use crate::shared::skb::{DROP, PASS, Skb};

/// A segment that has arrived, and how it came. It has no padding, because
/// global functions get it on their caller's stack.
#[repr(C)]
#[derive(Default)]
pub struct Arriving {
    /// Offset of its IP header in the skb, bytes.
    pub at: u32,
    /// Bytes from there to the end.
    pub length: u32,
    /// The path that brought it.
    pub path: u32,
    /// Length of the outer IP header that it is wrapped behind; 0: not wrapped.
    pub outer: u32,
    /// Index in `CHANNELS` of the channel that it came over, if it is wrapped.
    pub channel: u32,
    /// 1 if it was unwrapped on another device, and then entered this one.
    pub unwrapped: u32,
    /// How many rounds it has waited.
    pub rounds: u32,
}

impl Arriving {
    /// Returns the action for a packet that fails a check. Drops a copy, and
    /// counts the reason unless it is unwrapped already. Lets a packet pass
    /// that is no copy.
    #[inline(always)]
    pub fn refuse(&self, reason: u8) -> i32 {
        if self.unwrapped != 0 {
            return DROP;
        }
        if self.outer == 0 {
            return PASS;
        }
        let reason = any(u32::from(reason));
        copy_stats(self.path, |stats| {
            add(&stats.received[usize::from(outcome::REFUSED)], 1);
            if let Some(count) = stats.refused.get(reason as usize) {
                add(count, 1);
            }
        });
        DROP
    }
}

/// The results of [`deliver`]: each is a [`Verdict`], except `NOBODY`.
/// With `FIRST`, the upper half holds how many bytes were missing.
pub mod done {
    /// No socket was found.
    pub const NOBODY: u64 = 0;
    pub const FIRST: u64 = 1;
    pub const HARMLESS: u64 = 2;
    pub const WAIT: u64 = 4;
    pub const SECOND: u64 = 8;
    /// Added if the kernel refused to take the outer headers off.
    pub const NOT_STRIPPED: u64 = 16;
}

/// Finds the socket that a segment is for and judges the segment. Unwraps it
/// and gives it to the socket, if it is wrapped and need not wait. Returns one
/// of [`done`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn deliver(
    skb: *mut __sk_buff,
    arriving: *const Arriving,
    headers: *const Headers,
    device: *const Device,
    cookie: u64,
) -> u64 {
    let skb = Skb(skb);
    // SAFETY: null, or values on the caller's stack.
    let (Some(arriving), Some(read), Some(device)) =
        (unsafe { (arriving.as_ref(), headers.as_ref(), device.as_ref()) })
    else {
        return done::NOBODY;
    };
    let (ip, segment) = (read.ip(), read.segment());
    let Some(receiver) = Receiver::find(skb, arriving.at, ip.header, &segment) else {
        return done::NOBODY;
    };
    let verdict = judge(&receiver, cookie, &segment, arriving.rounds);
    let mut done = match verdict {
        Verdict::First(missing) => done::FIRST | u64::from(missing) << 32,
        Verdict::Harmless => done::HARMLESS,
        Verdict::Wait => done::WAIT,
        Verdict::Second => done::SECOND,
    };
    if verdict != Verdict::Second && verdict != Verdict::Wait && arriving.outer != 0 {
        if strip(skb, device, arriving.outer, ip.header).is_err() {
            done |= done::NOT_STRIPPED;
        }
        receiver.give(skb);
    }
    receiver.release();
    done
}

#[inline(always)]
fn judge(receiver: &Receiver, cookie: u64, segment: &Segment, rounds: u32) -> Verdict {
    let arrival = arrival(cookie);
    if arrival.is_null() {
        return Verdict::Harmless;
    }
    // SAFETY: a map value, of atomics; the helper has no preconditions.
    unsafe {
        let received = receiver.received(segment);
        let now_ns = bpf_ktime_get_ns();
        (*arrival).judge(segment, &received, rounds, || may_wait(now_ns), now_ns)
    }
}

/// Takes one of this CPU's rounds for a segment that waits. Returns `false` if
/// none is left.
#[inline(always)]
fn may_wait(now_ns: u64) -> bool {
    PATIENCE
        .get(0)
        .is_some_and(|patience| patience.take(now_ns))
}

/// Returns the entry with what has arrived for a subflow lately; null if there
/// is no memory for it.
#[inline(always)]
fn arrival(cookie: u64) -> *const Arrival {
    if let Some(known) = ARRIVALS.get_ptr(cookie) {
        return known;
    }
    if let Some(blank) = NEW_ARRIVAL.get(0) {
        // Another CPU may have inserted the entry first, which is just as good.
        let _ = ARRIVALS.insert(cookie, blank, u64::from(BPF_NOEXIST));
    }
    ARRIVALS.get_ptr(cookie).unwrap_or(core::ptr::null())
}

/// Counts the verdict on a segment: one of [`done`].
#[inline(always)]
pub fn count(arriving: &Arriving, done: u64) {
    let original = arriving.outer == 0 && arriving.unwrapped == 0;
    let missing = done >> 32;
    if arriving.rounds != 0 && missing != 0 {
        copy_stats(arriving.path, |stats| add(&stats.waits_in_vain, 1));
    }
    copy_stats(arriving.path, |stats| {
        if original {
            if done == done::SECOND {
                add(&stats.late_originals, 1);
            }
        } else if done & done::FIRST != 0 {
            add(&stats.received[usize::from(outcome::FIRST)], 1);
            add(&stats.rescued_bytes, missing);
        } else {
            add(&stats.received[usize::from(outcome::DUPLICATE)], 1);
        }
    });
}
