//! Keeps the send queues of all connections full.

use anyhow::{Result, bail};
use nix::sys::epoll::{Epoll, EpollFlags};
use socket2::Socket;

use crate::traffic::poller::{self, Events};
use crate::traffic::socket::{self, Io};

/// How many bytes one call writes.
const BUFFER: usize = 64 * 1024;
/// How many calls in a row serve one connection while others wait.
const TURN: usize = 4;

/// Writes wherever there is room, until `stop` returns true.
pub(super) fn run(sockets: &[Socket], epoll: &Epoll, stop: impl Fn() -> bool) -> Result<()> {
    for (number, socket) in sockets.iter().enumerate() {
        poller::add(epoll, socket, number as u64, EpollFlags::EPOLLOUT)?;
    }
    let buffer = vec![0; BUFFER];
    let mut events = Events::default();
    while !stop() {
        for number in events.wait(epoll, poller::TICK)? {
            for _ in 0..TURN {
                match socket::write(&sockets[number as usize], &buffer)? {
                    Io::Moved(_) => {}
                    Io::Idle => break,
                    Io::Closed => bail!("the server has closed connection {number}"),
                }
            }
        }
    }
    Ok(())
}
