//! Wakes idle subflows that are held out when the agent has died.
//!
//! A subflow that is held out has a rate of 0, and the kernel's scheduler gives
//! it nothing. Once it is idle, it has no callback in which a program could lift
//! that. So it gets a timer of its own: the keepalive timer of its socket, set to
//! [`WAKE_SECONDS`]. Each sweep of the agent sets the timer anew, so that it runs
//! out only if the agent has died or hangs. The kernel then makes a keepalive
//! probe (`tcp_keepalive_timer`), and asks the programs for header options first
//! (`BPF_SOCK_OPS_HDR_OPT_LEN_CB`). That callback lifts the limits and takes the
//! timer back. One segment without data has left by then.
//!
//! The application's own keepalive is left as it is. It keeps that in its
//! connection's socket (`struct mptcp_sock`), and the kernel copies it to the
//! subflows. A subflow that has it already wakes by it.

use aya_ebpf::{bindings::BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG, helpers::bpf_getsockopt};
use mptcp_common::{abi::WAKE_SECONDS, controller::HELD_OUT};

use super::options::{Options, SOL_SOCKET, SOL_TCP};
use crate::shared::entry::Entry;
use crate::shared::maps::{LESS_ONE, add, totals};
use crate::shared::socket::Socket;

/// The callback that wakes a subflow. The kernel makes it before each segment, so
/// it is switched on only while the subflow is held out.
pub const WAKE_CALLBACK: u32 = BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;

const SO_KEEPALIVE: i32 = 9;
const TCP_KEEPIDLE: i32 = 4;

/// The value of `TCP_KEEPIDLE` unless an application or an administrator has set it,
/// seconds (`TCP_KEEPALIVE_TIME`).
const DEFAULT_KEEPIDLE: u32 = 7200;

/// Returns the callbacks that a known subflow is to have, given those that it
/// has.
#[inline(always)]
pub fn callbacks(subflow: Entry, present: u32) -> u32 {
    let prior = u32::from(subflow.prior_cb_flags()) & WAKE_CALLBACK;
    let held_out = u32::from(subflow.cap() == HELD_OUT) * WAKE_CALLBACK;
    present & !WAKE_CALLBACK | prior | held_out
}

/// Gives a subflow that is held out its timer, and takes the timer back from one
/// that is not.
#[inline(always)]
pub fn follow(socket: Socket, options: Options, subflow: Entry) {
    let held_out = subflow.cap() == HELD_OUT;
    let armed = subflow.prior_keepidle() != 0;
    if held_out && !armed {
        arm(socket, options, subflow);
    } else if armed && !held_out {
        disarm(socket, options, subflow);
    }
}

/// Sets the timer of a held-out subflow anew. The kernel does that only when
/// `SO_KEEPALIVE` changes.
#[inline(always)]
pub fn put_off(socket: Socket, options: Options, subflow: Entry) {
    if subflow.prior_keepidle() == 0 {
        return;
    }
    if socket.application_keeps_alive() {
        // The application has switched it on since.
        disarm(socket, options, subflow);
        return;
    }
    options.set(SOL_SOCKET, SO_KEEPALIVE, 0);
    options.set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

/// Takes back the timer of a socket that is in no map. Its rate of 0 tells that an
/// agent had held it out.
#[inline(always)]
pub fn disarm_unknown(socket: Socket, options: Options) {
    if socket.keeps_alive() && keepidle(options) == WAKE_SECONDS {
        options.set(SOL_TCP, TCP_KEEPIDLE, DEFAULT_KEEPIDLE);
        if !socket.application_keeps_alive() {
            options.set(SOL_SOCKET, SO_KEEPALIVE, 0);
        }
    }
}

/// Takes over the timer that an earlier agent may have left on a socket that this
/// agent begins to know.
#[inline(always)]
pub fn inherit(socket: Socket, subflow: Entry) {
    if subflow.cap() == HELD_OUT && socket.keeps_alive() && !socket.application_keeps_alive() {
        note(subflow, DEFAULT_KEEPIDLE);
    }
}

#[inline(always)]
fn arm(socket: Socket, options: Options, subflow: Entry) {
    if socket.keeps_alive() {
        return;
    }
    let prior = keepidle(options);
    if prior != 0
        && options.set(SOL_TCP, TCP_KEEPIDLE, WAKE_SECONDS)
        && options.set(SOL_SOCKET, SO_KEEPALIVE, 1)
    {
        note(subflow, prior);
    }
}

#[inline(always)]
fn disarm(socket: Socket, options: Options, subflow: Entry) {
    if keepidle(options) == WAKE_SECONDS {
        options.set(SOL_TCP, TCP_KEEPIDLE, subflow.prior_keepidle());
    }
    if !socket.application_keeps_alive() {
        options.set(SOL_SOCKET, SO_KEEPALIVE, 0);
    }
    forget(subflow);
}

/// Takes note that a subflow has a timer.
#[inline(always)]
fn note(subflow: Entry, prior_keepidle: u32) {
    subflow.set_prior_keepidle(prior_keepidle);
    totals(|totals| add(&totals.timers, 1));
}

/// Takes note that a subflow has no timer any more.
#[inline(always)]
pub fn forget(subflow: Entry) {
    if subflow.prior_keepidle() != 0 {
        subflow.set_prior_keepidle(0);
        totals(|totals| add(&totals.timers, LESS_ONE));
    }
}

/// Returns `TCP_KEEPIDLE`, seconds; 0 if the kernel refuses to tell.
#[inline(always)]
fn keepidle(options: Options) -> u32 {
    let mut seconds = 0_u32;
    // SAFETY: the verifier checks the pointer; `seconds` has 4 bytes.
    let error = unsafe {
        bpf_getsockopt(
            options.0,
            SOL_TCP,
            TCP_KEEPIDLE,
            (&raw mut seconds).cast(),
            size_of::<u32>() as i32,
        )
    };
    if error == 0 { seconds } else { 0 }
}
