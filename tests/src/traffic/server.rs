//! Servers: a sink, a source and an echo.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::lock;
use super::socket::{self, Io, Pacer, Protocol, Sockets};
use crate::host::Host;
use crate::kernel::{self, MptcpInfo, SubflowInfo};
use crate::wait;

/// How many bytes one call reads or writes.
const BUFFER: usize = 128 * 1024;
/// How long the server waits for a connection before it checks for a stop.
const ACCEPT_TICK_MS: u8 = 20;
/// With at least this many threads, the server joins those that have ended.
const MANY_WORKERS: usize = 64;

/// The thread of a connection.
type Worker = JoinHandle<Result<()>>;

/// How a server treats a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behaviour {
    /// Reads and counts until the client has finished, then finishes too.
    Sink,
    /// After the first bytes from the client, sends until the client closes.
    Source {
        /// The rate in Mbit/s; `None` for as fast as possible.
        rate_mbit: Option<f64>,
    },
    /// Sends back what it reads.
    Echo,
}

/// The description of a server; [`Server::spawn`] is the short form.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// How it treats connections.
    pub behaviour: Behaviour,
    /// How its listening socket is made (`local` and `dual_stack` do not
    /// apply); connections inherit from it.
    pub sockets: Sockets,
}

/// A server with its own thread, and one more for each connection. Dropping it
/// ends it.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connections: Mutex<Vec<Arc<Connection>>>,
}

/// A connection that a server has accepted; it may have ended since.
#[derive(Debug)]
pub struct Connection {
    /// The client's address at the time of accept.
    pub peer: SocketAddr,
    received: AtomicU64,
    sent: AtomicU64,
    /// The socket, while the connection is open.
    socket: Mutex<Option<Arc<Socket>>>,
    last_subflows: Mutex<Vec<SubflowInfo>>,
}

impl Server {
    /// Listens over MPTCP on `addr` of `host`. That is usually
    /// [`ANY_V4`](super::ANY_V4) or [`ANY`](super::ANY), since subflows join at
    /// every address.
    pub fn spawn(host: &Host, addr: SocketAddr, behaviour: Behaviour) -> Result<Self> {
        ServerConfig {
            behaviour,
            sockets: Sockets::default(),
        }
        .spawn(host, addr)
    }

    /// Like [`Server::spawn`], over plain TCP.
    pub fn spawn_tcp(host: &Host, addr: SocketAddr, behaviour: Behaviour) -> Result<Self> {
        let sockets = Sockets {
            protocol: Protocol::Tcp,
            ..Sockets::default()
        };
        ServerConfig { behaviour, sockets }.spawn(host, addr)
    }

    /// Returns the address on which the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the server's port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns the server's port with `ip`, an address of its host, for a client to
    /// connect to.
    pub fn at(&self, ip: std::net::IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.port())
    }

    /// Returns all connections so far, in the order of their accept.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.shared.connections).clone()
    }

    /// Waits for connection number `index`, counted from 0, and returns it.
    pub fn connection(&self, index: usize, within: Duration) -> Result<Arc<Connection>> {
        wait::try_until("a connection to be accepted", within, || {
            let connections = lock(&self.shared.connections);
            connections.get(index).cloned().ok_or(connections.len())
        })
    }

    /// Returns the number of bytes received over all connections.
    pub fn received(&self) -> u64 {
        self.connections()
            .iter()
            .map(|connection| connection.received())
            .sum()
    }

    /// Ends the server and its connections.
    pub fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.shared.stop.store(true, Relaxed);
        let Some(acceptor) = self.acceptor.take() else {
            return Ok(());
        };
        acceptor
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the server has panicked"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody can take an error here; `stop` returns it.
        let _ = self.join();
    }
}

impl ServerConfig {
    /// Starts the server on `addr` of `host`.
    pub fn spawn(&self, host: &Host, addr: SocketAddr) -> Result<Server> {
        let listener = self.sockets.listen(host, addr)?;
        let addr = listener
            .local_addr()?
            .as_socket()
            .context("no local address")?;
        let shared = Arc::new(Shared::default());
        let (behaviour, of_thread) = (self.behaviour, Arc::clone(&shared));
        let acceptor = std::thread::spawn(move || accept(&listener, behaviour, &of_thread));
        Ok(Server {
            addr,
            shared,
            acceptor: Some(acceptor),
        })
    }
}

