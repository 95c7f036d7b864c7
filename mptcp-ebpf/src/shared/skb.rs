//! The operations of the tc programs on an skb.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_skb_load_bytes, bpf_skb_store_bytes},
    programs::TcContext,
};
use mptcp_common::{
    abi::redundant::{Device, Stacked},
    packet::Source,
};

use crate::shared::maps::{DEVICES, STACKED};
use crate::shared::member::global;

/// Passes the packet to the next program and then to the stack: `TCX_NEXT`, or
/// `TC_ACT_UNSPEC` for a classifier of a clsact qdisc.
pub const PASS: i32 = -1;

/// Drops the packet: `TC_ACT_SHOT`.
pub const DROP: i32 = 2;

/// Marks an skb that one of these programs hands to the other or to itself. The
/// agent draws this number anew for each load, because drivers and sockets may
/// leave anything in `skb->cb`.
#[unsafe(no_mangle)]
static COPY_MAGIC: u64 = 0;

/// An skb at one of the hooks.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut __sk_buff);

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    /// Returns the packet's length in bytes, link-layer header included.
    #[inline(always)]
    pub fn len(self) -> u32 {
        // SAFETY: a field of this program type's context.
        unsafe { (*self.0).len }
    }

    /// Returns the payload, in bytes, of each segment of a packet that is yet
    /// to be segmented, or was joined; 0 for any other.
    #[inline(always)]
    pub fn gso_size(self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.0).gso_size }
    }

    /// Returns how many packets it is on the wire, if its headers take
    /// `headers` bytes.
    #[inline(always)]
    pub fn packets(self, headers: u32) -> u64 {
        let size = self.gso_size();
        if size == 0 {
            return 1;
        }
        u64::from(self.len().saturating_sub(headers).div_ceil(size))
    }

    /// Returns the device, if the agent has attached to it for this policy.
    #[inline(always)]
    pub fn device(self) -> Option<Device> {
        // SAFETY: as in `len`; a value that user space replaces as a whole.
        unsafe { DEVICES.get((*self.0).ifindex) }.copied()
    }

    /// Returns whether another hook of the same device stack judges this
    /// packet: the packet belongs to `device`, and this one only carries it for
    /// that one. A device that is not stacked with `device` does not count,
    /// because routes may be asymmetric.
    #[inline(always)]
    pub fn is_carried_for(self, device: u32) -> bool {
        // SAFETY: as in `len`.
        let here = unsafe { (*self.0).ifindex };
        here != device && is_stacked(here, device) != 0
    }

    /// Returns whether an arriving frame is for another link-layer address than
    /// this device's, or for a VLAN. Such a packet is not for this device. It
    /// may be for a macvlan or a VLAN above, whose hook sees it next.
    #[inline(always)]
    pub fn is_for_another_device(self) -> bool {
        const PACKET_OTHERHOST: u32 = 3;
        const VLAN_ID: u32 = 0x0fff;
        // SAFETY: as in `len`.
        let (kind, tagged, tag) = unsafe {
            (
                (*self.0).pkt_type,
                (*self.0).vlan_present,
                (*self.0).vlan_tci,
            )
        };
        // A tag with the id 0 carries a priority only.
        kind == PACKET_OTHERHOST || tagged != 0 && tag & VLAN_ID != 0
    }

    /// Returns whether the packet is IPv4 or IPv6.
    #[inline(always)]
    pub fn is_ip(self) -> bool {
        const ETH_P_IP: u32 = 0x0800;
        const ETH_P_IPV6: u32 = 0x86dd;
        // SAFETY: as in `len`.
        let protocol = u32::from(u16::from_be(unsafe { (*self.0).protocol } as u16));
        protocol == ETH_P_IP || protocol == ETH_P_IPV6
    }

    /// Writes `value` at offset `at`. Updates no checksum.
    #[inline(always)]
    pub fn store<T>(self, at: u32, value: &T) -> bool {
        // SAFETY: the verifier checks pointer and length.
        let error = unsafe {
            bpf_skb_store_bytes(
                self.0.cast(),
                at,
                (&raw const *value).cast(),
                size_of::<T>() as u32,
                0,
            )
        };
        error == 0
    }

    /// Marks the skb for the next of these programs that sees it.
    #[inline(always)]
    pub fn mark(self, words: [u32; 3]) {
        let magic = global(&COPY_MAGIC);
        // SAFETY: as in `len`.
        unsafe {
            (*self.0).cb = [
                magic as u32,
                (magic >> 32) as u32,
                words[0],
                words[1],
                words[2],
            ];
        }
    }

    /// Takes the mark away. Returns whether there was one, and its words. Not
    /// an `Option`, because the verifier refuses what `None` would leave
    /// undefined.
    #[inline(always)]
    pub fn take_mark(self) -> (bool, [u32; 3]) {
        let magic = global(&COPY_MAGIC);
        // SAFETY: as in `len`.
        let cb = unsafe { (*self.0).cb };
        let marked = cb[0] == magic as u32 && cb[1] == (magic >> 32) as u32;
        if marked {
            self.unmark();
        }
        (marked, [cb[2], cb[3], cb[4]])
    }

    #[inline(always)]
    pub fn unmark(self) {
        // SAFETY: as in `len`.
        unsafe {
            (*self.0).cb[0] = 0;
            (*self.0).cb[1] = 0;
        }
    }
}

/// Returns 1 if one of two devices runs over the other, else 0. A global
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a copy of the key would not fit the stack"
)]
extern "C" fn is_stacked(one: u32, other: u32) -> u32 {
    let key = Stacked { one, other };
    // SAFETY: the value is not read.
    u32::from(unsafe { STACKED.get(&key) }.is_some())
}

impl Source for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0_u8; N];
        // SAFETY: the verifier checks pointer and length.
        let error =
            unsafe { bpf_skb_load_bytes(self.0.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
        if error == 0 { Some(bytes) } else { None }
    }
}
