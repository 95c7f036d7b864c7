//! The TCP and MPTCP sockets of the network namespace, over sock_diag: what `ss`
//! shows.
//!
//! | structure | header |
//! |---|---|
//! | `inet_diag_req_v2`, `inet_diag_msg` | linux/inet_diag.h |
//! | `tcp_info` | linux/tcp.h |
//! | `mptcp_info` | linux/mptcp.h |

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkSerializable, NlasIterator};

use super::netlink::{Answer, exchange};

/// `NETLINK_SOCK_DIAG`, `SOCK_DIAG_BY_FAMILY`.
const NETLINK_SOCK_DIAG: isize = 4;
const BY_FAMILY: u16 = 20;

/// Attributes of an answer. The extensions that a request asks for have the bit
/// of their number less one.
const INFO: u16 = 2;
const MEMORY: u16 = 7;
const ULP: u16 = 19;
/// The attribute of a request with the protocol, if one byte does not hold it.
const PROTOCOL: u16 = 3;
/// The name of the upper layer protocol, in [`ULP`].
const ULP_NAME: u16 = 1;

/// TCP's states (net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const ALL_STATES: u32 = 0xfff;

/// Lengths of the structures.
const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// `MPTCP_INFO_FLAG_FALLBACK`.
const FALLBACK: u32 = 1;

/// A TCP socket that is established or listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Its own address and port.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// Whether it listens.
    pub listens: bool,
    /// Whether it belongs to an MPTCP socket.
    pub is_subflow: bool,
    /// The inode, by which the processes that hold it are found; 0 for a subflow
    /// that no process holds itself.
    pub inode: u32,
    /// How often in a row its retransmission timer has run out.
    pub backoff: u8,
    /// Its congestion window in bytes: what its congestion control takes for the
    /// path's bandwidth-delay product.
    pub window_bytes: u64,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// The size of its send buffer as the kernel accounts it; 0 if not known.
    pub send_buffer_bytes: u32,
}

/// An MPTCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mptcp {
    /// The other end's address and port.
    pub remote: SocketAddr,
    /// Whether it fell back to plain TCP.
    pub fallback: bool,
}

/// Lists the TCP sockets, those of MPTCP's subflows among them.
///
/// # Errors
/// The kernel has no TCP diagnostics, or its answer makes no sense.
pub fn tcp() -> Result<Vec<Tcp>> {
    let states = 1 << ESTABLISHED | 1 << LISTEN;
    let extensions = 1 << (INFO - 1) | 1 << (MEMORY - 1);
    let answers = dump(libc::IPPROTO_TCP, states, extensions)
        .context("the kernel does not list TCP sockets (is it built without tcp_diag?)")?;
    answers.iter().map(one_tcp).collect()
}

/// Returns the local addresses of all subflows that are open, are being opened,
/// or are being closed by this end or the other.
///
/// # Errors
/// The kernel has no TCP diagnostics, or its answer makes no sense.
pub fn subflow_addresses() -> Result<BTreeSet<IpAddr>> {
    let over = 1 << CLOSE | 1 << TIME_WAIT | 1 << LISTEN;
    let answers = dump(libc::IPPROTO_TCP, ALL_STATES & !over, 1 << (INFO - 1))
        .context("the kernel does not list TCP sockets (is it built without tcp_diag?)")?;
    let mut found = BTreeSet::new();
    for answer in &answers {
        let socket = one_tcp(answer)?;
        if socket.is_subflow {
            found.insert(socket.local.ip());
        }
    }
    Ok(found)
}

/// Lists the MPTCP connections that are open.
///
/// # Errors
/// The kernel has no MPTCP diagnostics, or its answer makes no sense.
pub fn mptcp() -> Result<Vec<Mptcp>> {
    let answers = dump(libc::IPPROTO_MPTCP, 1 << ESTABLISHED, 1 << (INFO - 1))
        .context("the kernel does not list MPTCP sockets (is it built without mptcp_diag?)")?;
    answers.iter().map(one_mptcp).collect()
}

fn dump(protocol: i32, states: u32, extensions: u8) -> Result<Vec<Answer>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = Request {
            family: family as u8,
            protocol: protocol as u32,
            states,
            extensions,
        };
        all.extend(exchange(
            NETLINK_SOCK_DIAG,
            request,
            NLM_F_REQUEST | NLM_F_DUMP,
        )?);
    }
    Ok(all)
}

