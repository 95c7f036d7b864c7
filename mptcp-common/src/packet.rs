//! IP packets and the TCP segments in them, as the tc programs read them.
//!
//! The bytes come from the network, so nothing in them is believed that is not
//! checked against the rest. The same code runs in the kernel (on an skb) and
//! in the tests and the fuzz target (on a slice).

use crate::abi::{mapped_v4, redundant::refused};

/// IP protocol numbers.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

/// TCP flags that matter here.
pub mod flag {
    /// No more data follows. The flag takes a sequence number.
    pub const FIN: u8 = 1;
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Aborts one.
    pub const RST: u8 = 4;
}

/// A source of a packet's bytes.
pub trait Source {
    /// Returns the `N` bytes at `at`; `None` if they are not all there.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
}

impl Source for [u8] {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.get(at as usize..)?.first_chunk().copied()
    }
}

/// An IP header that is followed by all that it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Length of the header, bytes.
    pub header: u32,
    /// Length of the payload, bytes.
    pub payload: u32,
    /// Protocol of the payload: one of [`protocol`], or another.
    pub protocol: u8,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source port, host byte order.
    pub source_port: u16,
    /// Destination port, host byte order.
    pub destination_port: u16,
    /// First sequence number.
    pub seq: u32,
    /// Sequence number after the last (a FIN counts).
    pub end: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Bits of [`flag`], and others.
    pub flags: u8,
    /// Length of the header, bytes.
    pub header: u32,
    /// Its timestamp (TSval, RFC 7323), if it has one where Linux puts it.
    pub tsval: Option<u32>,
}

/// Reads the IP packet at `at`, of which `available` bytes are there. `exact`
/// says whether its length field must agree: that of a packet that is yet to be
/// segmented (GSO) need not.
///
/// # Errors
/// One of [`refused`].
#[inline(always)]
pub fn ip<S: Source + ?Sized>(source: &S, at: u32, available: u32, exact: bool) -> Result<Ip, u8> {
    let first: [u8; 20] = source.load(at).ok_or(refused::MALFORMED)?;
    match first[0] >> 4 {
        4 => ipv4(&first, available, exact),
        6 => ipv6(&first, available, exact),
        _ => Err(refused::MALFORMED),
    }
}

#[inline(always)]
fn ipv4(bytes: &[u8; 20], available: u32, exact: bool) -> Result<Ip, u8> {
    // Refuse options: neither TCP nor the agent sends any.
    if bytes[0] != 0x45 || available < 20 {
        return Err(refused::MALFORMED);
    }
    let total = u32::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    if exact && (total < 20 || total > available) {
        return Err(refused::MALFORMED);
    }
    // Every bit of the field but "don't fragment" must be 0.
    if u16::from_be_bytes([bytes[6], bytes[7]]) & 0xbfff != 0 {
        return Err(refused::FRAGMENT);
    }
    let total = if exact { total } else { available };
    Ok(Ip {
        header: 20,
        payload: total - 20,
        protocol: bytes[9],
    })
}

#[inline(always)]
fn ipv6(bytes: &[u8; 20], available: u32, exact: bool) -> Result<Ip, u8> {
    const FRAGMENT_HEADER: u8 = 44;
    let payload = u32::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    if available < 40 || exact && payload > available - 40 {
        return Err(refused::MALFORMED);
    }
    if bytes[6] == FRAGMENT_HEADER {
        return Err(refused::FRAGMENT);
    }
    Ok(Ip {
        header: 40,
        payload: if exact { payload } else { available - 40 },
        protocol: bytes[6],
    })
}

/// Reads the source and destination addresses of the IP packet at `at`, IPv4 as
/// `::ffff:a.b.c.d`. `header` is the length of its header, as [`ip`] has found.
/// Writes the addresses in place, because the kernel's stack is short. Returns
/// `false` if they are not there.
#[inline(always)]
pub fn addresses<S: Source + ?Sized>(
    packet: &S,
    at: u32,
    header: u32,
    source: &mut [u8; 16],
    destination: &mut [u8; 16],
) -> bool {
    if header == 20 {
        let Some([a, b, c, d, e, f, g, h]) = packet.load(at + 12) else {
            return false;
        };
        *source = mapped_v4([a, b, c, d]);
        *destination = mapped_v4([e, f, g, h]);
        return true;
    }
    if let Some(address) = packet.load(at + 8) {
        *source = address;
    }
    match packet.load(at + 24) {
        Some(address) => {
            *destination = address;
            true
        }
        None => false,
    }
}

