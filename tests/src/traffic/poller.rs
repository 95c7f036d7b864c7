//! Waits for many sockets in one thread.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use socket2::Socket;

/// The longest wait. All loops check their stop flag at least this often.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// How many sockets one wait reports at most.
const BATCH: usize = 64;

/// The sockets of the last wait.
pub(super) struct Events([EpollEvent; BATCH]);

impl Default for Events {
    fn default() -> Self {
        Self([EpollEvent::empty(); BATCH])
    }
}

impl Events {
    /// Waits for sockets to become ready, up to `within` (rounded up to whole
    /// milliseconds), and returns their numbers.
    pub(super) fn wait(
        &mut self,
        epoll: &Epoll,
        within: Duration,
    ) -> Result<impl Iterator<Item = u64> + use<>> {
        let millis = within.min(TICK).as_micros().div_ceil(1000) as u8;
        let count = match epoll.wait(&mut self.0, EpollTimeout::from(millis)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        Ok(self.0.into_iter().take(count).map(|event| event.data()))
    }
}

/// Adds a socket under a number; its events are reported as long as they last.
pub(super) fn add(epoll: &Epoll, socket: &Socket, number: u64, on: EpollFlags) -> Result<()> {
    let event = EpollEvent::new(on, number);
    epoll.add(socket, event).context("EPOLL_CTL_ADD")
}

/// Changes the events for which a socket is reported.
pub(super) fn change(epoll: &Epoll, socket: &Socket, number: u64, on: EpollFlags) -> Result<()> {
    let mut event = EpollEvent::new(on, number);
    epoll.modify(socket, &mut event).context("EPOLL_CTL_MOD")
}
