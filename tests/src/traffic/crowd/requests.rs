//! Sends requests on all connections when they are due, and measures how long
//! the responses take.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollFlags};
use socket2::Socket;

use crate::traffic::poller::{self, Events};
use crate::traffic::socket::{self, Io};

/// Where a connection stands.
struct Turn {
    /// When the next request is due.
    due: Instant,
    /// When the request was sent that has no whole response yet.
    sent: Option<Instant>,
    /// Bytes of that response so far.
    got: usize,
}

/// Sends requests of `size` bytes until `stop` returns true, and passes each
/// latency to `answered`.
pub(super) fn run(
    sockets: &[Socket],
    epoll: &Epoll,
    size: usize,
    interval: Duration,
    answered: impl Fn(Duration),
    stop: impl Fn() -> bool,
) -> Result<()> {
    ensure!(size > 0, "a request has at least one byte");
    let (start, step) = (Instant::now(), interval / sockets.len().max(1) as u32);
    let mut turns = Vec::new();
    for (number, socket) in sockets.iter().enumerate() {
        poller::add(epoll, socket, number as u64, EpollFlags::EPOLLIN)?;
        turns.push(Turn {
            due: start + step * number as u32,
            sent: None,
            got: 0,
        });
    }
    let (request, mut buffer) = (vec![b'.'; size], vec![0; size]);
    let mut events = Events::default();
    while !stop() {
        let pause = send_due(sockets, &mut turns, &request, interval)?;
        for number in events.wait(epoll, pause)? {
            let (socket, turn) = (&sockets[number as usize], &mut turns[number as usize]);
            match socket::read(socket, &mut buffer)? {
                Io::Moved(count) => turn.got += count,
                Io::Idle => {}
                Io::Closed => bail!("the server has closed connection {number}"),
            }
            if turn.got >= size {
                turn.got -= size;
                answered(turn.sent.take().map_or(Duration::ZERO, |at| at.elapsed()));
            }
        }
    }
    Ok(())
}

/// Sends the requests that are due; returns the time until the next is.
fn send_due(
    sockets: &[Socket],
    turns: &mut [Turn],
    request: &[u8],
    interval: Duration,
) -> Result<Duration> {
    let mut pause = poller::TICK;
    for (socket, turn) in sockets.iter().zip(turns) {
        if turn.sent.is_some() {
            continue;
        }
        let now = Instant::now();
        if turn.due > now {
            pause = pause.min(turn.due - now);
            continue;
        }
        // A queue with one request in it has room for another.
        let whole = socket::write(socket, request)? == Io::Moved(request.len());
        ensure!(whole, "a request could not be sent");
        turn.sent = Some(now);
        turn.due = (turn.due + interval).max(now);
    }
    Ok(pause)
}
