//! Wraps a clone into UDP and sends it off by a channel's device.
//!
//! ```text
//!   [Ethernet] IP TCP data   ->   Ethernet IP' UDP [IP TCP data]
//! ```
//!
//! Relies on bpf_skb_adjust_room with BPF_F_ADJ_ROOM_ENCAP_L3_*, _L4_UDP (Linux
//! 5.2), which turns a packet that is yet to be segmented into a tunnel's, and
//! on bpf_redirect_neigh (5.10), which finds the next hop on the device.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_PSEUDO_HDR,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{
        bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect_neigh,
        bpf_skb_adjust_room, bpf_skb_change_head,
    },
};
use mptcp_common::{
    abi::redundant::{Channel, OVERHEAD_V4, OVERHEAD_V6, PeerView, not_sent},
    packet::{Source as _, protocol},
};

use crate::shared::maps::{CHANNELS, PEER_VIEW, add, copy_stats, traffic};
use crate::shared::skb::{DROP, Skb};

const ETHERNET: u32 = 14;

/// Approximate size of the headers of a copy with payload, bytes: Ethernet,
/// outer IP and UDP, inner IP and TCP with its options.
pub const HEADERS: u32 = 14 + 28 + 20 + 60;

/// Upper byte of the IPv4 flags: a packet that does not fit is dropped, not
/// fragmented.
const DONT_FRAGMENT: u8 = 0x40;

/// Hops that a copy may take.
const TTL: u8 = 64;

/// Least effort (RFC 8622), as the upper six bits of the traffic class: copies
/// yield to originals wherever the network tells them apart.
const TRAFFIC_CLASS: u8 = 1 << 2;

/// `TC_PRIO_BULK`: pfifo_fast, and qdiscs like it, send such packets last.
const PRIORITY: u32 = 2;

/// How to wrap a clone. Travels in the clone's mark.
pub struct Copy {
    /// Index in `CHANNELS`.
    pub channel: u32,
    /// Whether its segments must become shorter to fit the channel's MTU.
    pub shrink: bool,
    /// Whether the peer knows the subflow by the addresses and ports in
    /// `PEER_VIEW`.
    pub translated: bool,
    /// Socket cookie of the subflow.
    pub cookie: u64,
}

impl Copy {
    const SHRINK: u32 = 1 << 31;
    const TRANSLATED: u32 = 1 << 30;

    #[inline(always)]
    pub fn mark(&self) -> [u32; 3] {
        let flags =
            u32::from(self.shrink) * Self::SHRINK + u32::from(self.translated) * Self::TRANSLATED;
        [
            self.channel | flags,
            self.cookie as u32,
            (self.cookie >> 32) as u32,
        ]
    }
}

impl From<[u32; 3]> for Copy {
    #[inline(always)]
    fn from(mark: [u32; 3]) -> Self {
        Self {
            channel: mark[0] & !(Self::SHRINK | Self::TRANSLATED),
            shrink: mark[0] & Self::SHRINK != 0,
            translated: mark[0] & Self::TRANSLATED != 0,
            cookie: u64::from(mark[1]) | u64::from(mark[2]) << 32,
        }
    }
}

/// Returns whether an address is IPv4 (`::ffff:a.b.c.d`).
#[inline(always)]
pub fn is_v4(address: &[u8; 16]) -> bool {
    let [a, b, c, _] = words(address);
    a == 0 && b == 0 && c == 0xffff_u32.to_be()
}

/// Returns how many bytes wrapping for a channel adds.
#[inline(always)]
pub fn overhead(channel: &Channel) -> u32 {
    if is_v4(&channel.remote) {
        OVERHEAD_V4
    } else {
        OVERHEAD_V6
    }
}

/// Returns an address as words, in memory order.
#[inline(always)]
pub fn words(address: &[u8; 16]) -> [u32; 4] {
    // SAFETY: the sizes are equal, any bit pattern is valid, and
    // `transmute_copy` reads unaligned memory.
    unsafe { core::mem::transmute_copy(address) }
}

/// Wraps the clone and returns the action for the tc program to return.
#[inline(always)]
pub fn wrap(skb: Skb, copy: &Copy) -> i32 {
    let Some(channel) = CHANNELS.get(copy.channel) else {
        return DROP;
    };
    match try_wrap(skb, copy, channel) {
        Some(action) => {
            let length = skb.len();
            copy_stats(channel.path, |stats| {
                add(&stats.sent, 1);
                add(&stats.sent_bytes, u64::from(length));
            });
            let packets = skb.packets(HEADERS);
            traffic(copy.channel, |traffic| {
                add(&traffic.sent, packets);
                add(&traffic.sent_bytes, u64::from(length));
            });
            action
        }
        None => {
            copy_stats(channel.path, |stats| {
                add(&stats.not_sent[usize::from(not_sent::KERNEL)], 1);
            });
            DROP
        }
    }
}

