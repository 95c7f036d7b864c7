//! A bulk transfer: an upload (to a [`Behaviour::Sink`]) or a download (from a
//! [`Behaviour::Source`]).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socket2::Socket;

use super::running::{self, Running};
use super::socket::{self, Io, Pacer, Protocol, Sockets};
use crate::host::Host;
use crate::kernel::{self, SubflowInfo};
use crate::link::Direction;
use crate::wait;

#[cfg(doc)]
use super::Behaviour;

/// How many bytes one call reads or writes.
const BUFFER: usize = 128 * 1024;
/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How much longer than its duration a transfer may take, including closing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The default time limit of a transfer of a number of bytes.
const LIMIT: Duration = Duration::from_secs(60);

/// The description of a transfer.
#[derive(Debug, Clone)]
pub struct Bulk {
    direction: Direction,
    bytes: u64,
    duration: Option<Duration>,
    limit: Duration,
    rate_mbit: Option<f64>,
    sockets: Sockets,
}

/// A running transfer. It ends by itself (see [`Bulk::limit`]), and dropping it
/// stops it.
pub type Transfer = Running<Progress, Report>;

/// How far a transfer has come.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    stop: AtomicBool,
    /// Set when nobody waits for the end any more.
    abandoned: AtomicBool,
}

/// The result of a transfer that has ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// Payload moved by the application.
    pub bytes: u64,
    /// The time from the established connection to the last byte. For an upload, to
    /// the other end's end of stream, which follows the last byte.
    pub elapsed: Duration,
    /// Whether the other end's end of stream confirmed an upload.
    pub confirmed: bool,
    /// The subflows just before the end, on the client's side.
    pub subflows: Vec<SubflowInfo>,
}

impl Report {
    /// Returns the goodput in Mbit/s.
    pub fn rate_mbit(&self) -> f64 {
        self.bytes as f64 * 8e-6 / self.elapsed.as_secs_f64()
    }
}

impl Bulk {
    /// Describes an upload that lasts for `duration`.
    pub fn upload_for(duration: Duration) -> Self {
        Self::new(Direction::Up, u64::MAX, Some(duration))
    }

    /// Describes an upload of `bytes` bytes.
    pub fn upload_bytes(bytes: u64) -> Self {
        Self::new(Direction::Up, bytes, None)
    }

    /// Describes a download that lasts for `duration`.
    pub fn download_for(duration: Duration) -> Self {
        Self::new(Direction::Down, u64::MAX, Some(duration))
    }

    /// Describes a download of at least `bytes` bytes.
    pub fn download_bytes(bytes: u64) -> Self {
        Self::new(Direction::Down, bytes, None)
    }

    fn new(direction: Direction, bytes: u64, duration: Option<Duration>) -> Self {
        let limit = duration.map_or(LIMIT, |duration| duration + PATIENCE);
        Self {
            direction,
            bytes,
            duration,
            limit,
            rate_mbit: None,
            sockets: Sockets::default(),
        }
    }

    /// Sets the rate at which the application sends, in Mbit/s. (For a download,
    /// set the server's rate: [`Behaviour::Source`].)
    #[must_use]
    pub fn rate_mbit(mut self, rate_mbit: f64) -> Self {
        self.rate_mbit = Some(rate_mbit);
        self
    }

    /// Sets the time limit of the transfer; it is an error to take longer.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how the client's socket is made.
    #[must_use]
    pub fn sockets(mut self, sockets: Sockets) -> Self {
        self.sockets = sockets;
        self
    }

    /// Sets the congestion control: `"cubic"`, `"reno"` or `"bbr"`.
    #[must_use]
    pub fn congestion(mut self, name: &str) -> Self {
        self.sockets.congestion = Some(name.to_owned());
        self
    }

