//! Frames of a fixed size at a fixed pace, as a camera makes them, over one
//! connection to a [`Service::Frames`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socket2::Socket;

use super::running::{self, Running};
use super::socket::{self, Sockets};
use crate::host::Host;

#[cfg(doc)]
use super::Service;

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one frame may wait for room in the send queue.
const LIMIT: Duration = Duration::from_secs(30);

/// The description of a series of frames.
#[derive(Debug, Clone)]
pub struct Frames {
    /// The size of a frame in bytes.
    pub bytes: usize,
    /// The time from one frame to the next.
    pub interval: Duration,
    /// How many frames.
    pub count: u32,
    /// How the client's socket is made.
    pub sockets: Sockets,
}

/// Frames that are being sent. Finishing returns when each was ready to be sent;
/// dropping it stops it.
pub type Framing = Running<Stop, Vec<Instant>>;

/// Whether to stop.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl running::Progress for Stop {
    fn stop(&self) {
        self.0.store(true, Relaxed);
    }
}

impl Frames {
    /// Connects from `host` to `server` and starts.
    ///
    /// # Errors
    /// The connection cannot be made.
    pub fn start(&self, host: &Host, server: SocketAddr) -> Result<Framing> {
        let (this, socket) = (self.clone(), self.sockets.connect(host, server, CONNECT)?);
        Ok(Running::start(socket, move |socket, stop| {
            this.run(socket, stop)
        }))
    }

    /// Sends the frames. A frame is ready when it is due, even if the one before it
    /// still waits for room.
    fn run(&self, socket: &Socket, stop: &Stop) -> Result<Vec<Instant>> {
        let (frame, start) = (vec![b'#'; self.bytes], Instant::now());
        let mut ready = Vec::new();
        for number in 0..self.count {
            let due = start + self.interval * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            let done = || stop.0.load(Relaxed) || begun.elapsed() > LIMIT;
            if !socket::write_all(socket, &frame, done)? {
                ensure!(stop.0.load(Relaxed), "frame {number} could not be sent");
                break;
            }
            ready.push(due);
        }
        Ok(ready)
    }
}
