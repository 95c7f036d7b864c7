//! Hook: `iter/tcp`, `struct bpf_iter__tcp { meta; sk_common; uid }`.
//!
//! Exists since Linux 5.9, and may call bpf_setsockopt since 6.0. When user
//! space reads the iterator, it visits every TCP socket of the reader's network
//! namespace, under the socket's lock. `SWEEP` holds its task: bring the totals
//! up to date and adopt unknown sockets, apply a policy at once, or lift
//! everything.
//!
//! The option TCP_BPF_SOCK_OPS_CB_FLAGS, which gives callbacks to a socket that
//! is older than the agent, exists since Linux 6.12. Before that, such sockets
//! are left alone and counted. So they are where the kernel forbids the reads
//! that tell a socket's connection (lockdown `confidentiality`), and where the
//! agent was given only a part of the cgroup hierarchy.
//!
//! Without this hook totals lag by a round trip (those of thin connections by
//! `REST_NS`), connections that are older than the agent are not seen, and idle
//! connections keep their limits when the agent stops.

use aya_ebpf::{
    bindings::seq_file,
    cty::c_void,
    helpers::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_seq_write},
};
use mptcp_common::{
    abi::{Visit, capability, sweep},
    controller::Limits,
};

use crate::hooks::ending::Ending;
use crate::hooks::subflow::{CALLBACKS, account, close, find_path, open, register};
use crate::policy::overflow;
use crate::policy::redundant::mss;
use crate::policy::weighted::waking::{self, WAKE_CALLBACK};
use crate::policy::weighted::{Options, enforce, lift_unknown, obey, revive, want, weigh_all};
use crate::shared::entry::Entry;
use crate::shared::maps::{GONE, SWEEP, capabilities, connection, rearmed, reclaimed};
use crate::shared::member::{ADOPT, global, offset};
use crate::shared::socket::Socket;

const SOL_TCP: i32 = 6;
const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

const TCP_ESTABLISHED: u8 = 1;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;

/// The program's context, as the kernel's BTF has it.
#[repr(C)]
struct Context {
    meta: *const Meta,
    sk_common: *mut c_void,
}

#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp(ctx: *const Context) -> i32 {
    crate::shared::maps::ran(crate::shared::maps::program::ITER);
    // SAFETY: the kernel hands a valid context; both members are typed.
    let (seq, sk) = unsafe { ((*(*ctx).meta).seq, (*ctx).sk_common) };
    if sk.is_null() {
        // At the end of the pass the kernel calls once more, without a socket.
        reclaim();
        return 0;
    }
    // SAFETY: a typed socket pointer.
    let Some(socket) = (unsafe { Socket::of_iter(sk) }) else {
        return 0;
    };
    let state: u8 = socket.tcp(&offset::SK_STATE);
    let what = SWEEP.get(0).copied().unwrap_or(sweep::ACCOUNT);
    if state == TCP_LISTEN {
        // SAFETY: a typed socket pointer.
        let cookie = unsafe { bpf_get_socket_cookie(sk) };
        mss::sweep(socket, Options(sk), cookie, what);
        let visit = Visit {
            cookie,
            listens: 1,
            ..Visit::default()
        };
        write(seq, &visit);
        return 0;
    }
    // SAFETY: a typed socket pointer; the other helper has no preconditions.
    let (cookie, now_ns) = unsafe { (bpf_get_socket_cookie(sk), bpf_ktime_get_ns()) };
    let mut visit = Visit {
        cookie,
        ..Visit::default()
    };

    if state != TCP_ESTABLISHED && state != TCP_FIN_WAIT1 && state != TCP_CLOSE_WAIT {
        if Entry::of(cookie).is_some() {
            visit.adopted = Visit::CLOSING;
            write(seq, &visit);
        }
        return 0;
    }
    if let Some(subflow) = Entry::of(cookie) {
        update(socket, subflow, cookie, now_ns);
        if what != sweep::LIFT {
            rearm(socket, Options(sk), subflow);
            waking::put_off(socket, Options(sk), subflow);
        }
    } else if what != sweep::LIFT {
        adopt(socket, Options(sk), cookie, now_ns, &mut visit);
    }
    if what != sweep::ACCOUNT {
        if let Some(subflow) = Entry::of(cookie) {
            if what == sweep::APPLY {
                visit.let_in = decide(socket, Options(sk), subflow, now_ns);
            } else {
                release(socket, Options(sk), subflow);
            }
            enforce(socket, Options(sk), subflow);
        } else {
            // The agent does not know this socket, but an agent that died may have
            // left limits on it.
            lift_unknown(socket, Options(sk));
        }
        revive(socket, Options(sk));
    }

    write(seq, &visit);
    0
}

