//! Sends requests to a [`Behaviour::Echo`] server, one at a time, and measures
//! how long the responses take.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socket2::Socket;

use super::lock;
use super::running::{self, Running};
use super::socket::{self, Io, Sockets};
use crate::host::Host;
use crate::wait;

#[cfg(doc)]
use super::Behaviour;

/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The description of an exchange.
#[derive(Debug, Clone)]
pub struct RequestResponse {
    /// The size of a request and of its response, in bytes.
    pub size: usize,
    /// The time from the start of a request to the start of the next. After a
    /// request that takes longer, the next one follows at once.
    pub interval: Duration,
    /// How many requests.
    pub count: usize,
    /// The time limit for a response; it is an error to take longer.
    pub limit: Duration,
    /// How the client's socket is made.
    pub sockets: Sockets,
}

/// A running exchange. Dropping it stops it.
pub type Exchange = Running<Progress, Latencies>;

/// How far an exchange has come.
#[derive(Debug, Default)]
pub struct Progress {
    responses: AtomicU64,
    /// The size of a burst that replaces the next request; 0 for none.
    burst: AtomicUsize,
    stop: AtomicBool,
    /// The latencies of the responses so far.
    samples: Mutex<Vec<Duration>>,
    /// When the request was sent that has no response yet.
    asked: Mutex<Option<Instant>>,
}

/// The times from just before a request is written to its whole response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// The latencies, in the order of the requests.
    pub samples: Vec<Duration>,
    sorted: Vec<Duration>,
}

impl Latencies {
    /// Sorts these samples.
    pub fn new(samples: Vec<Duration>) -> Self {
        let mut sorted = samples.clone();
        sorted.sort_unstable();
        Self { samples, sorted }
    }

    /// Returns the least value that at least `percent` of the samples do not exceed
    /// (nearest rank); zero without samples.
    pub fn percentile(&self, percent: f64) -> Duration {
        // 99.9 is not exact in binary: its rounding error must not add a rank.
        let exact = percent * self.sorted.len() as f64 / 100.0;
        let rank = (exact - 1e-6).ceil() as usize;
        self.sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// Returns the median.
    pub fn p50(&self) -> Duration {
        self.percentile(50.0)
    }

    /// Returns the 99th percentile.
    pub fn p99(&self) -> Duration {
        self.percentile(99.0)
    }

    /// Returns the 99.9th percentile.
    pub fn p999(&self) -> Duration {
        self.percentile(99.9)
    }

    /// Returns the largest latency.
    pub fn max(&self) -> Duration {
        self.percentile(100.0)
    }
}

impl RequestResponse {
    /// Describes `count` requests of `size` bytes over MPTCP, one every `interval`,
    /// each with a limit of 30 s for its response.
    pub fn new(size: usize, interval: Duration, count: usize) -> Self {
        let limit = Duration::from_secs(30);
        Self {
            size,
            interval,
            count,
            limit,
            sockets: Sockets::default(),
        }
    }

    /// Connects from `host` to `server` and starts.
    pub fn start(&self, host: &Host, server: SocketAddr) -> Result<Exchange> {
        ensure!(self.size > 0, "a request has at least one byte");
        let (this, socket) = (self.clone(), self.sockets.connect(host, server, CONNECT)?);
        Ok(Running::start(socket, move |socket, progress| {
            this.run(socket, progress)
        }))
    }

    /// Connects, runs the exchange and waits for its end.
    pub fn run_to_end(&self, host: &Host, server: SocketAddr) -> Result<Latencies> {
        self.start(host, server)?.finish()
    }

