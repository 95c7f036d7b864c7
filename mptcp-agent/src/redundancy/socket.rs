//! The UDP port of hellos and copies: one socket for IPv4, one for IPv6.
//!
//! A hello has to take the subflow's path, so each datagram is sent with its
//! source address and device (`IP_PKTINFO`, `IPV6_PKTINFO`). For received
//! datagrams, the kernel reports the same.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::peers::Datagram;

/// The longest datagram that is read in full; longer ones are no hellos.
const LONGEST: usize = 512;

/// Flags of all sockets here. No call on them blocks.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The port's sockets, bound.
#[derive(Debug)]
pub struct Sockets {
    /// The IPv4 socket, and the IPv6 one if the host has IPv6.
    pub sockets: Vec<Socket>,
}

impl Sockets {
    /// Binds `port` on every address.
    ///
    /// # Errors
    /// The address that cannot be bound, and the reason.
    pub fn bind(port: u16) -> Result<Self, (SocketAddr, io::Error)> {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let mut sockets = vec![Socket::bind(v4).map_err(|error| (v4, error))?];
        match Socket::bind(v6) {
            Ok(socket) => sockets.push(socket),
            // The kernel has no IPv6 (ipv6.disable=1).
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
            Err(error) => return Err((v6, error)),
        }
        Ok(Self { sockets })
    }
}

/// A datagram that arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// Its content, cut off after 512 bytes.
    pub payload: Vec<u8>,
    /// The address of this host that it was sent to.
    pub local: IpAddr,
    /// The address and port that it came from.
    pub remote: SocketAddr,
    /// The device that it arrived by.
    pub ifindex: u32,
}

/// One bound socket, which never blocks.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    ipv6: bool,
}

impl Socket {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let ipv6 = address.is_ipv6();
        let family = family(ipv6);
        let fd = socket_with(family, SocketType::DGRAM, FLAGS, None)?;
        if ipv6 {
            rustix::net::sockopt::set_ipv6_v6only(&fd, true)?;
            setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
        }
        bind(&fd, &address)?;
        Ok(Self { fd, ipv6 })
    }

    /// Returns another handle to the same socket.
    ///
    /// # Errors
    /// Too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            ipv6: self.ipv6,
        })
    }

    /// Returns whether datagrams from `address` leave by this socket.
    pub fn is_for(&self, address: IpAddr) -> bool {
        self.ipv6 == address.to_canonical().is_ipv6()
    }

    /// Sends a datagram from its own source address by its device (0: any).
    ///
    /// # Errors
    /// The kernel refuses it: there is no route over that device, or this host
    /// no longer has the address.
    pub fn send(&self, datagram: &Datagram) -> io::Result<()> {
        let Datagram {
            from,
            ifindex,
            to,
            payload,
        } = datagram;
        self.send_with(*from, *ifindex, *to, payload, MsgFlags::empty())
    }

    /// Tells the kernel that the next hop from one address to another by this
    /// device is reachable, without sending anything
    /// (`MSG_CONFIRM | MSG_PROBE`).
    ///
    /// # Errors
    /// There is no such route.
    pub fn confirm(&self, from: IpAddr, ifindex: u32, to: SocketAddr) -> io::Result<()> {
        // include/linux/socket.h; libc does not name it.
        const MSG_PROBE: i32 = 0x10;
        let flags = MsgFlags::from_bits_retain(libc::MSG_CONFIRM | MSG_PROBE);
        self.send_with(from, ifindex, to, &[], flags)
    }

    fn send_with(
        &self,
        from: IpAddr,
        ifindex: u32,
        to: SocketAddr,
        payload: &[u8],
        flags: MsgFlags,
    ) -> io::Result<()> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let to = SockaddrStorage::from(to);
        let payload = [IoSlice::new(payload)];
        let flags = flags | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let fd = self.fd.as_raw_fd();
        let sent = match from.to_canonical() {
            IpAddr::V4(from) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: ifindex.cast_signed(),
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(from.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &payload, &control, flags, Some(&to))
            }
            IpAddr::V6(from) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: from.octets(),
                    },
                    ipi6_ifindex: ifindex,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &payload, &control, flags, Some(&to))
            }
        };
        sent?;
        Ok(())
    }
}