#[inline(always)]
fn try_wrap(skb: Skb, copy: &Copy, channel: &Channel) -> Option<i32> {
    let at = skb.device()?.header;
    if copy.translated {
        translate(skb, at, copy.cookie)?;
    }
    let inner = skb.len().wrapping_sub(at);
    let version = skb.load::<1>(at)?[0] >> 4;
    let v4 = is_v4(&channel.remote);
    let mut flags = u64::from(BPF_F_ADJ_ROOM_ENCAP_L4_UDP);
    flags |= u64::from(if v4 {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
    } else {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
    });
    if !copy.shrink {
        flags |= u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
    }
    let sum = if v4 || skb.gso_size() != 0 {
        0
    } else {
        inner_sum(skb, at, version)?
    };
    // SAFETY: the helper takes this program type's context.
    let error =
        unsafe { bpf_skb_adjust_room(skb.0, overhead(channel) as i32, BPF_ADJ_ROOM_MAC, flags) };
    if error != 0 {
        return None;
    }
    let written = if v4 {
        skb.store(at, &ipv4_udp(channel, inner))
    } else {
        skb.store(at, &ipv6_udp(channel, inner, sum))
    };
    if !written {
        return None;
    }
    if at == 0 {
        // The kernel expects a link-layer header here, and then writes its own.
        // SAFETY: as above.
        if unsafe { bpf_skb_change_head(skb.0, ETHERNET, 0) } != 0 {
            return None;
        }
    }
    // SAFETY: fields of the context; the last helper has no preconditions.
    unsafe {
        // The user's mark selects the original's route, not the copy's.
        (*skb.0).mark = 0;
        (*skb.0).priority = PRIORITY;
        Some(bpf_redirect_neigh(channel.ifindex, core::ptr::null_mut(), 0, 0) as i32)
    }
}

/// Returns the IPv4 and UDP headers. Leaves out the UDP checksum (RFC 768),
/// because TCP has its own.
#[inline(always)]
fn ipv4_udp(channel: &Channel, inner: u32) -> [u8; OVERHEAD_V4 as usize] {
    let total = (inner + OVERHEAD_V4) as u16;
    let mut header = [0_u8; OVERHEAD_V4 as usize];
    header[0] = 0x45;
    header[1] = TRAFFIC_CLASS;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6] = DONT_FRAGMENT;
    header[8] = TTL;
    header[9] = protocol::UDP;
    header[12..16].copy_from_slice(&channel.local[12..]);
    header[16..20].copy_from_slice(&channel.remote[12..]);
    let mut sum = 0_u32;
    let mut index = 0;
    while index < 20 {
        sum += u32::from(u16::from_be_bytes([header[index], header[index + 1]]));
        index += 2;
    }
    header[10..12].copy_from_slice(&(!fold(sum)).to_be_bytes());
    header[20..22].copy_from_slice(&channel.local_port.to_be_bytes());
    header[22..24].copy_from_slice(&channel.remote_port.to_be_bytes());
    header[24..26].copy_from_slice(&(total - 20).to_be_bytes());
    header
}

/// Returns the IPv6 and UDP headers. `sum` is the sum of the inner packet, or 0
/// if the packet is yet to be segmented: this hook cannot ask for a checksum
/// for each segment, and a tunnel may leave it out (RFC 6935).
#[inline(always)]
fn ipv6_udp(channel: &Channel, inner: u32, sum: u32) -> [u8; OVERHEAD_V6 as usize] {
    let length = (inner + 8) as u16;
    let [u0, u1] = length.to_be_bytes();
    let [s0, s1] = channel.local_port.to_be_bytes();
    let [d0, d1] = channel.remote_port.to_be_bytes();
    let mut header = [0_u8; OVERHEAD_V6 as usize];
    header[0] = 0x60 | TRAFFIC_CLASS >> 4;
    header[1] = TRAFFIC_CLASS << 4;
    header[4] = u0;
    header[5] = u1;
    header[6] = protocol::UDP;
    header[7] = TTL;
    let mut index = 0;
    while index < 16 {
        header[8 + index] = channel.local[index];
        header[24 + index] = channel.remote[index];
        index += 1;
    }
    header[40] = s0;
    header[41] = s1;
    header[42] = d0;
    header[43] = d1;
    header[44] = u0;
    header[45] = u1;
    if sum != 0 {
        // Written without a loop, because Linux 6.1 refuses a loop that comes
        // back by falling through.
        let add =
            |[a, b, c, d]: [u32; 4]| u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d);
        let total = u64::from(sum) + add(words(&channel.local)) + add(words(&channel.remote));
        // The rest of the pseudo-header and the UDP header, in memory order.
        let small = u32::from(length) * 2
            + u32::from(protocol::UDP)
            + u32::from(channel.local_port)
            + u32::from(channel.remote_port);
        let small = u32::from(fold(small).to_be());
        let check = complement(total + u64::from(small)) as u16;
        let [c0, c1] = if check == 0 { 0xffff } else { check }.to_ne_bytes();
        header[46] = c0;
        header[47] = c1;
    }
    header
}

