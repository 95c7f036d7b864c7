//! The description of a path before it is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};

/// The longest name that a Linux device can have.
const NAME_MAX: usize = 15;
/// The smallest queue, in packets of MTU size.
const QUEUE_MIN_PACKETS: u64 = 10;
/// The default queue of a path whose round-trip time is less than this.
const QUEUE_DEFAULT: Duration = Duration::from_millis(50);

/// A veth link's rate counts the Ethernet header too.
const ETHERNET_HEADER: u32 = 14;
/// TCP's header with timestamps, and MPTCP's DSS option (RFC 8684, 3.3) with
/// a mapping and an acknowledgement of 64 bits each.
const TCP_HEADER: u32 = 32 + 28;

/// The family of a path's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `10.77.<n>.1` (client) and `10.77.<n>.2` (server), in a /24.
    V4,
    /// `fd77:0:0:<n>::1` and `fd77:0:0:<n>::2`, in a /64.
    V6,
}

impl Family {
    /// Returns the addresses (client, server) of path number `number`.
    pub(crate) fn addresses(self, number: u8) -> (IpAddr, IpAddr) {
        let end = |host: u8| -> IpAddr {
            match self {
                Self::V4 => Ipv4Addr::new(10, 77, number, host).into(),
                Self::V6 => Ipv6Addr::new(0xfd77, 0, 0, number.into(), 0, 0, 0, host.into()).into(),
            }
        };
        (end(1), end(2))
    }

    fn ip_header(self) -> u32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    pub(crate) fn prefix_len(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}

/// The description of a path for [`Lab::path`](crate::Lab::path). By default
/// ([`Path::new`]): IPv4, MTU 1500, no delay and no limit on the rate.
#[derive(Debug, Clone)]
pub struct Path {
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) mtu: u32,
    /// The one-way delay.
    pub(crate) delay: Duration,
    pub(crate) rate_mbit: Option<f64>,
    pub(crate) queue: Option<Duration>,
    pub(crate) gso: bool,
    pub(crate) modem: bool,
}

impl Path {
    /// Describes a path whose devices are called `name` (at most 15 bytes) on both
    /// hosts.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            family: Family::V4,
            mtu: 1500,
            delay: Duration::ZERO,
            rate_mbit: None,
            queue: None,
            gso: true,
            modem: false,
        }
    }

    /// Sets the rate in each direction, in Mbit/s of IP packets (delay links) or of
    /// Ethernet frames without their checksum (veth links).
    #[must_use]
    pub fn rate_mbit(mut self, rate_mbit: f64) -> Self {
        self.rate_mbit = Some(rate_mbit);
        self
    }

    /// Sets the delay in each direction, in milliseconds. The round-trip time of an
    /// idle path is twice that.
    #[must_use]
    pub fn delay_ms(mut self, delay_ms: f64) -> Self {
        self.delay = Duration::from_secs_f64(delay_ms / 1e3);
        self
    }

    /// Sets the family of the addresses.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Sets the MTU in bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Sets the size of the queue before the bottleneck, in milliseconds at the
    /// path's rate. The default is 50 ms or the round-trip time, whichever is more.
    /// The queue always holds at least ten packets.
    #[must_use]
    pub fn queue_ms(mut self, queue_ms: f64) -> Self {
        self.queue = Some(Duration::from_secs_f64(queue_ms / 1e3));
        self
    }

    /// Makes a veth link carry packets of MTU size, which costs CPU time. (A delay
    /// link always does.)
    #[must_use]
    pub fn no_gso(mut self) -> Self {
        self.gso = false;
        self
    }

    /// Puts the queue of a veth link into a modem between the hosts: a packet that
    /// finds it full is lost, and the sender is not told. Without a modem, the queue
    /// is on the sender's own device, and TCP knows which of its packets did not fit.
    /// After fifteen retransmissions in a row that did not fit, which take 8 s, it
    /// ends the connection (`tcp_retransmit_timer`).
    #[must_use]
    pub fn modem(mut self) -> Self {
        self.modem = true;
        self
    }

    /// Returns the device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the rate in each direction, in Mbit/s; `None` without a limit.
    pub fn rate(&self) -> Option<f64> {
        self.rate_mbit
    }

    /// Returns the highest rate of TCP payload that fits into the path's rate with
    /// full segments, in Mbit/s; `None` without a rate.
    pub fn goodput_mbit(&self) -> Option<f64> {
        let payload = self.mtu - self.family.ip_header() - TCP_HEADER;
        let is_veth = self.delay.is_zero();
        let counted = self.mtu + if is_veth { ETHERNET_HEADER } else { 0 };
        self.rate_mbit
            .map(|rate| rate * f64::from(payload) / f64::from(counted))
    }

    /// Returns the queue's size in bytes at a rate in bits per second.
    pub(crate) fn queue_bytes(&self, rate_bits_per_sec: u64) -> u64 {
        let queue = self.queue.unwrap_or(QUEUE_DEFAULT.max(self.delay * 2));
        let bytes = queue.as_secs_f64() * rate_bits_per_sec as f64 / 8.0;
        (bytes as u64).max(QUEUE_MIN_PACKETS * u64::from(self.mtu))
    }

    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            (1..=NAME_MAX).contains(&self.name.len()) && !self.name.contains(char::is_whitespace),
            "a device cannot be called {:?}",
            self.name
        );
        ensure!(
            self.rate_mbit.is_none_or(|rate| rate > 0.0),
            "the rate is not positive"
        );
        ensure!(
            self.family == Family::V4 || self.mtu >= 1280,
            "IPv6 needs an MTU of 1280"
        );
        Ok(())
    }
}

/// Converts a rate from Mbit/s to bits per second.
pub(crate) fn bits_per_sec(rate_mbit: f64) -> u64 {
    (rate_mbit * 1e6) as u64
}