    /// Uses plain TCP instead of MPTCP.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.sockets.protocol = Protocol::Tcp;
        self
    }

    /// Uses an AF_INET6 socket even if the server's address is IPv4: such a
    /// connection may have subflows of both families.
    #[must_use]
    pub fn dual_stack(mut self) -> Self {
        self.sockets.dual_stack = true;
        self
    }

    /// Connects from `host` to `server` and starts.
    pub fn start(&self, host: &Host, server: SocketAddr) -> Result<Transfer> {
        let (bulk, socket) = (self.clone(), self.sockets.connect(host, server, CONNECT)?);
        Ok(Running::start(socket, move |socket, progress| {
            bulk.run(socket, progress)
        }))
    }

    /// Connects, transfers and waits for the end.
    pub fn run_to_end(&self, host: &Host, server: SocketAddr) -> Result<Report> {
        self.start(host, server)?.finish()
    }

    fn run(&self, socket: &Socket, progress: &Progress) -> Result<Report> {
        let start = Instant::now();
        let hard_end = start + self.limit;
        let end = self.duration.map_or(hard_end, |duration| start + duration);
        let mut confirmed = false;
        let subflows;
        if self.direction == Direction::Up {
            self.send(socket, progress, end)?;
            socket.shutdown(std::net::Shutdown::Write)?;
            confirmed = wait_for_end(socket, &progress.abandoned, hard_end)?;
            // A closed subflow keeps its counters until the MPTCP socket closes.
            subflows = kernel::subflows(socket).unwrap_or_default();
        } else {
            self.receive(socket, progress, end)?;
            subflows = kernel::subflows(socket).unwrap_or_default();
            socket.shutdown(std::net::Shutdown::Both)?;
        }
        let bytes = progress.bytes.load(Relaxed);
        let whole = self.duration.is_some() || bytes >= self.bytes || progress.stopped();
        ensure!(
            whole,
            "only {bytes} of {} bytes within {:?}",
            self.bytes,
            self.limit
        );
        Ok(Report {
            bytes,
            elapsed: start.elapsed(),
            confirmed,
            subflows,
        })
    }

    fn send(&self, socket: &Socket, progress: &Progress, end: Instant) -> Result<()> {
        let buffer = vec![0; BUFFER];
        let mut pacer = self.rate_mbit.map(Pacer::new);
        let mut left = self.bytes;
        while left > 0 && !progress.stopped() && Instant::now() < end {
            let chunk = pacer.as_ref().map_or(BUFFER, Pacer::chunk).min(BUFFER) as u64;
            let chunk = chunk.min(left) as usize;
            if let Some(pacer) = &mut pacer {
                pacer.pace(chunk);
            }
            match socket::write(socket, &buffer[..chunk])? {
                Io::Moved(count) => left -= progress.moved(count),
                Io::Idle => {}
                Io::Closed => anyhow::bail!("the server has closed"),
            }
        }
        Ok(())
    }

    fn receive(&self, socket: &Socket, progress: &Progress, end: Instant) -> Result<()> {
        let stop = || progress.stopped() || Instant::now() >= end;
        ensure!(
            socket::write_all(socket, b"?", stop)?,
            "the request could not be sent"
        );
        let mut buffer = vec![0; BUFFER];
        let mut left = self.bytes;
        while left > 0 && !stop() {
            match socket::read(socket, &mut buffer)? {
                Io::Moved(count) => left = left.saturating_sub(progress.moved(count)),
                Io::Idle => {}
                Io::Closed => break,
            }
        }
        Ok(())
    }
}

impl Progress {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn moved(&self, count: usize) -> u64 {
        self.bytes.fetch_add(count as u64, Relaxed);
        count as u64
    }
}

impl running::Progress for Progress {
    fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    fn abandon(&self) {
        self.stop();
        self.abandoned.store(true, Relaxed);
    }
}

impl Transfer {
    /// Returns how many bytes the application has moved so far.
    pub fn bytes(&self) -> u64 {
        self.progress.bytes.load(Relaxed)
    }

    /// Waits until the application has moved `bytes` more.
    pub fn wait_for_progress(&self, bytes: u64, within: Duration) -> Result<()> {
        let goal = self.bytes() + bytes;
        wait::try_until("progress of a transfer", within, || match self.bytes() {
            now if now >= goal => Ok(()),
            now => Err((now, goal)),
        })
    }
}

/// Reads until the other end's end of stream; `false` if it is late.
fn wait_for_end(socket: &Socket, abandoned: &AtomicBool, deadline: Instant) -> Result<bool> {
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let mut buffer = [0; 256];
    while Instant::now() < deadline && !abandoned.load(Relaxed) {
        if socket::read(socket, &mut buffer)? == Io::Closed {
            return Ok(true);
        }
    }
    Ok(false)
}
