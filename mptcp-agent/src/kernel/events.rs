//! The ring buffer, as a stream of events.

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use mptcp_common::abi::Event;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

/// Events in the order in which they happened, CPU by CPU.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Reads the ring buffer behind `map`. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// `map` is no ring buffer, or cannot be polled.
    pub(super) fn new(map: Map) -> Result<Self> {
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring buffer owns its descriptor, which stays the same and
        // open for as long as it lives, and it lives in the `AsyncFd`.
        let ring = unsafe { AsyncFd::register(ring) };
        Ok(Self {
            ring: ring.context("cannot poll the event ring buffer")?,
        })
    }

    /// Waits for the next event and returns it.
    ///
    /// # Errors
    /// The ring buffer cannot be polled.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            if let Some(item) = ready.get_inner_mut().next()
                && let Ok((event, _)) = Event::read_from_prefix(&item)
            {
                return Ok(event);
            }
            ready.clear_ready();
        }
    }
}
