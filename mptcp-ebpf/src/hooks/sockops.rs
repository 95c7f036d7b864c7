//! Hook: `sockops`, on the root of the cgroup hierarchy.
//!
//! Relies on `BPF_SOCK_OPS_TCP_{CONNECT,LISTEN}_CB` (used by mss.rs),
//! `BPF_SOCK_OPS_{ACTIVE,PASSIVE}_ESTABLISHED_CB`, `_RTT_CB` (once per round
//! trip), `_RTO_CB`, `_RETRANS_CB` and `_STATE_CB`, and `_HDR_OPT_LEN_CB` for
//! subflows that are held out (policy/weighted/waking.rs), all of
//! include/uapi/linux/bpf.h,
//! and on the helpers bpf_skc_to_mptcp_sock (Linux 5.19) and bpf_setsockopt.
//! The kernel makes all these callbacks under the socket's lock.
//!
//! Without this hook the agent could neither see nor steer anything, so it does
//! not start.

use crate::hooks::ending::Ending;
use crate::hooks::subflow::{CALLBACKS, account, close, find_path, open, settle};
use crate::policy::redundant::mss;
use crate::policy::weighted::{Options, may_rest, rests, revive, slot, steer, waking};
use crate::shared::entry::Entry;
use crate::shared::maps::{add, config, connection, is_in_charge, path_stats, redundant, totals};
use crate::shared::member::{global, offset};
use crate::shared::socket::{KeptReset, Socket};
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB,
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RTO_CB,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_SOCK_OPS_TCP_LISTEN_CB,
    },
    cty::c_void,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns},
    macros::sock_ops,
    programs::SockOpsContext,
};
use aya_log_ebpf::warn;
use mptcp_common::{
    abi::{PathStats, RTT_BOUNDS_US},
    word::Word,
};

/// Cookie of the agent's own network namespace. The hook sees sockets of every
/// namespace and ignores those of the others.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Least time between two looks at a subflow. On a shorter round trip callbacks
/// come more often than there is anything new to learn.
const MIN_INTERVAL_NS: u64 = 1_000_000;

const TCP_CLOSE: u32 = 7;

#[sock_ops]
#[inline(always)]
pub fn mptcp_sockops(ctx: SockOpsContext) -> u32 {
    crate::shared::maps::ran(crate::shared::maps::program::SOCKOPS);
    if !is_in_charge() {
        return 1;
    }
    let at_once = match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            established(&ctx);
            true
        }
        BPF_SOCK_OPS_RTO_CB => {
            rto(&ctx);
            true
        }
        BPF_SOCK_OPS_RTT_CB | BPF_SOCK_OPS_RETRANS_CB => false,
        BPF_SOCK_OPS_HDR_OPT_LEN_CB => {
            if config().enforced_at(now_ns()) != 0 {
                return 1;
            }
            true
        }
        BPF_SOCK_OPS_STATE_CB => {
            state(&ctx);
            return 1;
        }
        BPF_SOCK_OPS_TCP_CONNECT_CB | BPF_SOCK_OPS_TCP_LISTEN_CB => {
            opening(&ctx);
            return 1;
        }
        _ => return 1,
    };
    look(&ctx, at_once);
    1
}

/// Returns the context's socket; `None` for a request socket, which is not a
/// full socket yet.
#[inline(always)]
fn sk(ctx: &SockOpsContext) -> Option<*mut c_void> {
    // SAFETY: a field of this program type's context, which the verifier types.
    // It must not be null where a helper takes it.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk.cast()) }
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<Socket> {
    // SAFETY: a socket of a sockops context.
    unsafe { Socket::of_sockops(sk(ctx)?) }
}

#[inline(always)]
fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes this program type's context.
    unsafe { bpf_get_socket_cookie(ctx.ops.cast()) }
}

