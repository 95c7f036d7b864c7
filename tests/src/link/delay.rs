//! A link with a delay, in user space: it has two TUN devices, and for each
//! direction a thread that reads from one device and writes to the other
//! through a [`Shaper`]. A thread sleeps in `ppoll` until a packet arrives or
//! is due, with a timer slack of 1 ns and a nice value of -20. So packets are
//! only some tens of microseconds late on an idle machine.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use super::path::{Path, bits_per_sec};
use super::shaper::{Settings, Shaper};
use super::tun;
use crate::host::Host;

/// How many packets a thread reads before it delivers those that are due.
const READ_BATCH: usize = 32;
/// The transmit queue of a TUN device, in packets: large, since the link's own
/// queue is the one that should fill.
const TUN_QUEUE: u32 = 2000;

/// A link with a delay, used through [`Link`](super::Link).
#[derive(Debug)]
pub struct DelayLink {
    /// The directions: up, down.
    lanes: [Arc<Lane>; 2],
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One direction of a delay link.
#[derive(Debug)]
pub struct Lane {
    path: Path,
    /// The rate; 0 means unlimited.
    rate_bits_per_sec: AtomicU64,
    /// The loss, in units of 0.01 %.
    loss: AtomicU32,
    blackhole: AtomicBool,
    stop: AtomicBool,
    wake: EventFd,
    thread_id: AtomicI32,
    forwarded_packets: AtomicU64,
    forwarded_bytes: AtomicU64,
    queue_drops: AtomicU64,
    random_drops: AtomicU64,
    blackhole_drops: AtomicU64,
}

/// The counters of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Packets delivered.
    pub forwarded_packets: u64,
    /// Bytes delivered, IP headers included.
    pub forwarded_bytes: u64,
    /// Packets dropped because the queue was full.
    pub queue_drops: u64,
    /// Packets lost at random.
    pub random_drops: u64,
    /// Packets lost to a blackhole.
    pub blackhole_drops: u64,
}

impl DelayLink {
    pub(super) fn start(client: &Host, server: &Host, path: &Path, seed: u64) -> Result<Self> {
        let near = Arc::new(tun::create(client, &path.name)?);
        let far = Arc::new(tun::create(server, &path.name)?);
        for host in [client, server] {
            host.run(&format!(
                "ip link set dev {} txqueuelen {TUN_QUEUE}",
                path.name
            ))?;
        }
        let lanes = [Arc::new(Lane::new(path)?), Arc::new(Lane::new(path)?)];
        let mut threads = Vec::new();
        let ends = [(Arc::clone(&near), Arc::clone(&far)), (far, near)];
        for ((lane, (from, to)), way) in lanes.iter().zip(ends).zip(["up", "down"]) {
            let lane = Arc::clone(lane);
            let random = fastrand::Rng::with_seed(2 * seed + u64::from(way == "down"));
            let name = format!("{}-{way}", path.name);
            let work = move || lane.run(&from, &to, random);
            threads.push(std::thread::Builder::new().name(name).spawn(work)?);
        }
        Ok(Self {
            lanes,
            threads: Mutex::new(threads),
        })
    }

    pub(super) fn lane(&self, index: usize) -> &Lane {
        &self.lanes[index]
    }

