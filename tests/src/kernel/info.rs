//! Reads the kernel's state of one socket and its subflows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use socket2::{Protocol, Socket};

use super::layout::{
    FullInfo, MAX_SUBFLOWS, MPTCP_FULL_INFO, MPTCP_INFO, MptcpInfoRaw, SOL_MPTCP, SubflowRaw,
    TcpInfo,
};

/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;
/// `MPTCP_INFO_FLAG_FALLBACK`.
const FLAG_FALLBACK: u32 = 1;

/// The state of a connection, from `MPTCP_INFO`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MptcpInfo {
    /// Subflows in addition to the first, including those that are being opened.
    pub extra_subflows: u8,
    /// Whether the connection has become plain TCP. All else is zero then: the
    /// kernel passes such a socket's options on to TCP, which has no `MPTCP_INFO`.
    pub fallback: bool,
    /// The token of the connection on this host.
    pub token: u32,
    /// Data-level bytes sent, without reinjections.
    pub bytes_sent: u64,
    /// Data-level bytes received.
    pub bytes_received: u64,
    /// Data-level bytes that the other end has acknowledged.
    pub bytes_acked: u64,
    /// Data-level bytes sent again (reinjected).
    pub bytes_retrans: u64,
}

/// A subflow, or a plain TCP connection, as `MPTCP_FULL_INFO` or `TCP_INFO`
/// show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubflowInfo {
    /// This end; never a v4-mapped address.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether its TCP state is ESTABLISHED.
    pub established: bool,
    /// Bytes of payload sent, retransmissions included.
    pub bytes_sent: u64,
    /// Bytes of payload acknowledged (and one for the SYN).
    pub bytes_acked: u64,
    /// Bytes of payload received.
    pub bytes_received: u64,
    /// Bytes of payload retransmitted.
    pub bytes_retrans: u64,
    /// Bytes that wait in the send queue, unsent.
    pub notsent_bytes: u32,
    /// Smoothed round-trip time in microseconds.
    pub srtt_us: u32,
    /// The least round-trip time in the kernel's window, in microseconds.
    pub min_rtt_us: u32,
    /// The pacing rate in bytes per second (`u64::MAX`: none).
    pub pacing_rate_bytes_per_sec: u64,
    /// `SO_MAX_PACING_RATE` in bytes per second (`u64::MAX`: none).
    pub max_pacing_rate_bytes_per_sec: u64,
    /// The latest sample of the delivery rate, in bytes per second.
    pub delivery_rate_bytes_per_sec: u64,
    /// The congestion window in segments.
    pub cwnd_segments: u32,
    /// Retransmitted segments.
    pub retransmissions: u32,
}

/// Returns whether the socket was made with IPPROTO_MPTCP. (It may have fallen
/// back to TCP since.)
pub fn is_mptcp(socket: &Socket) -> Result<bool> {
    Ok(socket.protocol()? == Some(Protocol::MPTCP))
}

/// Reads the kernel's state of an MPTCP connection.
///
/// # Errors
/// On a plain TCP socket.
pub fn mptcp_info(socket: &Socket) -> Result<MptcpInfo> {
    let mut info = MptcpInfoRaw::default();
    if let Err(error) = get(socket, SOL_MPTCP, MPTCP_INFO, &mut info) {
        if is_mptcp(socket)? && has_fallen_back(&error) {
            return Ok(MptcpInfo {
                fallback: true,
                ..MptcpInfo::default()
            });
        }
        return Err(error).context("MPTCP_INFO");
    }
    Ok(MptcpInfo {
        extra_subflows: info.subflows,
        fallback: info.flags & FLAG_FALLBACK != 0,
        token: info.token,
        bytes_sent: info.bytes_sent,
        bytes_received: info.bytes_received,
        bytes_acked: info.bytes_acked,
        bytes_retrans: info.bytes_retrans,
    })
}

/// Returns the current subflows of an MPTCP connection, in the kernel's order.
/// A plain TCP connection counts as one subflow. When a subflow is gone, so
/// are its counters.
pub fn subflows(socket: &Socket) -> Result<Vec<SubflowInfo>> {
    if !is_mptcp(socket)? {
        return tcp_subflow(socket);
    }
    match mptcp_subflows(socket) {
        Err(error) if error.downcast_ref().is_some_and(has_fallen_back) => tcp_subflow(socket),
        other => other,
    }
}

