//! The headers of a packet, read by a global function.
//!
//! The verifier takes what such a function returns or writes for one unknown value in
//! its caller. If headers were read inline, the verifier would follow each length that a
//! header can have through all the code that comes after.

use aya_ebpf::bindings::__sk_buff;
use mptcp_common::packet::{self, Ip, Segment};

use crate::shared::global::any;
use crate::shared::skb::Skb;

/// An IP header and the TCP header behind it. The fields are those of [`Ip`]
/// and [`Segment`]. It has no padding, because the stack that a global function
/// gets must be initialised as a whole.
#[repr(C)]
#[derive(Default)]
pub struct Headers {
    ip_header: u32,
    payload: u32,
    seq: u32,
    end: u32,
    ack: u32,
    tcp_header: u32,
    tsval: u32,
    source_port: u16,
    destination_port: u16,
    flags: u8,
    protocol: u8,
    /// 1 if `tsval` is there.
    stamped: u16,
}

impl Headers {
    #[inline(always)]
    pub fn ip(&self) -> Ip {
        Ip {
            header: self.ip_header,
            payload: self.payload,
            protocol: self.protocol,
        }
    }

    #[inline(always)]
    pub fn segment(&self) -> Segment {
        Segment {
            source_port: self.source_port,
            destination_port: self.destination_port,
            seq: self.seq,
            end: self.end,
            ack: self.ack,
            flags: self.flags,
            header: self.tcp_header,
            tsval: (self.stamped != 0).then_some(self.tsval),
        }
    }
}

/// Reads the TCP segment at `at`, of which `length` bytes are there, into
/// `headers`: see [`packet::tcp`].
///
/// # Errors
/// One of `abi::redundant::refused`.
#[inline(always)]
pub fn tcp(skb: Skb, at: u32, length: u32, headers: &mut Headers) -> Result<(), u8> {
    match any(read_tcp(skb.0, at, length, headers)) {
        0 => Ok(()),
        refused => Err((refused - 1) as u8),
    }
}

/// Does the work of [`tcp`]. Returns 0, or the reason plus one. A global
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_tcp(skb: *mut __sk_buff, at: u32, length: u32, headers: *mut Headers) -> u32 {
    // SAFETY: null, or a value on the caller's stack.
    let Some(headers) = (unsafe { headers.as_mut() }) else {
        return 1;
    };
    let skb = Skb(skb);
    match packet::tcp(&skb, at, length, skb.gso_size() == 0) {
        Ok((ip, segment)) => {
            *headers = Headers {
                ip_header: ip.header,
                payload: ip.payload,
                seq: segment.seq,
                end: segment.end,
                ack: segment.ack,
                tcp_header: segment.header,
                tsval: segment.tsval.unwrap_or_default(),
                source_port: segment.source_port,
                destination_port: segment.destination_port,
                flags: segment.flags,
                protocol: ip.protocol,
                stamped: u16::from(segment.tsval.is_some()),
            };
            0
        }
        Err(reason) => u32::from(reason) + 1,
    }
}
