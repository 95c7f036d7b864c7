//! A TCP listener that limits the number and the lifetime of its connections.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Number of connections that are served at once. More wait in the backlog.
pub const MAX_CONNECTIONS: usize = 32;

/// How long a connection may take, from accept to the last byte.
const LIFETIME: Duration = Duration::from_secs(10);

/// Accepts at most [`MAX_CONNECTIONS`] at once, each for at most [`LIFETIME`].
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    lifetime: Duration,
}

impl Bounded {
    /// Applies the limits to a listener.
    pub fn new(listener: TcpListener) -> Self {
        Self::with_lifetime(listener, LIFETIME)
    }

    pub(super) fn with_lifetime(listener: TcpListener, lifetime: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            lifetime,
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so this always gets a permit.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // Axum's listener retries after a pause if descriptors run out.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(sleep(self.lifetime));
        (
            Connection {
                stream,
                deadline,
                _place: place,
            },
            peer,
        )
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose reads and writes fail once its time is over.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Returns the stream while there is time left, else the error to report.
    fn in_time(&mut self, cx: &mut Context<'_>) -> Result<Pin<&mut TcpStream>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Err(Error::from(ErrorKind::TimedOut));
        }
        Ok(Pin::new(&mut self.stream))
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
        self.in_time(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }
}