/// A request for the sockets of a family.
#[derive(Debug)]
struct Request {
    family: u8,
    protocol: u32,
    states: u32,
    extensions: u8,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        REQUEST + 8
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        buffer[0] = self.family;
        // The attribute holds the whole number; what is here does not count.
        buffer[1] = self.protocol.to_le_bytes()[0];
        buffer[2] = self.extensions;
        buffer[4..8].copy_from_slice(&self.states.to_ne_bytes());
        let attribute = &mut buffer[REQUEST..];
        attribute[..2].copy_from_slice(&8_u16.to_ne_bytes());
        attribute[2..4].copy_from_slice(&PROTOCOL.to_ne_bytes());
        attribute[4..8].copy_from_slice(&self.protocol.to_ne_bytes());
    }
}

fn one_tcp(answer: &Answer) -> Result<Tcp> {
    let (mut socket, state) = head(&answer.payload)?;
    socket.listens = state == LISTEN;
    for attribute in NlasIterator::new(&answer.payload[MESSAGE..]) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            INFO => {
                socket.backoff = value.get(4).copied().unwrap_or(0);
                socket.rtt_us = word(value, 68).unwrap_or(0);
                let segment = u64::from(word(value, 16).unwrap_or(0));
                socket.window_bytes = segment * u64::from(word(value, 80).unwrap_or(0));
            }
            MEMORY => socket.send_buffer_bytes = word(value, 12).unwrap_or(0),
            ULP => socket.is_subflow = is_mptcp(value)?,
            _ => {}
        }
    }
    Ok(socket)
}

/// Returns whether these attributes of an upper layer protocol are MPTCP's.
fn is_mptcp(attributes: &[u8]) -> Result<bool> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == ULP_NAME {
            return Ok(attribute.value().starts_with(b"mptcp\0"));
        }
    }
    Ok(false)
}

fn one_mptcp(answer: &Answer) -> Result<Mptcp> {
    let (socket, _) = head(&answer.payload)?;
    let mut flags = 0;
    for attribute in NlasIterator::new(&answer.payload[MESSAGE..]) {
        let attribute = attribute?;
        if attribute.kind() == INFO {
            flags = word(attribute.value(), 8).unwrap_or(0);
        }
    }
    Ok(Mptcp {
        remote: socket.remote,
        fallback: flags & FALLBACK != 0,
    })
}

/// Reads what every answer begins with, and the socket's state.
fn head(message: &[u8]) -> Result<(Tcp, u8)> {
    let short = "the kernel's answer about a socket is cut off";
    let fixed: &[u8; MESSAGE] = message
        .get(..MESSAGE)
        .and_then(|bytes| bytes.try_into().ok())
        .context(short)?;
    let port = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let address = |at: usize| -> IpAddr {
        let bytes: [u8; 16] = std::array::from_fn(|index| fixed[at + index]);
        if i32::from(fixed[0]) == libc::AF_INET {
            Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
        } else {
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
    };
    let socket = Tcp {
        local: SocketAddr::new(address(8), port(4)),
        remote: SocketAddr::new(address(24), port(6)),
        listens: false,
        is_subflow: false,
        inode: word(fixed, 68).unwrap_or(0),
        backoff: 0,
        window_bytes: 0,
        rtt_us: 0,
        send_buffer_bytes: 0,
    };
    Ok((socket, fixed[1]))
}

/// Returns the word at an offset, if the structure of this kernel goes so far.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::host::skip::skip;

    #[test]
    fn a_plain_connection_is_found_at_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let found = match tcp() {
            Ok(found) => found,
            Err(error) => return skip(&format!("{error:#}")),
        };
        let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let of = |local, remote| {
            let mut found = found.iter();
            found.find(|one| (one.local, one.remote) == (local, remote))
        };
        let ours = of(local, remote).unwrap();
        assert!(!ours.is_subflow && !ours.listens && ours.backoff == 0);
        assert!(ours.inode != 0 && ours.window_bytes > 0 && ours.send_buffer_bytes > 0);
        assert!(of(remote, local).is_some());
        let here = |one: &&Tcp| one.listens && one.local == remote;
        assert!(found.iter().any(|one| here(&one)));
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        for length in 0..MESSAGE {
            let answer = Answer {
                kind: BY_FAMILY,
                payload: vec![0; length],
            };
            assert!(one_tcp(&answer).is_err() && one_mptcp(&answer).is_err());
        }
    }
}
