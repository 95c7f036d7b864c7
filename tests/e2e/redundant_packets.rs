//! Builds packets by hand, for sending forgeries from a raw socket.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::Result;
use mptcp_lab::Host;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// The flag "more fragments" in the header of IPv4.
pub(crate) const MORE: u16 = 0x2000;

/// Returns an IPv4 packet. `fragment` has the flags and the offset.
pub(crate) fn ipv4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(0, &packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Returns an IPv6 packet.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(std::net::Ipv6Addr::LOCALHOST.octets());
    packet.extend(std::net::Ipv6Addr::LOCALHOST.octets());
    packet.extend(payload);
    packet
}

/// Returns a UDP datagram without a checksum, as IPv4 allows.
pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for field in [from, to, 8 + payload.len() as u16, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// Returns a TCP segment with a timestamp option and a checksum for these
/// addresses. It acknowledges sequence number 1.
pub(crate) fn tcp(
    from: SocketAddrV4,
    to: SocketAddrV4,
    seq: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(1u32.to_be_bytes());
    segment.extend([0x80, flags, 0xff, 0xff, 0, 0, 0, 0]);
    // NOP, NOP, timestamps.
    segment.extend([1, 1, 8, 10, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
    segment.extend(payload);
    let mut pseudo = Vec::new();
    pseudo.extend(from.ip().octets());
    pseudo.extend(to.ip().octets());
    pseudo.extend(u16::from(TCP).to_be_bytes());
    pseudo.extend((segment.len() as u16).to_be_bytes());
    let sum = checksum(sum(0, &pseudo), &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn sum(start: u32, bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words.fold(start, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
    })
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = sum(start, bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends whole IPv4 packets from `host`, without checking them.
pub(crate) fn send_raw(host: &Host, packets: &[Vec<u8>]) -> Result<()> {
    host.in_ns(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        for packet in packets {
            let to: [u8; 4] = packet[16..20].try_into()?;
            let to = SocketAddr::from((to, 0));
            socket.send_to(packet, &to.into())?;
        }
        Ok(())
    })
}

#[test]
fn checksums_come_out_as_zero() {
    let [from, to] = [Ipv4Addr::new(10, 77, 1, 2), Ipv4Addr::new(10, 77, 1, 1)];
    let segment = tcp(
        SocketAddrV4::new(from, 1),
        SocketAddrV4::new(to, 2),
        7,
        0x10,
        b"odd",
    );
    let packet = ipv4(from, to, TCP, 0, &segment);
    assert_eq!(checksum(0, &packet[..20]), 0);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, TCP, 0, segment.len() as u8]);
    assert_eq!(checksum(sum(0, &pseudo), &segment), 0);
}