/// Reads the TCP segment at `at`, of `length` bytes.
///
/// # Errors
/// One of [`refused`].
#[inline(always)]
pub fn segment<S: Source + ?Sized>(source: &S, at: u32, length: u32) -> Result<Segment, u8> {
    let bytes: [u8; 20] = source.load(at).ok_or(refused::MALFORMED)?;
    let header = u32::from(bytes[12] >> 4) * 4;
    if header < 20 || header > length {
        return Err(refused::MALFORMED);
    }
    let flags = bytes[13];
    let seq = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let taken = length - header + u32::from(flags & flag::FIN);
    // Linux puts two NOPs and the timestamps first (tcp_options_write).
    let options: [u8; 8] = source.load(at + 20).unwrap_or_default();
    let stamped = header >= 32 && options[..4] == [1, 1, 8, 10];
    let stamp = u32::from_be_bytes([options[4], options[5], options[6], options[7]]);
    Ok(Segment {
        source_port: u16::from_be_bytes([bytes[0], bytes[1]]),
        destination_port: u16::from_be_bytes([bytes[2], bytes[3]]),
        seq,
        end: seq.wrapping_add(taken),
        ack: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        flags,
        header,
        tsval: if stamped { Some(stamp) } else { None },
    })
}

/// Reads the TCP segment in the IP packet at `at`: [`ip`], then [`segment`].
///
/// # Errors
/// One of [`refused`].
#[inline(always)]
pub fn tcp<S: Source + ?Sized>(
    source: &S,
    at: u32,
    available: u32,
    exact: bool,
) -> Result<(Ip, Segment), u8> {
    let ip = ip(source, at, available, exact)?;
    if ip.protocol != protocol::TCP {
        return Err(refused::NOT_TCP);
    }
    let segment = segment(source, at + ip.header, ip.payload)?;
    Ok((ip, segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an IPv4 packet with a TCP segment of ten bytes and timestamps.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0; 20 + 32 + 10];
        packet[0] = 0x45;
        packet[3] = 62;
        packet[6] = 0x40;
        packet[9] = protocol::TCP;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0x1f, 0x90, 0, 80]);
        packet[27] = 100;
        packet[32] = 8 << 4;
        packet[33] = 0x10;
        packet[40..48].copy_from_slice(&[1, 1, 8, 10, 0, 0, 1, 0]);
        packet
    }

    fn read(packet: &[u8]) -> Result<(Ip, Segment), u8> {
        tcp(packet, 0, packet.len() as u32, true)
    }

    fn ends(packet: &[u8], ip: &Ip) -> ([u8; 16], [u8; 16]) {
        let (mut source, mut destination) = ([0; 16], [0; 16]);
        assert!(addresses(
            packet,
            0,
            ip.header,
            &mut source,
            &mut destination
        ));
        (source, destination)
    }

    #[test]
    fn a_segment_is_read() {
        let (ip, segment) = read(&packet()).expect("a segment");
        assert_eq!((ip.header, ip.payload), (20, 42));
        let (source, destination) = ends(&packet(), &ip);
        assert_eq!(source[10..], [0xff, 0xff, 10, 0, 0, 1]);
        assert_eq!(destination[10..], [0xff, 0xff, 10, 0, 0, 2]);
        assert_eq!((segment.source_port, segment.destination_port), (8080, 80));
        assert_eq!((segment.seq, segment.end), (100, 110));
        assert_eq!((segment.header, segment.tsval), (32, Some(256)));
    }

    #[test]
    fn an_ipv6_segment_is_read() {
        let inner = packet();
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[5] = 42;
        packet[6] = protocol::TCP;
        packet[8] = 0xfd;
        packet[23] = 1;
        packet[24] = 0xfd;
        packet[39] = 2;
        packet.extend_from_slice(&inner[20..]);
        let (ip, segment) = read(&packet).expect("a segment");
        let (source, destination) = ends(&packet, &ip);
        assert_eq!((source[15], destination[15]), (1, 2));
        assert_eq!(segment.end, 110);
        packet[6] = 44;
        assert_eq!(read(&packet), Err(refused::FRAGMENT));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for length in 0..packet().len() {
            assert!(read(&packet()[..length]).is_err(), "{length} bytes");
        }
        let change = |at: usize, value: u8| {
            let mut packet = packet();
            packet[at] = value;
            read(&packet)
        };
        assert_eq!(change(0, 0x46), Err(refused::MALFORMED));
        assert_eq!(change(0, 0x55), Err(refused::MALFORMED));
        assert_eq!(change(3, 63), Err(refused::MALFORMED));
        assert_eq!(change(3, 19), Err(refused::MALFORMED));
        assert_eq!(change(6, 0x20), Err(refused::FRAGMENT));
        assert_eq!(change(7, 1), Err(refused::FRAGMENT));
        assert_eq!(change(9, protocol::UDP), Err(refused::NOT_TCP));
        assert_eq!(change(32, 4 << 4), Err(refused::MALFORMED));
        assert_eq!(change(32, 15 << 4), Err(refused::MALFORMED));
        assert_eq!(change(40, 2).map(|(_, segment)| segment.tsval), Ok(None));
    }

    #[test]
    fn a_packet_that_is_yet_to_be_segmented_may_be_longer_than_it_says() {
        let mut packet = packet();
        packet[3] = 0;
        assert!(tcp(packet.as_slice(), 0, 62, false).is_ok());
        assert!(tcp(packet.as_slice(), 0, 62, true).is_err());
    }
}
