//! Room for wrapping: under the redundant policy, sockets that connect or
//! listen offer a smaller segment size, so that full-size segments still fit a
//! path once they are wrapped.
//!
//! After the handshake the size is settled: older connections keep theirs, and
//! what does not fit is counted.

use mptcp_common::{abi::redundant::Redundant, abi::sweep};

use crate::{
    maps::{REDUNDANT, redundant},
    socket::{Socket, has, offset},
    steer::Options,
};

const SOL_TCP: i32 = 6;
const TCP_MAXSEG: i32 = 2;
const AF_INET: u16 = 2;

/// Lowers the segment size that a socket is to offer; never raises it.
#[inline(always)]
pub fn lower(socket: Socket, options: Options) {
    let Some(settings) = redundant() else { return };
    let wanted = wanted(socket, settings);
    let set = offered(socket);
    if wanted != 0 && (set == 0 || set > wanted) {
        options.set(SOL_TCP, TCP_MAXSEG, wanted);
    }
}

/// Does to a listening socket what a pass of `iter/tcp` is for: one of
/// [`sweep`].
#[inline(always)]
pub fn sweep(socket: Socket, options: Options, what: u32) {
    if what == sweep::APPLY && redundant().is_some() {
        lower(socket, options);
    } else if what != sweep::ACCOUNT {
        restore(socket, options);
    }
}

/// Takes back what [`lower`] has set, under a policy that is past: its segment
/// sizes are still in the map.
#[inline(always)]
fn restore(socket: Socket, options: Options) {
    let ours = REDUNDANT
        .get(0)
        .map_or(0, |settings| wanted(socket, settings));
    if ours != 0 && offered(socket) == ours {
        options.set(SOL_TCP, TCP_MAXSEG, 0);
    }
}

/// An IPv6 socket may take IPv4 as well: the smaller size fits both.
#[inline(always)]
fn wanted(socket: Socket, settings: &Redundant) -> u32 {
    if socket.tcp::<u16>(&offset::SK_FAMILY) == AF_INET {
        settings.mss_v4
    } else {
        settings.mss_v6
    }
}

/// What the application, or the agent, has asked for; 0: nothing.
#[inline(always)]
fn offered(socket: Socket) -> u32 {
    if has(&offset::TCP_USER_MSS) {
        u32::from(socket.tcp::<u16>(&offset::TCP_USER_MSS))
    } else {
        0
    }
}