    /// Ends both threads; the devices go with them.
    pub(crate) fn stop(&self) {
        for lane in &self.lanes {
            lane.stop.store(true, Relaxed);
            // This fails only if the counter would overflow; the thread is
            // awake then.
            let _ = lane.wake.write(1);
        }
        for thread in self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            // Ignore a panic of the lane: it was printed when it happened.
            let _ = thread.join();
        }
    }

    /// Returns the CPU time, user and system, of both threads.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for lane in &self.lanes {
            let id = lane.thread_id.load(Relaxed);
            // The first number in schedstat is nanoseconds on a CPU.
            let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat"))?;
            nanos += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for DelayLink {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Lane {
    fn new(path: &Path) -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            rate_bits_per_sec: path.rate_mbit.map_or(0, bits_per_sec).into(),
            path: path.clone(),
            loss: 0.into(),
            blackhole: false.into(),
            stop: false.into(),
            wake: EventFd::from_value_and_flags(0, flags).context("eventfd")?,
            thread_id: 0.into(),
            forwarded_packets: 0.into(),
            forwarded_bytes: 0.into(),
            queue_drops: 0.into(),
            random_drops: 0.into(),
            blackhole_drops: 0.into(),
        })
    }

    pub(super) fn set_rate_mbit(&self, rate_mbit: f64) {
        self.rate_bits_per_sec
            .store(bits_per_sec(rate_mbit), Relaxed);
    }

    pub(super) fn set_loss(&self, percent: f64) {
        self.loss.store((percent * 100.0).round() as u32, Relaxed);
    }

    pub(super) fn blackhole(&self, on: bool) {
        self.blackhole.store(on, Relaxed);
    }

    pub(super) fn stats(&self) -> LaneStats {
        LaneStats {
            forwarded_packets: self.forwarded_packets.load(Relaxed),
            forwarded_bytes: self.forwarded_bytes.load(Relaxed),
            queue_drops: self.queue_drops.load(Relaxed),
            random_drops: self.random_drops.load(Relaxed),
            blackhole_drops: self.blackhole_drops.load(Relaxed),
        }
    }

    fn settings(&self) -> Settings {
        let rate_bits_per_sec = self.rate_bits_per_sec.load(Relaxed);
        let queue_bytes = self.path.queue_bytes(rate_bits_per_sec);
        Settings {
            rate_bits_per_sec,
            delay: self.path.delay,
            queue_bytes,
        }
    }

    fn run(&self, from: &File, to: &File, mut random: fastrand::Rng) {
        self.thread_id
            .store(nix::unistd::gettid().as_raw(), Relaxed);
        be_punctual();
        let start = Instant::now();
        let mut shaper = Shaper::default();
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut readable = true;
        while !self.stop.load(Relaxed) {
            let settings = self.settings();
            for _ in 0..READ_BATCH {
                if !readable {
                    break;
                }
                match (&mut &*from).read(&mut buffer) {
                    Ok(len) => {
                        let packet = buffer[..len].to_vec();
                        if !shaper.offer(start.elapsed(), packet, &settings) {
                            self.queue_drops.fetch_add(1, Relaxed);
                        }
                    }
                    // There is no further packet, or the device is down (EIO).
                    Err(error) => readable = error.kind() == ErrorKind::Interrupted,
                }
            }
            while let Some(packet) = shaper.pop(start.elapsed(), &settings) {
                self.deliver(&packet, to, &mut random);
            }
            if !readable {
                let timeout = shaper
                    .next_event()
                    .map(|at| at.saturating_sub(start.elapsed()));
                readable = self.wait(from, timeout);
            }
        }
    }

    fn deliver(&self, packet: &[u8], mut to: &File, random: &mut fastrand::Rng) {
        let counter = if self.blackhole.load(Relaxed) {
            &self.blackhole_drops
        } else if random.u32(..10_000) < self.loss.load(Relaxed) {
            &self.random_drops
        } else {
            // A device that is down refuses the packet (EIO): it is lost, as
            // on a wire.
            let _ = to.write(packet);
            self.forwarded_bytes.fetch_add(packet.len() as u64, Relaxed);
            &self.forwarded_packets
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Waits for a packet, the timeout or [`DelayLink::stop`]. Returns whether
    /// there may be a packet.
    fn wait(&self, from: &File, timeout: Option<Duration>) -> bool {
        let packets = PollFd::new(from.as_fd(), PollFlags::POLLIN);
        let wake = PollFd::new(self.wake.as_fd(), PollFlags::POLLIN);
        let mut fds = [packets, wake];
        // The only possible error is a signal; treat it as a timeout.
        let _ = ppoll(&mut fds, timeout.map(TimeSpec::from_duration), None);
        let got = fds[0].revents().unwrap_or(PollFlags::empty());
        if got.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) {
            // The device is gone, so there is nothing left to carry.
            self.stop.store(true, Relaxed);
        }
        got.contains(PollFlags::POLLIN)
    }
}

/// Asks the kernel to wake this thread exactly on time.
fn be_punctual() {
    // Ignore errors: without these settings packets are only later.
    let _ = nix::sys::prctl::set_timerslack(1);
    let _ = rustix::process::setpriority_process(None, -20);
}
