//! The socket that a segment is for: reads what it has received, and hands
//! packets to it.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock, bpf_sock_tuple},
    helpers::{bpf_sk_assign, bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_sock},
};
use mptcp_common::{
    arrival::Received,
    packet::{Segment, Source as _},
};

use crate::policy::redundant::wrap::words;
use crate::shared::member::{global, load, offset};
use crate::shared::skb::Skb;

const IPV4_TUPLE: u32 = 12;
const IPV6_TUPLE: u32 = 36;

/// `BPF_F_CURRENT_NETNS`: the skb's own network namespace.
const CURRENT_NETNS: u64 = u64::MAX;

/// SACK blocks that a socket keeps.
const MAX_SACKS: usize = 4;

/// Most packets of a socket's backlog that are looked at.
const BACKLOG: usize = 16;

/// An established socket, held by a reference until [`Receiver::release`].
pub struct Receiver {
    sk: *mut bpf_sock,
    /// `struct tcp_sock`, BTF-typed.
    tcp: *const u8,
}

impl Receiver {
    /// Finds the established socket that a segment is for. `at` is the offset
    /// of its IP packet, and `header` the length of the IP header. The lookup
    /// starts from the skb's device, so it does not find a socket that is bound
    /// to another.
    #[inline(always)]
    pub fn find(skb: Skb, at: u32, header: u32, segment: &Segment) -> Option<Self> {
        let sk = look_up(skb, at, header, ports(segment))?;
        // SAFETY: the verifier sees that the reference is given back.
        unsafe {
            let tcp = bpf_skc_to_tcp_sock(sk.cast()) as *const u8;
            if tcp.is_null() {
                bpf_sk_release(sk.cast());
                return None;
            }
            Some(Self { sk, tcp })
        }
    }

    /// Returns whether such a segment is for a connection that is not
    /// established yet, and whose SYN this end has answered.
    #[inline(always)]
    pub fn is_opening(skb: Skb, at: u32, header: u32, segment: &Segment) -> bool {
        is_opening(skb.0, at, header, ports(segment)) != 0
    }

    /// Gives the reference back.
    #[inline(always)]
    pub fn release(&self) {
        // SAFETY: from `find`, and given back once.
        unsafe {
            bpf_sk_release(self.sk.cast());
        }
    }

    /// Makes the stack deliver the skb to this socket, whatever its device.
    #[inline(always)]
    pub fn give(&self, skb: Skb) {
        // SAFETY: as in `find`. If this fails, the stack looks the socket up
        // itself.
        unsafe {
            bpf_sk_assign(skb.0.cast(), self.sk.cast(), 0);
        }
    }

    /// Returns what the socket has received, as far as it matters to a segment.
    /// Reads without the socket's lock: what changes meanwhile only grows.
    #[inline(always)]
    pub fn received(&self, segment: &Segment) -> Received {
        let acknowledged: u32 = self.load(&offset::TCP_RCV_WUP);
        let mut received = Received {
            next: self.load(&offset::TCP_RCV_NXT),
            edge: acknowledged.wrapping_add(self.load(&offset::TCP_RCV_WND)),
            acked: self.load(&offset::TCP_SND_UNA),
            ts_recent: self.load(&offset::TCP_TS_RECENT),
            covered: false,
            busy: self.load::<u32>(&offset::SK_BACKLOG_LEN) != 0,
        };
        let count: u8 = self.load(&offset::TCP_NUM_SACKS);
        // SAFETY: typed by the helper; `struct tcp_sack_block { start; end }`.
        let blocks = unsafe { self.tcp.add(global(&offset::TCP_SELECTIVE_ACKS) as usize) };
        for index in 0..MAX_SACKS {
            if index < usize::from(count) {
                let (start, stop) = pair(blocks, 8 * index);
                received.also(segment, start, stop);
            }
        }
        // The backlog is a list. Its last entry is the newest, and the
        // likeliest to hold the segment.
        let last: *const u8 = self.load(&offset::SK_BACKLOG_TAIL);
        if !last.is_null() {
            let (start, stop) = sequence(last);
            received.also(segment, start, stop);
        }
        let mut skb: *const u8 = self.load(&offset::SK_BACKLOG_HEAD);
        for _ in 0..BACKLOG {
            if skb.is_null() {
                break;
            }
            let (start, stop) = sequence(skb);
            received.also(segment, start, stop);
            // SAFETY: typed by the member that it comes from; a stale pointer
            // reads as zero.
            skb = unsafe { load(skb, &offset::SKB_NEXT) };
        }
        received
    }

