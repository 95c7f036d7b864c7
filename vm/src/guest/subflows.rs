//! The subflows of a connection, read in a way that works since Linux 5.16. (The
//! lab uses `MPTCP_FULL_INFO`, which exists since 6.5.)

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use socket2::Socket;

const SOL_MPTCP: i32 = 284;
/// Returns `struct tcp_info` of each subflow; we read up to `bytes_acked`.
const MPTCP_TCPINFO: i32 = 2;
const TCPINFO_SIZE: usize = 128;
/// Returns `struct mptcp_subflow_addrs` of each: two `sockaddr_storage`.
const MPTCP_SUBFLOW_ADDRS: i32 = 3;
const ADDRS_SIZE: usize = 256;
/// `struct mptcp_subflow_data`: its size, the number of subflows, and the size
/// of each following item for the kernel and for us.
const HEADER_SIZE: usize = 16;

/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;
/// More subflows than any connection in a guest has.
const MAX: usize = 8;

/// An established subflow between IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subflow {
    /// This end's address.
    pub local: Ipv4Addr,
    /// `SO_MAX_PACING_RATE` in bytes per second (`u64::MAX`: none).
    pub cap: u64,
    /// Bytes of payload that the other end has acknowledged.
    pub acked: u64,
}

/// Returns the established subflows of a connection, the first one first.
pub fn of(socket: &Socket) -> Result<Vec<Subflow>> {
    let infos = get::<TCPINFO_SIZE>(socket, MPTCP_TCPINFO).context("MPTCP_TCPINFO")?;
    let addrs = get::<ADDRS_SIZE>(socket, MPTCP_SUBFLOW_ADDRS).context("MPTCP_SUBFLOW_ADDRS")?;
    let pairs = infos.iter().zip(&addrs);
    let established = pairs.filter(|(info, _)| info[0] == ESTABLISHED);
    Ok(established
        .map(|(info, addrs)| Subflow {
            // `sin_addr` of the first `sockaddr_in`.
            local: [addrs[4], addrs[5], addrs[6], addrs[7]].into(),
            // This follows 8 bytes, 24 words and `tcpi_pacing_rate`.
            cap: long(info, 112),
            acked: long(info, 120),
        })
        .collect())
}

/// Reads the items of an option, one for each subflow.
fn get<const SIZE: usize>(socket: &Socket, option: i32) -> io::Result<Vec<[u8; SIZE]>> {
    let mut buffer = vec![0; HEADER_SIZE + MAX * SIZE];
    buffer[..4].copy_from_slice(&(HEADER_SIZE as u32).to_ne_bytes());
    buffer[12..16].copy_from_slice(&(SIZE as u32).to_ne_bytes());
    let mut len = buffer.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which `buffer` has.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            SOL_MPTCP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = u32::from_ne_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
    let (items, _) = buffer[HEADER_SIZE..].as_chunks();
    Ok(items.iter().copied().take(count as usize).collect())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}