    fn run(&self, socket: &Socket, progress: &Progress) -> Result<Latencies> {
        let request = vec![b'.'; self.size];
        let mut response = vec![0; self.size];
        let mut next = Instant::now();
        let mut number = 0;
        while number < self.count && !progress.stop.load(Relaxed) {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            *lock(&progress.asked) = Some(start);
            next = (next + self.interval).max(start);
            let done = || progress.stop.load(Relaxed) || start.elapsed() > self.limit;
            let whole = match progress.burst.swap(0, Relaxed) {
                0 => {
                    socket::write_all(socket, &request, done)?
                        && read_all(socket, &mut response, done)?
                }
                bytes => burst(socket, bytes, done)?,
            };
            if !whole {
                ensure!(
                    progress.stop.load(Relaxed),
                    "no response {number} in {:?}",
                    self.limit
                );
                break;
            }
            lock(&progress.samples).push(start.elapsed());
            *lock(&progress.asked) = None;
            progress.responses.fetch_add(1, Relaxed);
            number += 1;
        }
        Ok(Latencies::new(std::mem::take(&mut lock(&progress.samples))))
    }
}

/// Reads until the buffer is full; returns whether it is.
fn read_all(socket: &Socket, buffer: &mut [u8], done: impl Fn() -> bool) -> Result<bool> {
    let mut read = 0;
    while read < buffer.len() {
        match socket::read(socket, &mut buffer[read..])? {
            Io::Moved(count) => read += count,
            Io::Idle if done() => return Ok(false),
            Io::Idle => {}
            Io::Closed => anyhow::bail!("the server has closed"),
        }
    }
    Ok(true)
}

/// Sends `bytes` bytes and reads as many back; returns whether all came. The
/// server sends while it reads, so this end must read while it sends.
fn burst(socket: &Socket, bytes: usize, done: impl Fn() -> bool) -> Result<bool> {
    let chunk = [b'+'; 16 * 1024];
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64 * 1024];
    let (mut written, mut read) = (0, 0);
    while written < bytes && !done() {
        let more = chunk.len().min(bytes - written);
        if let Io::Moved(count) = socket::write(socket, &chunk[..more])? {
            written += count;
        }
        while let Ok(count @ 1..) = socket.recv_with_flags(&mut buffer, libc::MSG_DONTWAIT) {
            read += count;
        }
    }
    let mut rest = vec![0; bytes - read];
    Ok(written == bytes && read_all(socket, &mut rest, done)?)
}

impl running::Progress for Progress {
    fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

impl Exchange {
    /// Replaces the next request by one of `bytes` bytes, which the server sends
    /// back.
    pub fn burst(&self, bytes: usize) {
        self.progress.burst.store(bytes, Relaxed);
    }

    /// Returns the number of responses so far.
    pub fn responses(&self) -> u64 {
        self.progress.responses.load(Relaxed)
    }

    /// Returns the latencies of the responses from number `first` on.
    pub fn latencies_from(&self, first: u64) -> Vec<Duration> {
        let samples = lock(&self.progress.samples);
        samples.get(first as usize..).unwrap_or_default().to_vec()
    }

    /// Returns for how long the current response has been awaited.
    pub fn waiting(&self) -> Option<Duration> {
        lock(&self.progress.asked).map(|asked| asked.elapsed())
    }

    /// Waits until there have been `count` responses.
    pub fn wait_for_responses(&self, count: u64, within: Duration) -> Result<()> {
        wait::try_until(&format!("{count} responses"), within, || {
            match self.responses() {
                now if now >= count => Ok(()),
                now => Err(now),
            }
        })
    }

    /// Sends no further requests; the connection stays open and becomes idle.
    pub fn rest(&self) {
        self.progress.stop.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let latencies = Latencies::new((1..=1000).rev().map(Duration::from_micros).collect());
        assert_eq!(latencies.p50(), Duration::from_micros(500));
        assert_eq!(latencies.p99(), Duration::from_micros(990));
        assert_eq!(latencies.p999(), Duration::from_micros(999));
        assert_eq!(latencies.max(), Duration::from_micros(1000));
        assert_eq!(Latencies::new(Vec::new()).p99(), Duration::ZERO);
    }
}