fn has_fallen_back(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// Returns the name of the congestion control. On an MPTCP socket this is the
/// one set on that socket, which its subflows inherit; only `ss` shows the one
/// of a single subflow.
pub fn congestion(socket: &Socket) -> Result<String> {
    let mut name = socket.tcp_congestion().context("TCP_CONGESTION")?;
    name.retain(|&byte| byte != 0);
    Ok(String::from_utf8(name)?)
}

/// Returns `TCP_NOTSENT_LOWAT`, which the kernel keeps at the MPTCP socket
/// unless the connection has fallen back to TCP.
pub fn notsent_lowat(socket: &Socket) -> Result<u32> {
    socket.tcp_notsent_lowat().context("TCP_NOTSENT_LOWAT")
}

/// Sets the option that [`notsent_lowat`] returns.
pub fn set_notsent_lowat(socket: &Socket, bytes: u32) -> Result<()> {
    let set = socket.set_tcp_notsent_lowat(bytes);
    set.context("TCP_NOTSENT_LOWAT")
}

fn mptcp_subflows(socket: &Socket) -> Result<Vec<SubflowInfo>> {
    let mut subflows = [SubflowRaw::default(); MAX_SUBFLOWS];
    let mut tcp = [TcpInfo::default(); MAX_SUBFLOWS];
    let mut info = FullInfo {
        size_tcpinfo_user: size_of::<TcpInfo>() as u32,
        size_sfinfo_user: size_of::<SubflowRaw>() as u32,
        size_arrays_user: MAX_SUBFLOWS as u32,
        // Both arrays have the sizes given above and outlive the call.
        subflow_info: subflows.as_mut_ptr().expose_provenance() as u64,
        tcp_info: tcp.as_mut_ptr().expose_provenance() as u64,
        ..FullInfo::default()
    };
    get(socket, SOL_MPTCP, MPTCP_FULL_INFO, &mut info).context("MPTCP_FULL_INFO")?;
    let count = (info.num_subflows as usize).min(MAX_SUBFLOWS);
    let pairs = subflows.iter().zip(&tcp).take(count);
    pairs
        .map(|(subflow, tcp)| {
            Ok(SubflowInfo::new(
                address(&subflow.local)?,
                address(&subflow.remote)?,
                tcp,
            ))
        })
        .collect()
}

fn tcp_subflow(socket: &Socket) -> Result<Vec<SubflowInfo>> {
    let mut tcp = TcpInfo::default();
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut tcp).context("TCP_INFO")?;
    let local = socket
        .local_addr()?
        .as_socket()
        .context("no local address")?;
    let remote = socket
        .peer_addr()?
        .as_socket()
        .context("no remote address")?;
    Ok(vec![SubflowInfo::new(
        canonical(local),
        canonical(remote),
        &tcp,
    )])
}

impl SubflowInfo {
    fn new(local: SocketAddr, remote: SocketAddr, tcp: &TcpInfo) -> Self {
        Self {
            local,
            remote,
            established: tcp.state == ESTABLISHED,
            bytes_sent: tcp.bytes_sent,
            bytes_acked: tcp.bytes_acked,
            bytes_received: tcp.bytes_received,
            bytes_retrans: tcp.bytes_retrans,
            notsent_bytes: tcp.notsent_bytes,
            srtt_us: tcp.rtt,
            min_rtt_us: tcp.min_rtt,
            pacing_rate_bytes_per_sec: tcp.pacing_rate,
            max_pacing_rate_bytes_per_sec: tcp.max_pacing_rate,
            delivery_rate_bytes_per_sec: tcp.delivery_rate,
            cwnd_segments: tcp.snd_cwnd,
            retransmissions: tcp.total_retrans,
        }
    }
}

/// Calls `getsockopt` with a structure for which every bit pattern is valid.
fn get<T: Copy>(socket: &Socket, level: i32, name: i32, value: &mut T) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` writable bytes of integers (each caller's T);
    // the pointers in a `FullInfo` are explained where it is filled.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut *value).cast(),
            &raw mut len,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads the address in a `sockaddr_storage`.
fn address(storage: &[u8; 128]) -> Result<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([storage[0], storage[1]]));
    let port = u16::from_be_bytes([storage[2], storage[3]]);
    ensure!(
        [libc::AF_INET, libc::AF_INET6].contains(&family),
        "address family {family}"
    );
    let ip: IpAddr = if family == libc::AF_INET {
        Ipv4Addr::new(storage[4], storage[5], storage[6], storage[7]).into()
    } else {
        let octets: [u8; 16] = storage[8..24].try_into()?;
        Ipv6Addr::from(octets).into()
    };
    Ok(canonical(SocketAddr::new(ip, port)))
}

/// Turns a v4-mapped address into an IPv4 address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_and_mapped_ones() -> Result<()> {
        let mut v4 = [0; 128];
        v4[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        v4[2..8].copy_from_slice(&[0x1f, 0x90, 10, 77, 1, 2]);
        assert_eq!(address(&v4)?, "10.77.1.2:8080".parse()?);
        let mut v6 = [0; 128];
        v6[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        v6[2..4].copy_from_slice(&[0x1f, 0x90]);
        v6[8..24].copy_from_slice(&"::ffff:10.77.1.2".parse::<Ipv6Addr>()?.octets());
        assert_eq!(address(&v6)?, "10.77.1.2:8080".parse()?);
        v6[8..24].copy_from_slice(&"fd77::1".parse::<Ipv6Addr>()?.octets());
        assert_eq!(address(&v6)?, "[fd77::1]:8080".parse()?);
        assert!(address(&[0; 128]).is_err());
        Ok(())
    }
}
