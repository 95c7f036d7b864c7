//! New connections with a peer that is proven already.
//!
//! User space proves each connection, which takes a round trip or two. Until
//! then the programs go by what it has proven before, so that the first segments
//! have copies too:
//!
//! ```text
//!   FAMILIAR    addresses and port of a subflow -> the link between them, if a
//!               connection like it was with this peer
//!   PEER_LINKS  the peer -> all links to it, one of which takes the copy
//! ```
//!
//! | this host | takes the peer for that of the connection |
//! |---|---|
//! | connects | if it was that of a connection to the same address and port |
//! | accepts | if its copy carries the key that this end gave the connection |
//! | either, with `--redundant-key` | if it is at the other address |
//!
//! What is found is written to `CARRIERS`, as user space would. It replaces the
//! entry once the connection is proven, or removes it if it cannot be.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
use mptcp_common::{
    abi::{
        redundant::{Carrier, Carriers, LinkKey, MAX_CARRIERS},
        subflow_flag,
    },
    packet::Source as _,
};

use crate::{
    maps::{CARRIERS, FAMILIAR, LINKS, NEW_CARRIERS, PEER_LINKS, SUBFLOWS, connection},
    skb::Skb,
};

/// Where the option MP_CAPABLE is in a TCP header with timestamps.
const MP_CAPABLE_AT: u32 = 32;

/// Writes a connection's entry in `CARRIERS` if a connection like it was with a
/// proven peer. Not inlined: its key has the stack to itself.
#[inline(never)]
pub fn greet(cookie: u64) -> bool {
    let Some(subflow) = SUBFLOWS.get_ptr(cookie) else {
        return false;
    };
    // SAFETY: a map value; addresses and ports do not change.
    let (tuple, connection) = unsafe { (&(*subflow).tuple, (*subflow).connection) };
    let mut key = LinkKey {
        local: tuple.local,
        remote: tuple.remote,
        remote_port: 0,
        scope: 0,
    };
    let mut link = familiar(&key);
    if link == 0 && tuple.flags & subflow_flag::SERVER == 0 {
        key.remote_port = tuple.remote_port;
        link = familiar(&key);
    }
    link != 0 && believe(connection, cookie, link)
}

#[inline(always)]
fn familiar(key: &LinkKey) -> u32 {
    // SAFETY: a word that user space replaces as a whole.
    unsafe { FAMILIAR.get(key) }.copied().unwrap_or_default()
}

/// Writes a connection's entry in `CARRIERS` if a segment, whose TCP header is
/// at `tcp`, shows that its sender knows the connection: the first segments of
/// the client carry the keys of both ends (RFC 8684, 3.1). `own` is the link
/// between the addresses of the subflow.
#[inline(never)]
pub fn introduce(skb: Skb, tcp: u32, cookie: u64, own: u32) -> bool {
    let Some(subflow) = SUBFLOWS.get_ptr(cookie) else {
        return false;
    };
    // SAFETY: a map value; this word does not change.
    let key = unsafe { (*subflow).connection };
    let Some(known) = connection(key) else {
        return false;
    };
    let Some(option) = skb.load::<20>(tcp + MP_CAPABLE_AT) else {
        return false;
    };
    // Kind 30; with both keys at least 20 bytes long; subtype 0.
    if option[0] != 30 || option[1] < 20 || option[2] >> 4 != 0 {
        return false;
    }
    let [.., a, b, c, d, e, f, g, h] = option;
    let told = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    // SAFETY: a map value, of atomics.
    let ours = unsafe { (*known).local_key.get() };
    told == ours && told != 0 && believe(key, cookie, own)
}

/// Takes the peer of link `own` for that of a connection.
#[inline(always)]
fn believe(connection: u64, cookie: u64, own: u32) -> bool {
    let Some(link) = LINKS.get(own) else {
        return false;
    };
    // SAFETY: the helper has no preconditions.
    if link.peer == 0 || link.expires_ns <= unsafe { bpf_ktime_get_ns() } {
        return false;
    }
    let Some(carriers) = NEW_CARRIERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a map value that nobody else uses now (see there).
    let carriers = unsafe { &mut *carriers };
    carriers.peer = link.peer;
    carriers.carriers[0] = Carrier {
        cookie,
        link: own,
        translated: 0,
    };
    // The value goes in by reference: a copy of it would not fit the stack.
    let carriers: &Carriers = carriers;
    // User space may have been first: what counts is that it is there.
    let _ = CARRIERS.insert(connection, carriers, u64::from(BPF_NOEXIST));
    true
}

/// The best link to `peer` that can take a packet of `length` bytes: neither link
/// `own` nor one of the device `ifindex`. 0: there is none.
#[inline(never)]
pub fn stand_in(peer: u64, own: u32, ifindex: u32, length: u32) -> u32 {
    // SAFETY: a value that user space replaces as a whole.
    let Some(all) = (unsafe { PEER_LINKS.get(peer) }) else {
        return 0;
    };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let (mut found, mut least) = (0, u32::MAX);
    for at in 0..MAX_CARRIERS {
        let index = all.links[at & (MAX_CARRIERS - 1)];
        if index != 0
            && index != own
            && let Some(link) = LINKS.get(index)
            && link.peer == peer
            && link.expires_ns > now_ns
            && link.ifindex != ifindex
            && link.cost < least
            && length <= link.mtu
        {
            (found, least) = (index, link.cost);
        }
    }
    found
}
