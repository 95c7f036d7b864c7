//! Sets and lifts the socket options that carry out a policy.

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_getsockopt, bpf_setsockopt},
};
use mptcp_common::controller::{HELD_OUT, Limits, NO_CAP};

use super::waking;
use crate::shared::entry::Entry;
use crate::shared::maps::{add, totals};
use crate::shared::member::offset;
use crate::shared::socket::Socket;

pub(super) const SOL_SOCKET: i32 = 1;
const SO_MAX_PACING_RATE: i32 = 47;
pub(super) const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
const TCP_CA_NAME_MAX: usize = 16;
const TCP_NOTSENT_LOWAT: i32 = 25;

/// The first argument of `bpf_setsockopt`: a sockops context or, in `iter/tcp`,
/// a socket.
#[derive(Clone, Copy)]
pub struct Options(pub *mut c_void);

impl Options {
    /// Sets a 32-bit option of the socket. Counts a refusal and returns
    /// `false`.
    #[inline(always)]
    pub fn set(self, level: i32, option: i32, value: u32) -> bool {
        let done = self.try_set(level, option, value);
        if !done {
            totals(|totals| add(&totals.setsockopt_failed, 1));
        }
        done
    }

    /// Sets a 32-bit option that the kernel may not have. Does not count a
    /// refusal.
    #[inline(always)]
    pub fn try_set(self, level: i32, option: i32, mut value: u32) -> bool {
        // SAFETY: the verifier checks the pointer. `value` has 4 bytes, the
        // size that the kernel expects for each option used here.
        let error = unsafe {
            bpf_setsockopt(
                self.0,
                level,
                option,
                (&raw mut value).cast(),
                size_of::<u32>() as i32,
            )
        };
        error == 0
    }
}

/// Notes the limits that a subflow is to have.
#[inline(always)]
pub fn want(subflow: Entry, limits: Limits) {
    // The wanted values go through memory, and one option is set after the
    // other. Otherwise the verifier would follow each choice for the first
    // option through all of the code for the second.
    subflow.set_wanted_cap(limits.cap);
    subflow.set_wanted_lowat(limits.lowat);
}

/// Sets the limits that were noted last, as far as they differ from what the agent
/// has set, and restores the earlier value of an option that they leave free. Keeps
/// an option that would move by 1/128 or less, since each call costs time.
#[inline(always)]
pub fn enforce(socket: Socket, options: Options, subflow: Entry) {
    let free = subflow.cap() == NO_CAP && subflow.lowat() == 0;
    if free && subflow.wanted_cap() == NO_CAP && subflow.wanted_lowat() == 0 {
        return;
    }
    let found = socket.limits();
    let entry = subflow.as_ptr();
    // SAFETY: a map value; makes no reference.
    let (cap, lowat) = unsafe {
        (
            Setting {
                set: &raw mut (*entry).cap,
                prior: &raw mut (*entry).prior_cap,
                none: NO_CAP,
            },
            Setting {
                set: &raw mut (*entry).lowat,
                prior: &raw mut (*entry).prior_lowat,
                none: 0,
            },
        )
    };
    cap.follow(found.cap, subflow.wanted_cap(), |rate| {
        options.set(SOL_SOCKET, SO_MAX_PACING_RATE, rate)
    });
    lowat.follow(found.lowat, subflow.wanted_lowat(), |bytes| {
        options.set(SOL_TCP, TCP_NOTSENT_LOWAT, bytes)
    });
    waking::follow(socket, options, subflow);
}

/// Lifts the limits that an agent has set on a socket that is in no map, as far
/// as they can be told from limits that others have set.
#[inline(always)]
pub fn lift_unknown(socket: Socket, options: Options) {
    let (ours, prior) = socket.limits().split();
    if ours.cap == HELD_OUT {
        waking::disarm_unknown(socket, options);
    }
    if ours.cap != NO_CAP {
        options.set(SOL_SOCKET, SO_MAX_PACING_RATE, prior.cap);
    }
    if ours.lowat != 0 {
        options.set(SOL_TCP, TCP_NOTSENT_LOWAT, prior.lowat);
    }
}

/// A socket option that the agent may set, and the fields of the subflow in the
/// map that keep track of it.
struct Setting {
    /// The value that the agent has set.
    set: *mut u32,
    /// The value that the socket had before that.
    prior: *mut u32,
    /// The value that stands for no limit.
    none: u32,
}

impl Setting {
    /// Moves the option to `wanted` with `call`. `found` is its value now. If
    /// that is not the value that the agent has set, somebody else has set it
    /// since, and the agent keeps their value as `prior`. Their limit holds
    /// beside the agent's: the smaller one is set.
    #[inline(always)]
    fn follow(self, found: u32, wanted: u32, call: impl Fn(u32) -> bool) {
        let Self { set, prior, none } = self;
        // SAFETY: fields of a map value, under its socket's lock.
        unsafe {
            let ours = set.read_volatile();
            if ours == none || ours != found {
                set.write_volatile(none);
                prior.write_volatile(found);
            }
            let (ours, theirs) = (set.read_volatile(), prior.read_volatile());
            if wanted == none {
                if ours != none && call(theirs) {
                    set.write_volatile(none);
                }
                return;
            }
            // A `TCP_NOTSENT_LOWAT` of 0 means no limit. Only the agent itself
            // sets a rate of 0.
            let least = if theirs == 0 || wanted < theirs {
                wanted
            } else {
                theirs
            };
            if (ours == none || has_moved(ours, least)) && call(least) {
                set.write_volatile(least);
            }
        }
    }
}

/// Returns whether an option has moved far enough to be set again.
#[inline(always)]
fn has_moved(set: u32, wanted: u32) -> bool {
    set.abs_diff(wanted) > set / 128
}

/// Brings an idle subflow that was held out back into the scheduler's choice.
///
/// Raising `SO_MAX_PACING_RATE` from 0 leaves `sk_pacing_rate` at 0 until data
/// is acked. An idle subflow has no data to be acked, so the scheduler would
/// pass it over for ever. BBR sets the rate anew when it starts (`bbr_init`),
/// so this switches the socket to another congestion control and back.
#[inline(always)]
pub fn revive(socket: Socket, options: Options) {
    if socket.tcp::<u64>(&offset::SK_PACING_RATE) != 0 || socket.limits().cap == HELD_OUT {
        return;
    }
    let mut name = [0_u8; TCP_CA_NAME_MAX];
    let length = TCP_CA_NAME_MAX as i32;
    // SAFETY: the verifier checks the pointers; `name` has `length` bytes.
    unsafe {
        if bpf_getsockopt(
            options.0,
            SOL_TCP,
            TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            length,
        ) != 0
        {
            return;
        }
        let mut other = if name[..4] == *b"bbr\0" {
            *b"reno\0"
        } else {
            *b"bbr\0\0"
        };
        let other = other.as_mut_ptr().cast();
        let switched = bpf_setsockopt(options.0, SOL_TCP, TCP_CONGESTION, other, 5) == 0
            && bpf_setsockopt(
                options.0,
                SOL_TCP,
                TCP_CONGESTION,
                name.as_mut_ptr().cast(),
                length,
            ) == 0;
        if !switched {
            totals(|totals| add(&totals.setsockopt_failed, 1));
        }
    }
}