/// Returns whether the number of subflows that this CPU turned away is a power
/// of two. A host that keeps opening connections beyond the limit must not
/// flood the log.
#[inline(always)]
fn is_first_in_a_while() -> bool {
    let mut turned_away = 0_u64;
    totals(|totals| turned_away = totals.connections_full.get() + totals.subflows_full.get());
    turned_away & turned_away.wrapping_sub(1) == 0
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Returns whether the socket belongs to the agent's network namespace.
#[inline(always)]
fn is_ours(ctx: &SockOpsContext) -> bool {
    // SAFETY: the helper takes this program type's context.
    unsafe { bpf_get_netns_cookie(ctx.ops.cast()) == global(&NETNS_COOKIE) }
}

/// Lowers the segment size of a socket that is about to connect or begins to
/// listen. Does nothing unless a policy copies segments.
#[inline(always)]
fn opening(ctx: &SockOpsContext) {
    if config().enforced_at(now_ns()) == 0 || redundant().is_none() || !is_ours(ctx) {
        return;
    }
    let Some(socket) = socket(ctx) else { return };
    let options = Options(ctx.ops.cast());
    if ctx.op() == BPF_SOCK_OPS_TCP_CONNECT_CB {
        mss::connects(socket, options);
    } else {
        mss::listens(socket, options, cookie(ctx));
    }
}

#[inline(always)]
fn established(ctx: &SockOpsContext) {
    if !is_ours(ctx) {
        return;
    }
    let Some(socket) = socket(ctx) else { return };
    if socket.tcp::<u8>(&offset::SK_STATE) == TCP_CLOSE as u8 {
        // The kernel resets a join that comes too late, and only then makes
        // this callback. No later callback would report its end, so it is not
        // registered.
        return;
    }
    let prior = ctx.cb_flags();
    let now_ns = now_ns();
    if open(socket, cookie(ctx), prior, true, now_ns) {
        let _ = ctx.set_cb_flags((prior | CALLBACKS) as i32);
    } else if is_first_in_a_while() {
        warn!(
            ctx,
            "a map is full: a subflow goes unseen (--max-connections)"
        );
    }
}

/// Brings a known subflow up to date and applies the policy to it. Unless
/// `at_once`, skips the expensive part if the last look was a moment ago or if
/// the subflow rests.
#[inline(always)]
fn look(ctx: &SockOpsContext, at_once: bool) {
    let Some(subflow) = Entry::of(cookie(ctx)) else {
        return;
    };
    let now_ns = now_ns();
    if ctx.op() == BPF_SOCK_OPS_RTT_CB {
        let rtt_us = rtt_us(ctx);
        path_stats(subflow.path(), |stats| observe(stats, rtt_us));
        subflow.set_heard_ns(now_ns);
    }
    // SAFETY: a field of this program type's context.
    let acked = unsafe { (*ctx.ops).bytes_acked };
    let soon = now_ns.wrapping_sub(subflow.seen_ns()) < MIN_INTERVAL_NS;
    if !at_once && (soon || rests(subflow, acked, now_ns)) {
        return;
    }
    examine(ctx, subflow, now_ns);
}

/// Does the expensive part of [`look`], which most callbacks of a thin
/// connection skip.
#[inline(always)]
fn examine(ctx: &SockOpsContext, subflow: Entry, now_ns: u64) {
    let Some(connection) = connection(subflow.connection()) else {
        return;
    };
    let Some(socket) = socket(ctx) else { return };
    if subflow.generation() != config().generation {
        find_path(socket, connection, subflow, now_ns);
    }
    account(socket, connection, subflow, now_ns);
    let options = Options(ctx.ops.cast());
    steer(socket, options, connection, subflow, now_ns);
    if ctx.op() == BPF_SOCK_OPS_HDR_OPT_LEN_CB {
        revive(socket, options);
    }
    let present = ctx.cb_flags();
    let wanted = waking::callbacks(subflow, present);
    if present != wanted {
        let _ = ctx.set_cb_flags(wanted as i32);
    }
    subflow.set_resting(u32::from(may_rest(connection, subflow, now_ns)));
}

/// Returns the round trip that `BPF_SOCK_OPS_RTT_CB` reports: the sample itself
/// since Linux 6.11, the smoothed value before that.
#[inline(always)]
fn rtt_us(ctx: &SockOpsContext) -> u32 {
    let sample = ctx.arg(0);
    // SAFETY: a field of this program type's context.
    let srtt_us = unsafe { (*ctx.ops).srtt_us >> 3 };
    if sample != 0 { sample } else { srtt_us }
}

#[inline(always)]
fn observe(stats: &PathStats<Word>, rtt_us: u32) {
    let mut bucket = 0;
    for bound in RTT_BOUNDS_US {
        if rtt_us <= bound {
            break;
        }
        bucket += 1;
    }
    if let Some(count) = stats.rtt.get(bucket) {
        add(count, 1);
    }
    add(&stats.rtt_sum_us, u64::from(rtt_us));
}

#[inline(always)]
fn rto(ctx: &SockOpsContext) {
    if let Some(subflow) = Entry::of(cookie(ctx)) {
        path_stats(subflow.path(), |stats| add(&stats.timeouts, 1));
        // A timeout is often the first sign that the route changed, so let the
        // next look find the path again.
        subflow.set_generation(subflow.generation().wrapping_sub(1));
        if let Some(connection) = connection(subflow.connection())
            && let Some(slot) = slot(connection, subflow)
        {
            slot.timeouts.add(1);
        }
    }
}

#[inline(always)]
fn state(ctx: &SockOpsContext) {
    if ctx.arg(1) != TCP_CLOSE {
        return;
    }
    let cookie = cookie(ctx);
    let Some(subflow) = Entry::of(cookie) else {
        return;
    };
    let (mut error, mut reset) = (0, KeptReset::default());
    // SAFETY: as in `socket`.
    let closing = sk(ctx).and_then(|sk| unsafe { Socket::of_closing(sk) });
    if let Some(socket) = closing {
        error = socket.tcp(&offset::SK_ERR);
        reset = socket.reset();
        settle(socket, subflow);
    }
    close(
        subflow,
        cookie,
        Ending::of(subflow, error, ctx.arg(0), reset),
    );
}