    #[inline(always)]
    fn load<T: Copy>(&self, offset: &'static u32) -> T {
        // SAFETY: typed by the helper that returned it.
        unsafe { load(self.tcp, offset) }
    }
}

/// Does the work of [`Receiver::is_opening`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_opening(skb: *mut __sk_buff, at: u32, header: u32, ports: u32) -> u32 {
    const TCP_SYN_RECV: u32 = 3;
    const TCP_NEW_SYN_RECV: u32 = 12;
    let Some(sk) = look_up(Skb(skb), at, header, ports) else {
        return 0;
    };
    // SAFETY: the helper returned the reference, which is given back once.
    let state = unsafe {
        let state = (*sk).state;
        bpf_sk_release(sk.cast());
        state
    };
    u32::from(state == TCP_SYN_RECV || state == TCP_NEW_SYN_RECV)
}

/// Returns the segment's ports as they are in its header.
#[inline(always)]
fn ports(segment: &Segment) -> u32 {
    let [a, b] = segment.source_port.to_be_bytes();
    let [c, d] = segment.destination_port.to_be_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// Returns the socket that a segment is for, as far as it can be found from the
/// skb's device. The caller has to give the reference back.
#[inline(always)]
fn look_up(skb: Skb, at: u32, header: u32, ports: u32) -> Option<*mut bpf_sock> {
    // `struct bpf_sock_tuple`: source, destination, ports. All of it is
    // initialised, because the verifier refuses what a union would leave
    // undefined.
    let mut tuple = [0_u32; IPV6_TUPLE as usize / 4];
    let size = if header == 20 {
        tuple[0] = u32::from_ne_bytes(skb.load(at + 12)?);
        tuple[1] = u32::from_ne_bytes(skb.load(at + 16)?);
        tuple[2] = ports;
        IPV4_TUPLE
    } else {
        let [a, b, c, d] = words(&skb.load(at + 8)?);
        let [e, f, g, h] = words(&skb.load(at + 24)?);
        tuple = [a, b, c, d, e, f, g, h, ports];
        IPV6_TUPLE
    };
    let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
    // SAFETY: the helper takes this program type's context, and a tuple of that
    // size.
    let sk = unsafe { bpf_skc_lookup_tcp(skb.0.cast(), tuple, size, CURRENT_NETNS, 0) };
    if sk.is_null() { None } else { Some(sk.cast()) }
}

/// Reads two words of an array of structures, with one typed load for each.
#[inline(always)]
fn pair(base: *const u8, at: usize) -> (u32, u32) {
    // SAFETY: the caller's pointer is typed, and the verifier checks the offset.
    unsafe {
        let word = base.add(at).cast::<u32>();
        (
            core::ptr::read_volatile(word),
            core::ptr::read_volatile(word.add(1)),
        )
    }
}

/// Returns `seq` and `end_seq` of an skb that TCP has taken (`struct
/// tcp_skb_cb` begins with them). The member is an array of characters, so they
/// are loaded one by one.
#[inline(always)]
fn sequence(skb: *const u8) -> (u32, u32) {
    let mut bytes = [0_u8; 8];
    for (index, byte) in bytes.iter_mut().enumerate() {
        // SAFETY: as in `pair`.
        *byte = unsafe {
            let cb = skb.add(global(&offset::SKB_CB) as usize);
            core::ptr::read_volatile(cb.add(index))
        };
    }
    let [a, b, c, d, e, f, g, h] = bytes;
    (
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    )
}
