//! Reads one of the port's sockets, and forwards messages to the agent's loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use mptcp_api::hello;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::gate::Gate;
use super::socket::{self, Received};
use crate::kernel::monotonic_ns;

/// Totals of the datagrams that the listeners dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Datagrams that are no messages of the agents' protocol.
    pub malformed: AtomicU64,
    /// Datagrams that came too fast, or found the queue full.
    pub too_many: AtomicU64,
}

/// Forwards the datagrams that arrive on `socket` and that `gate` admits.
pub async fn listen(
    socket: UdpSocket,
    sender: mpsc::Sender<Received>,
    mut gate: Gate,
    dropped: Arc<Dropped>,
) -> Result<()> {
    loop {
        let received = socket.async_io(Interest::READABLE, || socket::receive(&socket));
        let received = match received.await {
            Ok(Some(received)) => received,
            // The kernel did not say to which address it was sent.
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!("cannot read the UDP port: {error}");
                continue;
            }
        };
        let payload = &received.payload;
        if !hello::may_be_a_message(payload) && !hello::may_have_a_block(payload) {
            dropped.malformed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (free, places) = (sender.capacity(), sender.max_capacity());
        let admitted = gate.admits(&received.remote, free, places, monotonic_ns());
        match admitted.then(|| sender.try_send(received)) {
            Some(Ok(())) => {}
            None | Some(Err(mpsc::error::TrySendError::Full(_))) => {
                dropped.too_many.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) => bail!("nobody reads the UDP port"),
        }
    }
}