impl From<Socket> for UdpSocket {
    /// Makes a socket that can be waited on, and then passed to [`receive`].
    fn from(socket: Socket) -> Self {
        socket.fd.into()
    }
}

/// Reads the next datagram from a [`Socket`]. Returns `None` if the kernel did
/// not report its addresses.
///
/// # Errors
/// `WouldBlock` if there is no datagram.
pub fn receive(socket: &impl AsFd) -> io::Result<Option<Received>> {
    let mut bytes = [0_u8; LONGEST];
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let length = message.bytes.min(LONGEST);
    let remote = message.address.as_ref().and_then(address_of);
    let arrival = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let local = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            Some((IpAddr::V4(local), info.ipi_ifindex.cast_unsigned()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let local = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            Some((IpAddr::V6(local), info.ipi6_ifindex))
        }
        _ => None,
    });
    Ok(remote
        .zip(arrival)
        .map(|(remote, (local, ifindex))| Received {
            payload: bytes[..length].to_vec(),
            local,
            remote,
            ifindex,
        }))
}

/// Returns the size of the largest IP packet from `local` to `remote` over the
/// device with that name, as far as the kernel knows now: the route's MTU, or
/// what path MTU discovery has found. Returns `None` if there is no route.
pub fn route_mtu(local: IpAddr, remote: IpAddr, device: &str) -> Option<u32> {
    let (local, remote) = (local.to_canonical(), remote.to_canonical());
    let ipv6 = remote.is_ipv6();
    let fd = socket_with(family(ipv6), SocketType::DGRAM, FLAGS, None).ok()?;
    setsockopt(&fd, sockopt::BindToDevice, &device.into()).ok()?;
    bind(&fd, &SocketAddr::new(local, 0)).ok()?;
    // The port does not matter, since nothing is sent.
    connect(&fd, &SocketAddr::new(remote, 9)).ok()?;
    if ipv6 {
        rustix::net::sockopt::ipv6_mtu(&fd).ok()
    } else {
        rustix::net::sockopt::ip_mtu(&fd).ok()
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| {
        let ip = address.ip();
        SocketAddr::from((ip, address.port()))
    });
    v4.or_else(|| {
        let address = address.as_sockaddr_in6()?;
        Some(SocketAddr::from((address.ip(), address.port())))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::host::skip::skip;

    /// Finds a port that is free over IPv4 and IPv6 just now, and binds it.
    fn bound() -> (u16, Sockets) {
        (0..100)
            .find_map(|_| {
                let probe = UdpSocket::bind("127.0.0.1:0").ok()?;
                let port = probe.local_addr().ok()?.port();
                drop(probe);
                Some((port, Sockets::bind(port).ok()?))
            })
            .unwrap()
    }

    #[test]
    fn sent_from_an_address_and_received_with_it() {
        let (port, sockets) = bound();
        for (from, to) in [
            (IpAddr::from([127, 0, 0, 5]), IpAddr::from([127, 0, 0, 6])),
            (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
        ] {
            let Some(socket) = sockets.sockets.iter().find(|one| one.is_for(from)) else {
                skip("there is no IPv6 here");
                continue;
            };
            let sent = Datagram {
                from,
                ifindex: 1,
                to: SocketAddr::new(to, port),
                payload: b"\xa1hello".to_vec(),
            };
            if let Err(error) = socket.send(&sent) {
                assert!(from.is_ipv6(), "{error}");
                skip(&format!("lo has no IPv6 here: {error}"));
                continue;
            }
            let fd = UdpSocket::from(socket.try_clone().unwrap());
            let received = receive(&fd).unwrap().unwrap();
            assert_eq!(received.payload, sent.payload);
            assert_eq!(received.local, to);
            assert_eq!(received.remote, SocketAddr::new(from, port));
            assert_eq!(received.ifindex, 1);
            let error = receive(&fd).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let (port, _sockets) = bound();
        let (address, error) = Sockets::bind(port).unwrap_err();
        assert_eq!(address.to_string(), format!("0.0.0.0:{port}"));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_route_has_an_mtu() {
        let lo = IpAddr::from([127, 0, 0, 1]);
        assert!(route_mtu(lo, lo, "lo").is_some_and(|mtu| mtu >= 1500));
        let nowhere = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(route_mtu(nowhere, nowhere, "lo"), None);
    }
}
