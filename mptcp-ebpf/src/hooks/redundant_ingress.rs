//! Hook: tc ingress of every device that may carry a path (tcx since Linux 6.6,
//! clsact before).
//!
//! ```text
//!   UDP to the agent's port   hello: goes to the agent's socket
//!                             copy: is unwrapped if it comes from a proven peer
//!                             and belongs to a subflow with that peer
//!                             datagram for another host: passes
//!   TCP of such a subflow     is dropped if a copy has brought it before
//!
//!   unwrapped  --socket found here------------------> given to that socket
//!              --bound to its device, or rp_filter--> enters by that, marked
//!   either     --its other arrival is on the way----> enters once more, marked
//! ```
//!
//! Relies on bpf_skc_lookup_tcp (Linux 5.2), bpf_sk_assign (5.7), and on the
//! members of `tcp_sock` that say what the socket has received.
//!
//! A segment that passed this hook may still be dropped behind it (by a
//! netfilter ingress chain, say). So only the socket itself tells what has been
//! received: see `arrival`.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS},
    helpers::{bpf_ktime_get_ns, bpf_redirect, bpf_skb_change_type},
    macros::classifier,
    programs::TcContext,
};
use mptcp_common::{
    abi::redundant::{ChannelKey, Device, PeerView, Redundant, outcome, refused},
    packet::{self, Source as _, flag, protocol},
};

use crate::policy::redundant::arriving::{Arriving, count, deliver, done};
use crate::policy::redundant::familiar;
use crate::policy::redundant::headers::{self, Headers};
use crate::policy::redundant::receiver::Receiver;
use crate::policy::redundant::unwrap::{UNWRAPPED, enter, strip};
use crate::policy::redundant::wrap::HEADERS;
use crate::shared::entry::Entry;
use crate::shared::global::any;
use crate::shared::maps::{
    ADDRESSES, CARRIERS, CHANNEL_OF, CHANNELS, COOKIE_OF, add, copy_stats, redundant, traffic,
};
use crate::shared::skb::{DROP, PASS, Skb};

/// `PACKET_HOST`: the type of a packet that is addressed to this host.
const PACKET_HOST: u32 = 0;

/// First word of the mark of a segment that waits. The last word of this mark,
/// as of [`UNWRAPPED`], says for how many rounds it has waited.
const WAITING: u32 = 2;

#[classifier]
#[inline(always)]
pub fn redundant_ingress(ctx: TcContext) -> i32 {
    crate::shared::maps::ran(crate::shared::maps::program::REDUNDANT_INGRESS);
    let skb = Skb::new(&ctx);
    let (marked, mark) = skb.take_mark();
    if redundant().is_none() {
        return PASS;
    }
    let Some(device) = skb.device() else {
        return PASS;
    };
    if !skb.is_ip() {
        return PASS;
    }
    let mut arriving = Arriving {
        at: device.header,
        length: skb.len().wrapping_sub(device.header),
        ..Arriving::default()
    };
    if marked {
        arriving.rounds = mark[2];
        arriving.unwrapped = u32::from(mark[0] == UNWRAPPED);
        arriving.path = mark[1];
    }
    if arriving.unwrapped == 0 {
        if skb.is_for_another_device() {
            return PASS;
        }
        arriving.path = device.path;
        match any(look_inside(skb.0, &mut arriving)) {
            JUDGE => {}
            IGNORE => return PASS,
            refused => return arriving.refuse((refused - REFUSE) as u8),
        }
    }
    match arrive(skb, &device, &arriving) {
        Ok(action) => action,
        Err(reason) => arriving.refuse(reason),
    }
}

/// [`look_inside`]: the packet holds no segment for this hook to judge.
const IGNORE: u32 = 0;
/// [`look_inside`]: the segment is found.
const JUDGE: u32 = 1;
/// [`look_inside`]: the packet fails a check. The reason, one of [`refused`],
/// is added.
const REFUSE: u32 = 2;

