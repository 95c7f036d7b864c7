//! Many connections of one kind, all of them in one thread: uploads (to a
//! [`Service::Sink`]), or requests and responses (to a [`Service::Echo`]).

mod requests;
mod uploads;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use socket2::Socket;

use super::lock;
use super::socket::Sockets;
use crate::host::Host;
use crate::kernel::{self, SubflowInfo};

#[cfg(doc)]
use super::Service;

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The time between two looks at all connections.
const POLL: Duration = Duration::from_millis(50);

/// The description of a crowd.
#[derive(Debug, Clone)]
pub struct Crowd {
    connections: usize,
    load: Load,
    sockets: Sockets,
}

#[derive(Debug, Clone, Copy)]
enum Load {
    Uploads,
    Requests { size: usize, interval: Duration },
}

/// The connections of a crowd while they run. Dropping it stops them.
#[derive(Debug)]
pub struct Crowding {
    sockets: Arc<Vec<Socket>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    latencies: Mutex<Vec<Duration>>,
}

impl Crowd {
    /// Describes connections that each upload as much as they can.
    pub fn uploads(connections: usize) -> Self {
        Self::new(connections, Load::Uploads)
    }

    /// Describes connections that each send a request of `size` bytes every
    /// `interval` and get as many bytes back. A request that follows a late response
    /// is sent at once. The connections take turns within the interval.
    pub fn requests(connections: usize, size: usize, interval: Duration) -> Self {
        Self::new(connections, Load::Requests { size, interval })
    }

    fn new(connections: usize, load: Load) -> Self {
        Self {
            connections,
            load,
            sockets: Sockets::default(),
        }
    }

    /// Sets the congestion control: `"cubic"`, `"reno"` or `"bbr"`.
    #[must_use]
    pub fn congestion(mut self, name: &str) -> Self {
        self.sockets.congestion = Some(name.to_owned());
        self
    }

    /// Makes all connections from `host` to `server`, then starts to send.
    ///
    /// # Errors
    /// A connection cannot be made.
    pub fn start(&self, host: &Host, server: SocketAddr) -> Result<Crowding> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut sockets = Vec::new();
        for _ in 0..self.connections {
            let socket = self.sockets.connect(host, server, CONNECT)?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        let (sockets, shared) = (Arc::new(sockets), Arc::new(Shared::default()));
        let of_thread = (Arc::clone(&sockets), Arc::clone(&shared));
        let load = self.load;
        let thread = std::thread::spawn(move || {
            let (sockets, shared) = (&*of_thread.0, &*of_thread.1);
            let stop = || shared.stop.load(Relaxed);
            match load {
                Load::Uploads => uploads::run(sockets, &epoll, stop),
                Load::Requests { size, interval } => {
                    let answered = |latency| lock(&shared.latencies).push(latency);
                    requests::run(sockets, &epoll, size, interval, answered, stop)
                }
            }
        });
        Ok(Crowding {
            sockets,
            shared,
            thread: Some(thread),
        })
    }
}

impl Crowding {
    /// Returns the current subflows of each connection, on the client's side.
    ///
    /// # Errors
    /// The kernel does not show them.
    pub fn subflows(&self) -> Result<Vec<Vec<SubflowInfo>>> {
        self.sockets.iter().map(kernel::subflows).collect()
    }

    /// Waits until every connection has `count` established subflows, including its
    /// first, and returns how many connections have them; after `within`, that may
    /// be fewer than all.
    ///
    /// # Errors
    /// The kernel does not show the subflows, or the crowd has ended.
    pub fn wait_for_joins(&self, count: usize, within: Duration) -> Result<usize> {
        let deadline = Instant::now() + within;
        loop {
            let over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            ensure!(!over, "the connections have ended");
            let joined = |subflows: &&Vec<SubflowInfo>| {
                subflows.iter().filter(|one| one.established).count() >= count
            };
            let have = self.subflows()?.iter().filter(joined).count();
            if have == self.sockets.len() || Instant::now() >= deadline {
                return Ok(have);
            }
            sleep(POLL);
        }
    }

    /// Returns the number of responses so far, over all connections.
    pub fn responses(&self) -> usize {
        lock(&self.shared.latencies).len()
    }

    /// Returns how long the responses from number `first` on took.
    pub fn latencies_from(&self, first: usize) -> Vec<Duration> {
        let latencies = lock(&self.shared.latencies);
        latencies.get(first..).unwrap_or_default().to_vec()
    }

    /// Stops and closes all connections.
    ///
    /// # Errors
    /// A connection was closed by the server, or failed.
    pub fn stop(mut self) -> Result<()> {
        self.shared.stop.store(true, Relaxed);
        match self.thread.take() {
            Some(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for Crowding {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread ends soon, and nobody needs its result.
            let _ = thread.join();
        }
    }
}
