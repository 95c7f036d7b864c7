//! New connections with a peer that is proven already.
//!
//! User space proves the peer of each connection, which takes a round trip or
//! two. Until then the programs rely on what it has proven before, so that the
//! first segments have copies too:
//!
//! ```text
//!   FAMILIAR    addresses and port of a subflow -> the channel between them, if an
//!               earlier connection like it was with this peer
//!   PEER_CHANNELS  the peer -> all channels to it, one of which takes the copy
//! ```
//!
//! | this host | takes a proven peer for the peer of the connection |
//! |---|---|
//! | connects | if an earlier connection to the same address and port was with it |
//! | accepts | if its copy carries the key that this end gave the connection |
//! | either, with `--redundant-key` | if it has the connection's remote address |
//!
//! The programs write what they find to `CARRIERS`, as user space does. User
//! space replaces the entry once the connection is proven, or removes it if the
//! connection cannot be proven.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
};
use mptcp_common::{
    abi::{
        capability,
        redundant::{Carrier, Carriers, ChannelKey, MAX_CARRIERS},
        subflow_flag,
    },
    packet::Source as _,
};

use crate::shared::entry::Entry;
use crate::shared::maps::{
    CARRIERS, CHANNELS, FAMILIAR, NEW_CARRIERS, PEER_CHANNELS, capabilities, connection,
};
use crate::shared::skb::Skb;

/// Offset of the option MP_CAPABLE in a TCP header with timestamps.
const MP_CAPABLE_AT: u32 = 32;

/// Writes a connection's entry in `CARRIERS` if an earlier connection like it
/// was with a proven peer. Returns whether it was.
#[inline(always)]
pub fn greet(cookie: u64) -> bool {
    try_greet(cookie) != 0
}

/// Does the work of [`greet`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn try_greet(cookie: u64) -> u32 {
    u32::from(meet(cookie))
}

#[inline(always)]
fn meet(cookie: u64) -> bool {
    let Some(subflow) = Entry::of(cookie) else {
        return false;
    };
    let tuple = subflow.tuple();
    let mut key = ChannelKey {
        local: tuple.local,
        remote: tuple.remote,
        remote_port: 0,
        scope: 0,
    };
    let mut channel = familiar(&key);
    if channel == 0 && tuple.flags & subflow_flag::SERVER == 0 {
        key.remote_port = tuple.remote_port;
        channel = familiar(&key);
    }
    channel != 0 && believe(subflow.connection(), cookie, channel)
}

#[inline(always)]
fn familiar(key: &ChannelKey) -> u32 {
    // SAFETY: a word that user space replaces as a whole.
    unsafe { FAMILIAR.get(key) }.copied().unwrap_or_default()
}

/// Writes a connection's entry in `CARRIERS` if a segment shows that its sender
/// knows the connection: the client's first segments carry the keys of both
/// ends (RFC 8684, 3.1). `tcp` is the offset of the segment's TCP header. `own`
/// is the channel between the addresses of the subflow.
#[inline(always)]
pub fn introduce(skb: Skb, tcp: u32, cookie: u64, own: u32) -> bool {
    try_introduce(skb.0, tcp, cookie, own) != 0
}

/// Does the work of [`introduce`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn try_introduce(skb: *mut __sk_buff, tcp: u32, cookie: u64, own: u32) -> u32 {
    u32::from(shows_key(Skb(skb), tcp, cookie, own))
}

#[inline(always)]
fn shows_key(skb: Skb, tcp: u32, cookie: u64, own: u32) -> bool {
    let Some(subflow) = Entry::of(cookie) else {
        return false;
    };
    let key = subflow.connection();
    let Some(known) = connection(key) else {
        return false;
    };
    let Some(option) = skb.load::<20>(tcp + MP_CAPABLE_AT) else {
        return false;
    };
    // The option's kind is 30 and its subtype 0. With both keys it has at least
    // 20 bytes.
    if option[0] != 30 || option[1] < 20 || option[2] >> 4 != 0 {
        return false;
    }
    let [.., a, b, c, d, e, f, g, h] = option;
    let announced = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let ours = known.local_key.get();
    announced == ours && announced != 0 && believe(key, cookie, own)
}

/// Takes the peer of channel `own` for the peer of a connection. Returns
/// `false` if that peer has fallen silent, or if the connection's policy does
/// not copy segments.
#[inline(always)]
fn believe(key: u64, cookie: u64, own: u32) -> bool {
    let (Some(channel), Some(known)) = (CHANNELS.get(own), connection(key)) else {
        return false;
    };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let capabilities = capabilities(known, now_ns);
    if channel.peer == 0 || channel.expires_ns <= now_ns || capabilities & capability::COPIES == 0 {
        return false;
    }
    let Some(carriers) = NEW_CARRIERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a map value that nobody else uses now: see `NEW_CARRIERS`.
    let carriers = unsafe { &mut *carriers };
    carriers.peer = channel.peer;
    carriers.carriers[0] = Carrier {
        cookie,
        channel: own,
        translated: 0,
    };
    // The value goes in by reference: a copy of it would not fit the stack.
    let carriers: &Carriers = carriers;
    // User space may have inserted the entry first, which is just as good.
    let _ = CARRIERS.insert(key, carriers, u64::from(BPF_NOEXIST));
    true
}

/// Returns the cheapest channel to `peer` that can take a packet of `length`
/// bytes, other than channel `own` and the channels of device `ifindex`; 0 if
/// there is none. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn stand_in(peer: u64, own: u32, ifindex: u32, length: u32) -> u32 {
    // SAFETY: a value that user space replaces as a whole.
    let Some(all) = (unsafe { PEER_CHANNELS.get(peer) }) else {
        return 0;
    };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let (mut found, mut least) = (0, u32::MAX);
    for at in 0..MAX_CARRIERS {
        let index = all.channels[at & (MAX_CARRIERS - 1)];
        if index != 0
            && index != own
            && let Some(channel) = CHANNELS.get(index)
            && channel.peer == peer
            && channel.expires_ns > now_ns
            && channel.ifindex != ifindex
            && channel.cost < least
            && length <= channel.mtu
        {
            (found, least) = (index, channel.cost);
        }
    }
    found
}
