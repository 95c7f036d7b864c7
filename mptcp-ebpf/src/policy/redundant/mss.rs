//! Room for wrapping: under the redundant policy, sockets that connect or
//! listen offer a smaller segment size, so that full-size segments still fit a
//! path once they are wrapped.
//!
//! ```text
//!   own     the size of a listening socket without the policy (0: not set)
//!   offers  the policy's size, if `own` is 0 or larger; else `own`
//! ```
//!
//! A listening socket gets its own size back when the policy ends, and another
//! one when the policy's size changes. The map `LISTENERS`, which outlives the
//! agent, holds which sockets were changed and the size that they had.
//!
//! The handshake settles the size: older connections keep theirs, and segments
//! that do not fit once wrapped are counted.

use mptcp_common::{
    abi::redundant::{Listener, Redundant},
    abi::sweep,
};

use crate::policy::weighted::Options;
use crate::shared::maps::{LISTENERS, redundant};
use crate::shared::member::{has, offset};
use crate::shared::socket::Socket;

const SOL_TCP: i32 = 6;
const TCP_MAXSEG: i32 = 2;
const AF_INET: u16 = 2;

/// Lowers the segment size that a connecting socket offers. Never raises it.
#[inline(always)]
pub fn connects(socket: Socket, options: Options) {
    let wanted = wanted(socket);
    let set = offered(socket);
    if wanted != 0 && (set == 0 || set > wanted) {
        options.set(SOL_TCP, TCP_MAXSEG, wanted);
    }
}

/// Lowers the segment size that a socket offers when it begins to listen.
#[inline(always)]
pub fn listens(socket: Socket, options: Options, cookie: u64) {
    offer(socket, options, cookie, wanted(socket));
}

/// Carries out the task of a pass of `iter/tcp` on a listening socket. `what`
/// is one of the constants in `abi::sweep`.
#[inline(always)]
pub fn sweep(socket: Socket, options: Options, cookie: u64, what: u32) {
    if what == sweep::ACCOUNT {
        return;
    }
    let wanted = if what == sweep::APPLY {
        wanted(socket)
    } else {
        0
    };
    offer(socket, options, cookie, wanted);
}

/// Lets a listening socket offer `wanted`, or its own size if that is smaller
/// or if `wanted` is 0.
#[inline(always)]
fn offer(socket: Socket, options: Options, cookie: u64, wanted: u32) {
    let set = offered(socket);
    // SAFETY: a value that is replaced as a whole.
    let known = unsafe { LISTENERS.get(cookie) }.copied();
    let own = match known {
        Some(Listener { own, given }) if given == set => own,
        _ => set,
    };
    let offers = if wanted != 0 && (own == 0 || own > wanted) {
        wanted
    } else {
        own
    };
    let given = Listener { own, given: offers };
    if offers != own && LISTENERS.insert(cookie, given, 0).is_err() {
        // Without an entry the socket's own size could not be restored later,
        // so do not change it.
        return;
    }
    if offers != set {
        options.set(SOL_TCP, TCP_MAXSEG, offers);
    }
    if offers == own && known.is_some() {
        let _ = LISTENERS.remove(cookie);
    }
}

/// Returns the segment size that the policy wants of a socket; 0 if it wants
/// none, or if the policy is not the redundant one.
#[inline(always)]
fn wanted(socket: Socket) -> u32 {
    redundant().map_or(0, |settings| size(socket, settings))
}

/// Returns the policy's segment size for the socket's address family. An IPv6
/// socket may take IPv4 as well: the smaller size fits both.
#[inline(always)]
fn size(socket: Socket, settings: &Redundant) -> u32 {
    if socket.tcp::<u16>(&offset::SK_FAMILY) == AF_INET {
        settings.mss_v4
    } else {
        settings.mss_v6
    }
}

/// Returns the segment size that the application or the agent has set; 0: none.
#[inline(always)]
fn offered(socket: Socket) -> u32 {
    if has(&offset::TCP_USER_MSS) {
        u32::from(socket.tcp::<u16>(&offset::TCP_USER_MSS))
    } else {
        0
    }
}
