//! Sockets, and reads and writes on them that never block for long.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use crate::host::Host;

/// How long one system call on a socket may block. All loops check their stop
/// flag and deadline at least this often.
const TICK: Duration = Duration::from_millis(50);

/// The protocol of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Multipath TCP.
    #[default]
    Mptcp,
    /// Plain TCP.
    Tcp,
}

/// How a client's socket is made.
#[derive(Debug, Clone, Default)]
pub struct Sockets {
    /// MPTCP or TCP.
    pub protocol: Protocol,
    /// The congestion control (`TCP_CONGESTION`); by default the namespace's.
    pub congestion: Option<String>,
    /// Whether to use AF_INET6 even for an IPv4 server (v4-mapped): only such a
    /// connection can have subflows of both families.
    pub dual_stack: bool,
    /// The local address; by default the routes decide.
    pub local: Option<IpAddr>,
    /// The device, or VRF, to bind to (`SO_BINDTODEVICE`).
    pub device: Option<String>,
    /// `SO_SNDBUF` in bytes; setting it stops the kernel's automatic tuning.
    pub send_buffer: Option<usize>,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
}

impl Sockets {
    /// Connects from `host`, which may take at most `within`.
    pub(super) fn connect(&self, host: &Host, to: SocketAddr, within: Duration) -> Result<Socket> {
        let to = if self.dual_stack { mapped(to) } else { to };
        let socket = self.open(host, Domain::for_address(to))?;
        if let Some(local) = self.local {
            let local = SocketAddr::new(local, 0);
            let local = if self.dual_stack {
                mapped(local)
            } else {
                local
            };
            socket
                .bind(&local.into())
                .with_context(|| format!("bind to {local}"))?;
        }
        socket
            .connect_timeout(&to.into(), within)
            .with_context(|| format!("connect to {to}"))?;
        prepare(&socket)?;
        Ok(socket)
    }

    /// Listens on `host`. A socket on an IPv6 address accepts IPv4 too.
    pub(super) fn listen(&self, host: &Host, on: SocketAddr) -> Result<Socket> {
        let socket = self.open(host, Domain::for_address(on))?;
        socket.set_reuse_address(true)?;
        if on.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket
            .bind(&on.into())
            .with_context(|| format!("bind to {on}"))?;
        socket.listen(128)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn open(&self, host: &Host, domain: Domain) -> Result<Socket> {
        let protocol = match self.protocol {
            Protocol::Mptcp => socket2::Protocol::MPTCP,
            Protocol::Tcp => socket2::Protocol::TCP,
        };
        let open = || Ok(Socket::new(domain, Type::STREAM, Some(protocol))?);
        let socket = host
            .in_ns(open)
            .with_context(|| format!("make a {:?} socket", self.protocol))?;
        if let Some(congestion) = &self.congestion {
            // With CAP_NET_ADMIN, any available congestion control works, even
            // one that the host's sysctl does not allow.
            socket
                .set_tcp_congestion(congestion.as_bytes())
                .with_context(|| format!("set the congestion control {congestion}"))?;
        }
        if let Some(device) = &self.device {
            socket
                .bind_device(Some(device.as_bytes()))
                .with_context(|| format!("bind to {device}"))?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if self.keepalive {
            socket.set_keepalive(true)?;
        }
        Ok(socket)
    }
}

/// Sets a connected socket's timeouts, and sends small writes at once.
pub(super) fn prepare(socket: &Socket) -> Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(TICK))?;
    socket.set_tcp_nodelay(true).context("TCP_NODELAY")?;
    Ok(())
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The result of one call on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Io {
    /// This many bytes were read or written.
    Moved(usize),
    /// Nothing happened for [`TICK`].
    Idle,
    /// The other end has finished, or is gone.
    Closed,
}

pub(super) fn read(mut socket: &Socket, buffer: &mut [u8]) -> Result<Io> {
    io(socket.read(buffer))
}

pub(super) fn write(mut socket: &Socket, bytes: &[u8]) -> Result<Io> {
    io(socket.write(bytes))
}

fn io(result: std::io::Result<usize>) -> Result<Io> {
    match result {
        Ok(0) => Ok(Io::Closed),
        Ok(count) => Ok(Io::Moved(count)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(Io::Idle),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(Io::Closed),
            _ => Err(error.into()),
        },
    }
}

/// Returns whether the other end has finished, or is gone. Discards any data
/// that it has sent. A program that only sends needs this check: after an
/// application has closed its MPTCP socket, the kernel keeps the socket for up
/// to `net.mptcp.close_timeout` (60 s) and does not reset a sender that goes on.
pub(super) fn has_finished(socket: &Socket) -> bool {
    let mut rest = [std::mem::MaybeUninit::uninit(); 64];
    match socket.recv_with_flags(&mut rest, libc::MSG_DONTWAIT) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Writes all of `bytes`, unless `stop` returns true or the other end is gone
/// first; returns whether all were written.
pub(super) fn write_all(socket: &Socket, bytes: &[u8], stop: impl Fn() -> bool) -> Result<bool> {
    let mut written = 0;
    while written < bytes.len() && !stop() {
        match write(socket, &bytes[written..])? {
            Io::Moved(count) => written += count,
            Io::Idle => {}
            Io::Closed => break,
        }
    }
    Ok(written == bytes.len())
}

/// Spreads writes over time, so that the application sends at a given rate.
#[derive(Debug)]
pub(super) struct Pacer {
    seconds_per_byte: f64,
    next: Instant,
}

impl Pacer {
    /// The duration of a chunk that is sent at once.
    const CHUNK_SECONDS: f64 = 0.002;

    pub(super) fn new(rate_mbit: f64) -> Self {
        Self {
            seconds_per_byte: 8.0 / (rate_mbit * 1e6),
            next: Instant::now(),
        }
    }

    /// Returns how many bytes to write at once.
    pub(super) fn chunk(&self) -> usize {
        ((Self::CHUNK_SECONDS / self.seconds_per_byte) as usize).max(1)
    }

    /// Sleeps until `bytes` may be written. A sender that was held up does not
    /// catch up for more than [`TICK`].
    pub(super) fn pace(&mut self, bytes: usize) {
        let now = Instant::now();
        std::thread::sleep(self.next.saturating_duration_since(now).min(TICK));
        let earliest = now.checked_sub(TICK).unwrap_or(now);
        self.next =
            self.next.max(earliest) + Duration::from_secs_f64(bytes as f64 * self.seconds_per_byte);
    }
}
