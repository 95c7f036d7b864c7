//! Objects that a client asks a [`Service::Objects`] for, on connections that it
//! keeps or makes anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::Socket;

use super::socket::{self, Io, Sockets};
use crate::host::Host;
use crate::kernel::SubflowInfo;

#[cfg(doc)]
use super::Service;

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an object may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How many bytes one call reads.
const BUFFER: usize = 128 * 1024;

/// A connection over which a client fetches one object after the other.
#[derive(Debug)]
pub struct ObjectClient(Socket);

impl ObjectClient {
    /// Connects from `host` to `server`.
    ///
    /// # Errors
    /// The connection cannot be made.
    pub fn connect(host: &Host, server: SocketAddr) -> Result<Self> {
        let socket = Sockets::default().connect(host, server, CONNECT)?;
        Ok(Self(socket))
    }

    /// Fetches an object of `bytes` bytes. Returns the time from the request to the
    /// last byte.
    ///
    /// # Errors
    /// The server closes first, or the object takes longer than two minutes.
    pub fn fetch(&self, bytes: u64) -> Result<Duration> {
        let start = Instant::now();
        let late = || start.elapsed() > LIMIT;
        let asked = socket::write_all(&self.0, &bytes.to_be_bytes(), late)?;
        ensure!(asked, "the request could not be sent");
        let mut buffer = vec![0; BUFFER];
        let mut left = bytes as usize;
        while left > 0 {
            let most = left.min(BUFFER);
            match socket::read(&self.0, &mut buffer[..most])? {
                Io::Moved(count) => left -= count,
                Io::Idle => ensure!(!late(), "{left} of {bytes} bytes missing after {LIMIT:?}"),
                Io::Closed => bail!("the server has closed"),
            }
        }
        Ok(start.elapsed())
    }

    /// Waits until the connection has at least `count` established subflows,
    /// including its first, and returns them.
    ///
    /// # Errors
    /// They do not come `within` that time.
    pub fn wait_for_subflows(&self, count: usize, within: Duration) -> Result<Vec<SubflowInfo>> {
        super::wait_for_subflows(&self.0, count, within)
    }
}

/// Fetches an object of `bytes` bytes over a connection of its own. Returns the
/// time from the connect to the last byte.
///
/// # Errors
/// As [`ObjectClient::connect`] and [`ObjectClient::fetch`].
pub fn fetch_fresh(host: &Host, server: SocketAddr, bytes: u64) -> Result<Duration> {
    let start = Instant::now();
    let client = ObjectClient::connect(host, server)?;
    client.fetch(bytes).context("a fresh connection")?;
    Ok(start.elapsed())
}