/// Finds the segment, in the packet itself or wrapped. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_inside(skb: *mut __sk_buff, arriving: *mut Arriving) -> u32 {
    // SAFETY: null, or a value on the caller's stack.
    let (Some(arriving), Some(settings)) = (unsafe { arriving.as_mut() }, redundant()) else {
        return IGNORE;
    };
    match find(Skb(skb), settings, arriving) {
        Ok(false) => IGNORE,
        Ok(true) => JUDGE,
        Err(reason) => REFUSE + u32::from(reason),
    }
}

#[inline(always)]
fn find(skb: Skb, settings: &Redundant, arriving: &mut Arriving) -> Result<bool, u8> {
    let exact = skb.gso_size() == 0;
    let ip = match packet::ip(&skb, arriving.at, arriving.length, exact) {
        Ok(ip) => ip,
        Err(refused::FRAGMENT) => return fragment(skb, settings, arriving),
        // The stack, not this hook, judges malformed packets.
        Err(_) => return Ok(false),
    };
    if ip.protocol != protocol::UDP {
        return Ok(ip.protocol == protocol::TCP);
    }
    let at = arriving.at + ip.header;
    let Some(udp) = skb.load::<9>(at) else {
        return Ok(false);
    };
    let version = udp[8] >> 4;
    if u16::from_be_bytes([udp[2], udp[3]]) != settings.port || version != 4 && version != 6 {
        return Ok(false);
    }
    arriving.outer = ip.header;
    let remote_port = u16::from_be_bytes([udp[0], udp[1]]);
    arriving.channel = proven_channel(skb.0, arriving.at, ip.header, remote_port);
    if arriving.channel == 0 {
        // This host may be a router, so let datagrams for other hosts pass.
        if is_own(skb.0, arriving.at, ip.header) == 0 {
            return Ok(false);
        }
        return Err(refused::UNPROVEN);
    }
    if let Some(channel) = CHANNELS.get(arriving.channel)
        && skb.is_carried_for(channel.ifindex)
    {
        return Ok(false);
    }
    if arriving.rounds == 0 {
        let packets = skb.packets(HEADERS);
        traffic(arriving.channel, |traffic| add(&traffic.arrived, packets));
    }
    let length = u32::from(u16::from_be_bytes([udp[4], udp[5]]));
    if ip.payload < 8 || exact && length != ip.payload {
        return Err(refused::MALFORMED);
    }
    arriving.at = at + 8;
    arriving.length = ip.payload - 8;
    Ok(true)
}

/// Refuses the first fragment of a datagram to the agent's port, since no peer
/// sends fragments. Lets any other fragment pass.
#[inline(always)]
fn fragment(skb: Skb, settings: &Redundant, arriving: &mut Arriving) -> Result<bool, u8> {
    let at = arriving.at;
    let Some(first) = skb.load::<10>(at) else {
        return Ok(false);
    };
    let (is_first, inside, udp) = if first[0] >> 4 == 4 {
        let offset = u16::from_be_bytes([first[6], first[7]]) & 0x1fff;
        (offset == 0, first[9], at + 20)
    } else {
        let Some(header) = skb.load::<8>(at + 40) else {
            return Ok(false);
        };
        let offset = u16::from_be_bytes([header[2], header[3]]) & 0xfff8;
        (offset == 0, header[0], at + 48)
    };
    if !is_first || inside != protocol::UDP {
        return Ok(false);
    }
    match skb.load::<4>(udp) {
        Some(ports)
            if u16::from_be_bytes([ports[2], ports[3]]) == settings.port
                && is_own(skb.0, at, if first[0] >> 4 == 4 { 20 } else { 40 }) != 0 =>
        {
            arriving.outer = udp - at;
            Err(refused::FRAGMENT)
        }
        _ => Ok(false),
    }
}