impl Connection {
    /// Returns how many bytes the application has received.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Returns how many bytes the application has written to its socket.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Returns whether the connection is open.
    pub fn is_open(&self) -> bool {
        lock(&self.socket).is_some()
    }

    /// Returns the connection's subflows on the server's side; once it is closed,
    /// the last ones seen.
    pub fn subflows(&self) -> Result<Vec<SubflowInfo>> {
        match &*lock(&self.socket) {
            Some(socket) => kernel::subflows(socket),
            None => Ok(lock(&self.last_subflows).clone()),
        }
    }

    /// Reads the kernel's state of the connection.
    ///
    /// # Errors
    /// The connection is closed, or plain TCP.
    pub fn mptcp_info(&self) -> Result<MptcpInfo> {
        let socket = lock(&self.socket);
        kernel::mptcp_info(socket.as_ref().context("the connection is closed")?)
    }

    fn serve(&self, socket: &Socket, behaviour: Behaviour, stop: &AtomicBool) -> Result<()> {
        let stop = || stop.load(Relaxed);
        let mut buffer = vec![0; BUFFER];
        let mut asked = false;
        let mut pacer = None;
        while !stop() {
            if asked {
                let chunk = pacer.as_ref().map_or(BUFFER, Pacer::chunk).min(BUFFER);
                if let Some(pacer) = &mut pacer {
                    pacer.pace(chunk);
                }
                let gone = || stop() || socket::has_finished(socket);
                if gone() || !self.send(socket, &buffer[..chunk], gone)? {
                    break;
                }
                continue;
            }
            let count = match socket::read(socket, &mut buffer)? {
                Io::Moved(count) => count,
                Io::Idle => continue,
                Io::Closed => break,
            };
            self.received.fetch_add(count as u64, Relaxed);
            match behaviour {
                Behaviour::Sink => {}
                Behaviour::Source { rate_mbit } => {
                    asked = true;
                    pacer = rate_mbit.map(Pacer::new);
                }
                Behaviour::Echo => {
                    if !self.send(socket, &buffer[..count], stop)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends all of `bytes`; returns `false` if it was interrupted.
    fn send(&self, socket: &Socket, bytes: &[u8], stop: impl Fn() -> bool) -> Result<bool> {
        let mut left = bytes;
        while !left.is_empty() && !stop() {
            match socket::write(socket, left)? {
                Io::Moved(count) => {
                    self.sent.fetch_add(count as u64, Relaxed);
                    left = &left[count..];
                }
                Io::Idle => {}
                Io::Closed => break,
            }
        }
        Ok(left.is_empty())
    }
}

fn accept(listener: &Socket, behaviour: Behaviour, shared: &Arc<Shared>) -> Result<()> {
    let mut workers: Vec<Worker> = Vec::new();
    while !shared.stop.load(Relaxed) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        // Ignore the result of poll: accept tells whether there is a connection.
        let _ = poll(&mut fds, PollTimeout::from(ACCEPT_TICK_MS));
        let Ok((socket, peer)) = listener.accept() else {
            continue;
        };
        socket::prepare(&socket)?;
        let socket = Arc::new(socket);
        let connection = Arc::new(Connection {
            peer: peer.as_socket().context("a client without an address")?,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            socket: Mutex::new(Some(Arc::clone(&socket))),
            last_subflows: Mutex::default(),
        });
        lock(&shared.connections).push(Arc::clone(&connection));
        let shared = Arc::clone(shared);
        // Otherwise the stacks of all ended threads would pile up.
        reap(&mut workers)?;
        workers.push(std::thread::spawn(move || {
            let served = connection.serve(&socket, behaviour, &shared.stop);
            *lock(&connection.last_subflows) = kernel::subflows(&socket).unwrap_or_default();
            // The socket closes when its second owner, this thread, ends.
            lock(&connection.socket).take();
            served
        }));
    }
    workers.into_iter().try_for_each(join)
}

/// Joins the threads that have ended, once there are many threads.
fn reap(workers: &mut Vec<Worker>) -> Result<()> {
    if workers.len() < MANY_WORKERS {
        return Ok(());
    }
    let mut ended = workers.extract_if(.., |worker| worker.is_finished());
    ended.try_for_each(join)
}

fn join(worker: Worker) -> Result<()> {
    worker
        .join()
        .unwrap_or_else(|_| anyhow::bail!("a connection's thread has panicked"))
}