/// Hands a record to the reader of the iterator.
#[inline(always)]
fn write(seq: *mut seq_file, visit: &Visit) {
    // SAFETY: `seq` is typed; the length is that of `visit`.
    unsafe {
        bpf_seq_write(seq, (&raw const *visit).cast(), size_of::<Visit>() as u32);
    }
}

/// Removes the entry whose cookie is in `GONE`: user space no longer found its
/// socket.
#[inline(always)]
fn reclaim() {
    if let Some(&cookie) = GONE.get(0)
        && cookie != 0
        && let Some(subflow) = Entry::of(cookie)
    {
        close(subflow, cookie, Ending::GONE);
        reclaimed();
    }
}

/// Registers a socket that is older than the agent.
#[inline(always)]
fn adopt(socket: Socket, options: Options, cookie: u64, now_ns: u64, visit: &mut Visit) {
    let prior = socket.callbacks();
    if global(&ADOPT) != 0
        && socket.connection() != 0
        && options.try_set(SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, prior | CALLBACKS)
    {
        visit.adopted = u32::from(open(socket, cookie, prior, false, now_ns));
    } else {
        visit.refused = 1;
    }
}

/// Switches callbacks on again that somebody else's program has switched off by
/// setting the socket's flags without keeping ours. (Before Linux 6.12 only
/// that program could switch them on.)
#[inline(always)]
fn rearm(socket: Socket, options: Options, subflow: Entry) {
    let present = socket.callbacks();
    let wanted = waking::callbacks(subflow, present | CALLBACKS);
    if wanted != present
        && options.try_set(SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, wanted)
        && present & CALLBACKS != CALLBACKS
    {
        rearmed();
    }
}

/// Returns whether the subflow has the callback that wakes it if the agent dies
/// while it is held out, and gives it that callback as far as the kernel can:
/// before Linux 6.12, only a callback of the subflow's own gives it.
#[inline(always)]
fn can_wake(socket: Socket, options: Options) -> bool {
    let present = socket.callbacks();
    let wanted = present | WAKE_CALLBACK;
    present == wanted || options.try_set(SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, wanted)
}

/// Brings a known subflow up to date.
#[inline(always)]
fn update(socket: Socket, subflow: Entry, cookie: u64, now_ns: u64) {
    if let Some(connection) = connection(subflow.connection()) {
        find_path(socket, connection, subflow, now_ns);
        account(socket, connection, subflow, now_ns);
        register(connection, &subflow.tuple(), cookie, now_ns);
    }
}

/// Decides which limits a subflow is to have under the policy. Returns the value of
/// [`Visit::let_in`].
#[inline(always)]
fn decide(socket: Socket, options: Options, subflow: Entry, now_ns: u64) -> u32 {
    let Some(connection) = connection(subflow.connection()) else {
        return 0;
    };
    // An idle connection runs no step that would update the weights.
    weigh_all(connection);
    let mut let_in = 0;
    if capabilities(connection, now_ns) & capability::OVERFLOWS != 0 {
        let_in = overflow::visit(connection, subflow, now_ns);
    }
    let can_wake = || can_wake(socket, options);
    obey(socket, connection, subflow, now_ns, can_wake);
    subflow.set_resting(0);
    let_in
}

/// Takes back the callbacks, and decides that the subflow has no limits.
#[inline(always)]
fn release(socket: Socket, options: Options, subflow: Entry) {
    let added = (CALLBACKS | WAKE_CALLBACK) & !u32::from(subflow.prior_cb_flags());
    options.try_set(
        SOL_TCP,
        TCP_BPF_SOCK_OPS_CB_FLAGS,
        socket.callbacks() & !added,
    );
    want(subflow, Limits::NONE);
}