/// Judges the segment and acts on the verdict.
#[inline(always)]
fn arrive(skb: Skb, device: &Device, arriving: &Arriving) -> Result<i32, u8> {
    let wrapped = arriving.outer != 0;
    let mut read = Headers::default();
    headers::tcp(skb, arriving.at, arriving.length, &mut read)?;
    let (ip, segment) = (read.ip(), read.segment());
    if wrapped
        && (ip.header + ip.payload != arriving.length
            || segment.flags & flag::SYN != 0
            || segment.tsval.is_none())
    {
        return Err(refused::MALFORMED);
    }
    let cookie = cookie(
        skb.0,
        arriving.at,
        ip.header,
        segment.source_port,
        segment.destination_port,
    );
    let Some(subflow) = Entry::of(cookie) else {
        return open(skb, device, arriving, &read);
    };
    let (connection, ifindex) = (subflow.connection(), subflow.ifindex());
    // SAFETY: a value that user space replaces as a whole.
    let mut carriers = unsafe { CARRIERS.get(connection) };
    if carriers.is_none() && wrapped {
        let own = own_channel(skb.0, arriving, ip.header);
        let tcp = arriving.at + ip.header;
        if own != 0 && (familiar::greet(cookie) || familiar::introduce(skb, tcp, cookie, own)) {
            // SAFETY: as above.
            carriers = unsafe { CARRIERS.get(connection) };
        }
    }
    let carriers = carriers.ok_or(refused::FOREIGN)?;
    if !wrapped && arriving.unwrapped == 0 && skb.is_carried_for(ifindex) {
        return Ok(PASS);
    }
    // A copy may come over any channel to the connection's peer, even one whose
    // subflow is not proven yet, or does not exist yet.
    if wrapped
        && CHANNELS
            .get(arriving.channel)
            .is_none_or(|channel| channel.peer != carriers.peer)
    {
        return Err(refused::FOREIGN);
    }
    // No agent copies a reset. Refuse one, so that a forged copy cannot end a
    // connection.
    if wrapped && segment.flags & flag::RST != 0 {
        return Err(refused::MALFORMED);
    }

    let done = if wrapped && device.strict != 0 {
        done::NOBODY
    } else {
        deliver(skb.0, arriving, &read, device, cookie)
    };
    if done == done::NOBODY {
        if !wrapped {
            return Err(refused::FOREIGN);
        }
        // The socket is bound to its own device, or the kernel would not accept
        // the packet from this one (`rp_filter`). So let the packet enter by
        // the socket's device.
        strip(skb, device, arriving.outer, ip.header)?;
        return enter(skb, device, ifindex, ip.header, arriving.path);
    }
    if done == done::WAIT {
        let kind = if arriving.unwrapped != 0 {
            UNWRAPPED
        } else {
            WAITING
        };
        copy_stats(arriving.path, |stats| add(&stats.wait_rounds, 1));
        skb.mark([kind, arriving.path, arriving.rounds + 1]);
        // Let it enter by this device once more, behind the packets that are
        // queued now.
        // SAFETY: a field of the context; the helper has no preconditions.
        return Ok(unsafe { bpf_redirect((*skb.0).ifindex, u64::from(BPF_F_INGRESS)) } as i32);
    }
    if arriving.unwrapped != 0 {
        to_this_host(skb);
    }
    count(arriving, done);
    if done & done::NOT_STRIPPED != 0 {
        return Err(refused::KERNEL);
    }
    if done == done::SECOND {
        return Ok(DROP);
    }
    Ok(PASS)
}

/// Makes the stack accept an unwrapped packet, although its frame is not
/// addressed to the device that it entered by.
#[inline(always)]
fn to_this_host(skb: Skb) {
    // SAFETY: the helper takes this program type's context.
    unsafe { bpf_skb_change_type(skb.0, PACKET_HOST) };
}

