//! Takes a copy's outer headers off and lets the inner packet enter the stack.
//!
//! ```text
//!   [Ethernet] IP' UDP [IP TCP data]   ->   [Ethernet] IP TCP data
//! ```
//!
//! Relies on bpf_skb_adjust_room with a negative length (Linux 4.13; since 6.3
//! with BPF_F_ADJ_ROOM_DECAP_L3_*, where the two IP versions differ).

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
        BPF_F_INGRESS, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_head},
};
use mptcp_common::abi::redundant::{Device, refused};

use crate::shared::maps::DEVICES;
use crate::shared::skb::{PASS, Skb};

/// Offset of the type in an Ethernet header.
const ETHER_TYPE: u32 = 12;

/// Destination address of a frame that enters by another device. The frame must
/// not keep the address of the device that received it: if that device is a
/// macvlan of the other one, the kernel would hand the frame back to it
/// (`macvlan_handle_frame`). Then the socket, which is bound to the other one,
/// would not be found, and TCP would answer with a reset.
const NOBODY: [u8; 6] = [0; 6];

/// First word of the mark of an unwrapped packet. The next word is the path of
/// the device that unwrapped it.
pub const UNWRAPPED: u32 = 1;

/// Takes the outer headers off. `outer` and `inner` are the lengths of the two
/// IP headers.
#[inline(always)]
pub fn strip(skb: Skb, device: &Device, outer: u32, inner: u32) -> Result<i32, u8> {
    const UDP: u32 = 8;
    let mut flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
    if outer != inner {
        // These flags exist since Linux 6.3.
        flags |= u64::from(if inner == 20 {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV4
        } else {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV6
        });
    }
    let overhead = -((outer + UDP) as i32);
    // SAFETY: the helper takes this program type's context.
    let error = unsafe { bpf_skb_adjust_room(skb.0, overhead, BPF_ADJ_ROOM_MAC, flags) };
    if error != 0 {
        return Err(refused::KERNEL);
    }
    if outer != inner && device.header != 0 && !skb.store(ETHER_TYPE, &ether_type(inner)) {
        return Err(refused::KERNEL);
    }
    Ok(PASS)
}

/// Lets an unwrapped packet with an IP header of `header` bytes enter by the
/// device `ifindex`.
#[inline(always)]
pub fn enter(skb: Skb, device: &Device, ifindex: u32, header: u32, path: u32) -> Result<i32, u8> {
    // SAFETY: a value that user space replaces as a whole.
    let target = unsafe { DEVICES.get(ifindex) }.ok_or(refused::KERNEL)?;
    if device.header == 0 && target.header != 0 {
        // The target expects a link-layer header. Its addresses stay zero.
        // SAFETY: the helper takes this program type's context.
        if unsafe { bpf_skb_change_head(skb.0, target.header, 0) } != 0
            || !skb.store(ETHER_TYPE, &ether_type(header))
        {
            return Err(refused::KERNEL);
        }
    } else if target.header != 0 && !skb.store(0, &NOBODY) {
        return Err(refused::KERNEL);
    }
    skb.mark([UNWRAPPED, path, 0]);
    // SAFETY: the helper has no preconditions.
    Ok(unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) } as i32)
}

/// Returns the Ethernet type of an IP packet with a header of `header` bytes.
#[inline(always)]
fn ether_type(header: u32) -> [u8; 2] {
    if header == 20 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    }
}
