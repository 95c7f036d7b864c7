//! Accepts connections for HTTP, and limits their number and their lifetime.
//!
//! ```text
//!   address       ----> a place ----> TLS, if the web configuration has it --+
//!   address       ----> a place ----> TLS                                  --+--> Bounded
//!   unix socket   ----> a place ----------------------------------------------+
//! ```
//!
//! A connection lives for [`Limits::lifetime`], unless whoever answers its request
//! makes a stream of it ([`Lease::stream`]). A stream lives on as long as its client
//! takes what it is sent: each byte that the kernel accepts buys it
//! [`Limits::stall`].
//!
//! Each listener has places of its own, so that clients that keep those of one
//! address do not keep others away from the next.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::host::Socket;
use crate::web::InForce;

/// Number of connections that each listener serves at once. More wait in the
/// backlog.
pub const MAX_CONNECTIONS: usize = 32;

/// How long connections may last.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection may take, from accept to the last byte.
    pub lifetime: Duration,
    /// How long the client of a stream may take nothing of what it is sent.
    pub stall: Duration,
    /// How long a stream lasts at most. Browsers open the next one by themselves.
    pub longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            longest: Duration::from_secs(10 * 60),
        }
    }
}

/// Says whether a connection serves a stream. The connection and whoever answers its
/// request have a copy each.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<OnceLock<Arc<AtomicU64>>>);

impl Lease {
    /// Lets the connection live on, because its answer is a stream. If it ends because
    /// its client takes nothing, `dropped` counts that.
    pub fn stream(&self, dropped: Arc<AtomicU64>) {
        // There is one request on a connection, so this is not set yet.
        let _ = self.0.set(dropped);
    }

    fn is_stream(&self) -> bool {
        self.0.get().is_some()
    }

    fn note_dropped(&self) {
        if let Some(dropped) = self.0.get() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Lease {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The connections of several listeners: at most [`MAX_CONNECTIONS`] of each at
/// once, each for a time that is limited, too.
#[derive(Debug)]
pub struct Bounded {
    ready: mpsc::Receiver<Connection>,
    /// The tasks that accept; they end with this.
    _accepting: JoinSet<()>,
}

impl Bounded {
    /// Accepts from `sockets`, which must not block. Those with a web configuration
    /// have TLS if that says so. A connection lives as long as `limits` allow.
    ///
    /// # Errors
    /// The runtime takes no further socket.
    pub fn new(sockets: Vec<(Socket, Option<InForce>)>, limits: Limits) -> Result<Self> {
        let (sender, ready) = mpsc::channel(MAX_CONNECTIONS);
        let mut accepting = JoinSet::new();
        for (socket, web) in sockets {
            let door = Door {
                web,
                limits,
                ready: sender.clone(),
            };
            match socket {
                Socket::Tcp(listener) => {
                    accepting.spawn(door.accept(TcpListener::from_std(listener)?));
                }
                Socket::Unix(listener) => {
                    accepting.spawn(door.accept(UnixListener::from_std(listener)?));
                }
            }
        }
        Ok(Self {
            ready,
            _accepting: accepting,
        })
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = Lease;

    async fn accept(&mut self) -> (Connection, Lease) {
        match self.ready.recv().await {
            Some(connection) => {
                let lease = connection.lease.clone();
                (connection, lease)
            }
            // No listener is left: there will never be a connection.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> Result<Lease> {
        Ok(Lease::default())
    }
}

/// The settings that all connections of a listener have in common.
struct Door {
    web: Option<InForce>,
    limits: Limits,
    ready: mpsc::Sender<Connection>,
}

impl Door {
    /// Accepts for ever.
    async fn accept<L>(self, mut listener: L)
    where
        L: Listener,
        L::Io: Stream + 'static,
    {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut handshakes = JoinSet::new();
        loop {
            // The semaphore is never closed, so this always gets a permit.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            // Axum's listeners retry after a pause if descriptors run out.
            let (stream, _) = listener.accept().await;
            while handshakes.try_join_next().is_some() {}
            let (limits, end) = (self.limits, Instant::now() + self.limits.lifetime);
            let web = self.web.as_ref();
            let tls = web.and_then(|web| web.borrow().tls.clone());
            let Some(tls) = tls else {
                let connection = Connection::new(Box::new(stream), limits, end, place);
                let _ = self.ready.send(connection).await;
                continue;
            };
            // A client that takes its time with the handshake keeps its place, and
            // nobody else waits for it.
            let ready = self.ready.clone();
            handshakes.spawn(async move {
                match timeout_at(end, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let connection = Connection::new(Box::new(stream), limits, end, place);
                        let _ = ready.send(connection).await;
                    }
                    Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            });
        }
    }
}

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection whose reads and writes fail once its time is over.
pub struct Connection {
    stream: Box<dyn Stream>,
    limits: Limits,
    deadline: Pin<Box<Sleep>>,
    lease: Lease,
    /// Whether the deadline is that of a stream.
    streams: bool,
    /// Whether the deadline has passed.
    over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(
        stream: Box<dyn Stream>,
        limits: Limits,
        end: Instant,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            stream,
            limits,
            deadline: Box::pin(sleep_until(end)),
            lease: Lease::default(),
            streams: false,
            over: false,
            _place: place,
        }
    }

    /// Returns the stream while there is time left, else the error to report.
    fn in_time(&mut self, cx: &mut Context<'_>) -> Result<Pin<&mut dyn Stream>> {
        if self.lease.is_stream() && !self.streams {
            self.streams = true;
            self.go_on();
        }
        // A deadline that has passed may be asked again, but counts once.
        if !self.over && self.deadline.as_mut().poll(cx).is_ready() {
            self.over = true;
            self.lease.note_dropped();
        }
        if self.over {
            return Err(Error::from(ErrorKind::TimedOut));
        }
        Ok(Pin::new(&mut *self.stream))
    }

    /// Gives a stream time until its client must have taken more.
    fn go_on(&mut self) {
        let end = Instant::now() + self.limits.stall;
        self.deadline.as_mut().reset(end);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.in_time(cx)?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = self.in_time(cx)?.poll_write(cx, bytes);
        if self.streams && matches!(written, Poll::Ready(Ok(1..))) {
            self.go_on();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }
}