/// Accepts the copy of a segment for a connection that is being opened: this
/// end has answered the SYN and waits for the next segment. The copy must come
/// from the peer at the other end of that connection.
#[inline(always)]
fn open(skb: Skb, device: &Device, arriving: &Arriving, read: &Headers) -> Result<i32, u8> {
    let (header, segment) = (read.ip().header, read.segment());
    if arriving.outer == 0 && arriving.unwrapped == 0 || segment.flags & flag::RST != 0 {
        return Err(refused::FOREIGN);
    }
    if !Receiver::is_opening(skb, arriving.at, header, &segment) {
        return Err(refused::FOREIGN);
    }
    if arriving.unwrapped != 0 {
        // The device that received it has judged and counted it.
        to_this_host(skb);
        return Ok(PASS);
    }
    let own = own_channel(skb.0, arriving, header);
    if own == 0 {
        return Err(refused::FOREIGN);
    }
    strip(skb, device, arriving.outer, header)?;
    copy_stats(arriving.path, |stats| {
        add(&stats.received[usize::from(outcome::FIRST)], 1);
    });
    if device.strict == 0 {
        return Ok(PASS);
    }
    let ifindex = CHANNELS.get(own).map_or(0, |channel| channel.ifindex);
    enter(skb, device, ifindex, header, arriving.path)
}

/// Returns the index of the channel between the addresses of a copy's inner
/// packet; 0 if there is none, or if its peer is not the one that sent the
/// copy. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn own_channel(skb: *mut __sk_buff, arriving: *const Arriving, header: u32) -> u32 {
    // SAFETY: null, or a value on the caller's stack.
    let Some(arriving) = (unsafe { arriving.as_ref() }) else {
        return 0;
    };
    let Some(over) = CHANNELS.get(arriving.channel) else {
        return 0;
    };
    let own = proven_channel(skb, arriving.at, header, over.local_port);
    match CHANNELS.get(own) {
        Some(channel) if own != 0 && channel.peer == over.peer => own,
        _ => 0,
    }
}

/// Returns the index in `CHANNELS` of the channel that a datagram comes over; 0
/// if it belongs to no channel, or if the channel's peer has fallen silent. A
/// global function.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a copy of the key would not fit the stack"
)]
extern "C" fn proven_channel(skb: *mut __sk_buff, at: u32, header: u32, remote_port: u16) -> u32 {
    let skb = Skb(skb);
    let mut key = ChannelKey {
        remote_port,
        ..ChannelKey::default()
    };
    if !packet::addresses(&skb, at, header, &mut key.remote, &mut key.local) {
        return 0;
    }
    // SAFETY: a field of the context.
    key.scope = ChannelKey::scope_of(&key.remote, unsafe { (*skb.0).ifindex });
    // SAFETY: a word that user space replaces as a whole.
    let Some(&index) = (unsafe { CHANNEL_OF.get(&key) }) else {
        return 0;
    };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    match CHANNELS.get(index) {
        Some(channel) if channel.peer != 0 && channel.expires_ns > now_ns => index,
        _ => 0,
    }
}

/// Returns 1 if an IP packet with a header of `header` bytes is addressed to
/// this host, else 0. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a copy of the key would not fit the stack"
)]
extern "C" fn is_own(skb: *mut __sk_buff, at: u32, header: u32) -> u32 {
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    let read = packet::addresses(&Skb(skb), at, header, &mut source, &mut destination);
    // SAFETY: the value is not read.
    u32::from(read && unsafe { ADDRESSES.get(&destination) }.is_some())
}

/// Returns the cookie of the subflow that a segment is for; 0 if no such
/// subflow is known. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a copy of the key would not fit the stack"
)]
extern "C" fn cookie(
    skb: *mut __sk_buff,
    at: u32,
    header: u32,
    remote_port: u16,
    local_port: u16,
) -> u64 {
    let mut ends = PeerView {
        local_port,
        remote_port,
        ..PeerView::default()
    };
    if !packet::addresses(&Skb(skb), at, header, &mut ends.remote, &mut ends.local) {
        return 0;
    }
    // SAFETY: a word that is replaced as a whole.
    unsafe { COOKIE_OF.get(&ends) }.copied().unwrap_or_default()
}
