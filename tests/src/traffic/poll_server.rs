//! A server that serves all of its connections in one thread, so that hundreds
//! of them do not load the machine with as many threads.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollFlags};
use socket2::Socket;

use super::lock;
use super::poller::{self, Events};
use super::socket::{self, Io, Sockets};
use crate::host::Host;

/// How many bytes one call reads or writes.
const BUFFER: usize = 128 * 1024;
/// How many calls in a row serve one connection while others wait.
const TURN: usize = 4;
/// The number that stands for the listening socket.
const LISTENER: u64 = u64::MAX;

/// How a [`PollServer`] treats a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Reads and counts until the client has finished, then finishes too.
    Sink,
    /// Sends as many bytes as it reads.
    Echo,
    /// Reads requests, each a number of bytes ([`u64`], big-endian), and sends
    /// that many bytes for each.
    Objects,
    /// Reads frames of this many bytes, and notes when each is complete. The
    /// server has one connection at a time.
    Frames(usize),
}

/// A server with one thread. Dropping it ends it.
#[derive(Debug)]
pub struct PollServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    received: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

/// An open connection.
struct Connection {
    socket: Socket,
    /// How many bytes the client still gets.
    owed: u64,
    /// The part of a request that has arrived.
    request: Vec<u8>,
    /// Bytes of the frame that is arriving.
    frame: usize,
}

/// The state that the thread owns.
struct Work {
    listener: Socket,
    service: Service,
    epoll: Epoll,
    open: HashMap<u64, Connection>,
    accepted: u64,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl PollServer {
    /// Listens on `addr` of `host`, with sockets made as `sockets` says (`local`
    /// and `dual_stack` do not apply); connections inherit from the listening
    /// socket.
    ///
    /// # Errors
    /// The socket cannot be made or bound.
    pub fn spawn(
        host: &Host,
        addr: SocketAddr,
        service: Service,
        sockets: &Sockets,
    ) -> Result<Self> {
        let listener = sockets.listen(host, addr)?;
        let addr = listener.local_addr()?.as_socket();
        let addr = addr.context("no local address")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        poller::add(&epoll, &listener, LISTENER, EpollFlags::EPOLLIN)?;
        let shared = Arc::new(Shared::default());
        let mut work = Work {
            listener,
            service,
            epoll,
            open: HashMap::new(),
            accepted: 0,
            shared: Arc::clone(&shared),
            buffer: vec![0; BUFFER],
        };
        let thread = std::thread::spawn(move || work.run());
        Ok(Self {
            addr,
            shared,
            thread: Some(thread),
        })
    }

    /// Returns the server's port with `ip`, an address of its host, for a client to
    /// connect to.
    pub fn at(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.addr.port())
    }

    /// Returns the number of bytes received over all connections.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Relaxed)
    }

    /// Returns when each frame was complete, in their order.
    pub fn arrivals(&self) -> Vec<Instant> {
        lock(&self.shared.arrivals).clone()
    }

    /// Ends the server and its connections.
    ///
    /// # Errors
    /// A connection failed in another way than by being closed.
    pub fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.shared.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the server has panicked"))
    }
}

impl Drop for PollServer {
    fn drop(&mut self) {
        // Nobody can take an error here; `stop` returns it.
        let _ = self.join();
    }
}

impl Work {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::default();
        while !self.shared.stop.load(Relaxed) {
            for number in events.wait(&self.epoll, poller::TICK)? {
                if number == LISTENER {
                    self.accept()?;
                } else if !self.serve(number)? {
                    // Closing the socket takes it out of the epoll set.
                    self.open.remove(&number);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        // The only expected error is that no connection waits any more.
        while let Ok((socket, _)) = self.listener.accept() {
            socket::prepare(&socket)?;
            socket.set_nonblocking(true)?;
            let number = self.accepted;
            self.accepted += 1;
            poller::add(&self.epoll, &socket, number, EpollFlags::EPOLLIN)?;
            let connection = Connection {
                socket,
                owed: 0,
                request: Vec::new(),
                frame: 0,
            };
            self.open.insert(number, connection);
        }
        Ok(())
    }

    /// Reads and writes what can be without waiting; returns whether the
    /// connection stays open.
    fn serve(&mut self, number: u64) -> Result<bool> {
        let Some(connection) = self.open.get_mut(&number) else {
            return Ok(true);
        };
        let owed_before = connection.owed;
        for _ in 0..TURN {
            match socket::read(&connection.socket, &mut self.buffer)? {
                Io::Moved(count) => {
                    self.shared.received.fetch_add(count as u64, Relaxed);
                    let complete = connection.take(self.service, &self.buffer[..count]);
                    if complete > 0 {
                        let now = Instant::now();
                        lock(&self.shared.arrivals).extend((0..complete).map(|_| now));
                    }
                }
                Io::Idle => break,
                Io::Closed => return Ok(false),
            }
        }
        if !connection.send()? {
            return Ok(false);
        }
        if (connection.owed > 0) != (owed_before > 0) {
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, connection.owed > 0);
            poller::change(&self.epoll, &connection.socket, number, interest)?;
        }
        Ok(true)
    }
}

impl Connection {
    /// Takes what the client has sent; returns how many frames it completes.
    fn take(&mut self, service: Service, bytes: &[u8]) -> usize {
        match service {
            Service::Sink => 0,
            Service::Echo => {
                self.owed += bytes.len() as u64;
                0
            }
            Service::Objects => {
                self.request.extend_from_slice(bytes);
                while let Some((size, rest)) = self.request.split_first_chunk() {
                    self.owed += u64::from_be_bytes(*size);
                    self.request = rest.to_vec();
                }
                0
            }
            Service::Frames(size) => {
                let arrived = self.frame + bytes.len();
                self.frame = arrived % size;
                arrived / size
            }
        }
    }

    /// Sends what the client is owed as far as that does not wait; returns whether
    /// the connection stays open.
    fn send(&mut self) -> Result<bool> {
        static ZEROS: [u8; BUFFER] = [0; BUFFER];
        while self.owed > 0 {
            let chunk = self.owed.min(BUFFER as u64) as usize;
            match socket::write(&self.socket, &ZEROS[..chunk])? {
                Io::Moved(count) => self.owed -= count as u64,
                Io::Idle => break,
                Io::Closed => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    fn connection() -> Result<Connection> {
        Ok(Connection {
            socket: Socket::new(Domain::IPV4, Type::STREAM, None)?,
            owed: 0,
            request: Vec::new(),
            frame: 0,
        })
    }

    #[test]
    fn requests_may_arrive_in_parts() -> Result<()> {
        let mut one = connection()?;
        let requests = [300_u64.to_be_bytes(), 7_u64.to_be_bytes()].concat();
        one.take(Service::Objects, &requests[..5]);
        assert_eq!(one.owed, 0);
        one.take(Service::Objects, &requests[5..9]);
        assert_eq!(one.owed, 300);
        one.take(Service::Objects, &requests[9..]);
        assert_eq!((one.owed, one.request.len()), (307, 0));
        Ok(())
    }

    #[test]
    fn a_frame_is_complete_with_its_last_byte() -> Result<()> {
        let mut one = connection()?;
        let frames = Service::Frames(100);
        let complete = [99, 1, 250, 49, 1].map(|count| one.take(frames, &vec![0; count]));
        assert_eq!(complete, [0, 1, 2, 0, 1]);
        Ok(())
    }
}