/// Returns the one's complement sum of the inner packet, in memory order and
/// never 0. Reads its headers only: a TCP segment with its checksum sums up to
/// the complement of its pseudo-header (local checksum offload).
#[inline(always)]
fn inner_sum(skb: Skb, at: u32, version: u8) -> Option<u32> {
    let inner = skb.len().wrapping_sub(at);
    if version == 4 {
        // The IPv4 header, which includes its checksum, sums up to zero.
        let addresses: [u8; 8] = skb.load(at + 12)?;
        let pseudo = sum(&addresses)?
            + u64::from(((inner - 20) as u16).to_be())
            + u64::from(u16::from(protocol::TCP).to_be());
        return Some(complement(pseudo));
    }
    let header: [u8; 40] = skb.load(at)?;
    let addresses: [u8; 32] = skb.load(at + 8)?;
    let pseudo = sum(&addresses)?
        + u64::from(((inner - 40) as u16).to_be())
        + u64::from(u16::from(protocol::TCP).to_be());
    let total = u64::from(complement(pseudo)) + sum(&header)?;
    Some(to_u32(total))
}

#[inline(always)]
fn sum<const N: usize>(bytes: &[u8; N]) -> Option<u64> {
    // SAFETY: the verifier checks pointer and length, a multiple of four.
    let sum = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            bytes.as_ptr().cast_mut().cast(),
            N as u32,
            0,
        )
    };
    u64::try_from(sum).ok()
}

#[inline(always)]
fn to_u32(sum: u64) -> u32 {
    u32::from(fold((sum & 0xffff_ffff) as u32)) + u32::from(fold((sum >> 32) as u32))
}

#[inline(always)]
fn complement(sum: u64) -> u32 {
    u32::from(!fold(to_u32(sum)))
}

/// Returns the one's complement sum of the two halves of `sum`.
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Gives the inner packet the addresses and ports by which the peer knows its
/// subflow. NAT changes those of the original on its way, but not those inside
/// a copy.
#[inline(always)]
fn translate(skb: Skb, at: u32, cookie: u64) -> Option<()> {
    (try_translate(skb.0, at, cookie) != 0).then_some(())
}

/// Does the work of [`translate`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn try_translate(skb: *mut __sk_buff, at: u32, cookie: u64) -> u32 {
    u32::from(rewrite(Skb(skb), at, cookie).is_some())
}

#[inline(always)]
fn rewrite(skb: Skb, at: u32, cookie: u64) -> Option<()> {
    // SAFETY: a value that user space replaces as a whole.
    let view = unsafe { PEER_VIEW.get(cookie) }?;
    let v4 = skb.load::<1>(at)?[0] >> 4 == 4;
    if v4 != is_v4(&view.local) {
        return None;
    }
    let tcp = at + if v4 { 20 } else { 40 };
    if v4 {
        let from = words(&view.local)[3];
        let to = words(&view.remote)[3];
        replace_word(skb, at + 12, from, tcp, Some(at + 10))?;
        replace_word(skb, at + 16, to, tcp, Some(at + 10))?;
    } else {
        for (index, word) in words(&view.local).into_iter().enumerate() {
            replace_word(skb, at + 8 + 4 * index as u32, word, tcp, None)?;
        }
        for (index, word) in words(&view.remote).into_iter().enumerate() {
            replace_word(skb, at + 24 + 4 * index as u32, word, tcp, None)?;
        }
    }
    replace_ports(skb, tcp, view)
}

const TCP_CHECK: u32 = 16;

/// Replaces a word of an address, in memory order, and updates the checksums.
#[inline(always)]
fn replace_word(skb: Skb, at: u32, new: u32, tcp: u32, ip_check: Option<u32>) -> Option<()> {
    let old = u32::from_ne_bytes(skb.load(at)?);
    let (from, to) = (u64::from(old), u64::from(new));
    // SAFETY: the helpers take this program type's context.
    unsafe {
        if bpf_l4_csum_replace(
            skb.0,
            tcp + TCP_CHECK,
            from,
            to,
            u64::from(BPF_F_PSEUDO_HDR) | 4,
        ) != 0
        {
            return None;
        }
        if let Some(check) = ip_check
            && bpf_l3_csum_replace(skb.0, check, from, to, 4) != 0
        {
            return None;
        }
    }
    skb.store(at, &new).then_some(())
}

#[inline(always)]
fn replace_ports(skb: Skb, tcp: u32, view: &PeerView) -> Option<()> {
    let old = u32::from_ne_bytes(skb.load(tcp)?);
    let [a, b] = view.local_port.to_be_bytes();
    let [c, d] = view.remote_port.to_be_bytes();
    let new = u32::from_ne_bytes([a, b, c, d]);
    // SAFETY: the helper takes this program type's context.
    let error =
        unsafe { bpf_l4_csum_replace(skb.0, tcp + TCP_CHECK, u64::from(old), u64::from(new), 4) };
    if error != 0 {
        return None;
    }
    skb.store(tcp, &new).then_some(())
}
