//! Links: live paths between two hosts.
//!
//! A path without a delay is a veth pair with a TBF on both ends, so the
//! sender's stack notices the queue (TCP small queues work), and TCP knows at once
//! which packets do not fit. With [`Path::modem`] the TBF is on a bridge between the
//! hosts, and packets that do not fit are lost. A path with a delay is a
//! user-space link over two TUN devices ([`delay`]). The sender does not see its
//! queue either.
//!
//! Loss and blackholes act on the wire: after all tc programs of the sender and
//! before all tc programs of the receiver. So a program copies a packet to
//! another path before the original is lost; a wrapped packet is lost as a
//! whole; and a packet that a receiver unwraps is not lost a second time. (A
//! netdev chain of nftables would see packets before the sender's programs, or
//! after the receiver's.) On veth links a filter at the end of the sender's
//! clsact egress drops packets, before the queue. On delay links the link's own
//! thread drops them, after the queue, with a random generator seeded by the
//! path's number. A veth link carries segments of up to 64 KiB (GSO), and loss
//! drops whole segments; [`Path::no_gso`] makes them packets of MTU size.

pub mod delay;
mod path;
pub mod shaper;
mod stacked;
mod tun;
mod veth;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

pub use delay::{DelayLink, LaneStats};
pub use path::{Family, Path};
pub use stacked::Over;

use crate::host::Host;
use veth::{Impairment, Queue};

/// The direction of packets on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
    /// Both directions.
    Both,
}

impl Direction {
    /// Returns indices into pairs of (up, down).
    fn indices(self) -> &'static [usize] {
        match self {
            Self::Up => &[0],
            Self::Down => &[1],
            Self::Both => &[0, 1],
        }
    }
}

/// A live path between two hosts.
#[derive(Debug)]
pub struct Link {
    /// The device's name, the same on both hosts.
    pub name: String,
    /// The address on the client's end.
    pub client_addr: IpAddr,
    /// The address on the server's end.
    pub server_addr: IpAddr,
    /// The path's number in its lab, from 1. It is part of the addresses, and of
    /// the number of the client's routing table [`Link::table`].
    pub number: u8,
    client: Host,
    server: Host,
    path: Path,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A veth pair, or devices over one: each has the queue and the impairment of
    /// each direction (up, down).
    Veth(Box<[Queue; 2]>, Mutex<[Impairment; 2]>),
    Delay(Arc<DelayLink>),
}

impl Link {
    pub(crate) fn create(client: &Host, server: &Host, path: Path, number: u8) -> Result<Self> {
        path.check()?;
        let kind = if path.delay.is_zero() {
            let queues = veth::create(client, server, &path)?;
            Kind::Veth(Box::new(queues), Mutex::default())
        } else {
            Kind::Delay(Arc::new(DelayLink::start(
                client,
                server,
                &path,
                u64::from(number),
            )?))
        };
        Self::of_kind(client, server, path, number, kind)
    }

    /// Makes a link whose devices are on top of those of `parent`.
    pub(crate) fn create_over(parent: &Self, over: Over, path: Path, number: u8) -> Result<Self> {
        path.check()?;
        ensure!(
            path.delay.is_zero() && path.rate_mbit.is_none() && path.gso,
            "the delay, the rate and the packets of {} are those of {}",
            path.name,
            parent.name
        );
        stacked::create(parent, over, &path.name)?;
        let queues = [&parent.client, &parent.server].map(|host| Queue::on(host, &path));
        let kind = Kind::Veth(Box::new(queues), Mutex::default());
        Self::of_kind(&parent.client, &parent.server, path, number, kind)
    }

    fn of_kind(client: &Host, server: &Host, path: Path, number: u8, kind: Kind) -> Result<Self> {
        let (client_addr, server_addr) = path.family.addresses(number);
        let link = Self {
            name: path.name.clone(),
            client_addr,
            server_addr,
            number,
            client: client.clone(),
            server: server.clone(),
            path,
            kind,
        };
        link.configure()?;
        Ok(link)
    }

    fn configure(&self) -> Result<()> {
        let (name, mtu) = (&self.name, self.path.mtu);
        let length = self.path.family.prefix_len();
        for (host, addr) in [
            (&self.client, self.client_addr),
            (&self.server, self.server_addr),
        ] {
            let nodad = if addr.is_ipv6() { "nodad" } else { "" };
            // No link-local address: the traffic for it would disturb counters.
            host.run(&format!(
                "ip link set dev {name} mtu {mtu} addrgenmode none"
            ))?;
            host.run(&format!("ip addr add {addr}/{length} dev {name} {nodad}"))?;
            host.run(&format!("ip link set dev {name} up"))?;
        }
        let (ip, table, from) = (ip_of(self.client_addr), self.table(), self.client_addr);
        self.client.run(&format!(
            "{ip} rule add from {from} lookup {table} priority {table}"
        ))?;
        self.route()
    }

    /// Routes packets from the client's address through this device.
    fn route(&self) -> Result<()> {
        let (ip, table, via) = (ip_of(self.client_addr), self.table(), self.server_addr);
        let name = &self.name;
        self.client
            .run(&format!(
                "{ip} route replace default via {via} dev {name} table {table}"
            ))
            .map(drop)
    }

    /// Returns the number of the client's routing table (and rule) for this path.
    pub fn table(&self) -> u32 {
        1000 + u32::from(self.number)
    }

    /// Changes the rate, in Mbit/s. A TBF keeps the packets in its queue.
    pub fn set_rate_mbit(&self, direction: Direction, rate_mbit: f64) -> Result<()> {
        ensure!(rate_mbit > 0.0, "a rate of {rate_mbit} Mbit/s");
        for &index in direction.indices() {
            match &self.kind {
                Kind::Veth(queues, _) => queues[index].set_rate(&self.path, rate_mbit)?,
                Kind::Delay(link) => link.lane(index).set_rate_mbit(rate_mbit),
            }
        }
        Ok(())
    }

    /// Drops `percent` of the packets at random (steps of 0.01).
    pub fn set_loss(&self, direction: Direction, percent: f64) -> Result<()> {
        ensure!((0.0..=100.0).contains(&percent), "a loss of {percent} %");
        self.impair(
            direction,
            |impairment| impairment.set_loss(percent),
            |lane| {
                lane.set_loss(percent);
            },
        )
    }

    /// Drops everything while `on`. The devices stay up and get no notice.
    pub fn blackhole(&self, direction: Direction, on: bool) -> Result<()> {
        self.impair(
            direction,
            |impairment| impairment.blackhole = on,
            |lane| lane.blackhole(on),
        )
    }

    fn impair(
        &self,
        direction: Direction,
        mut on_veth: impl FnMut(&mut Impairment),
        mut on_lane: impl FnMut(&delay::Lane),
    ) -> Result<()> {
        for &index in direction.indices() {
            match &self.kind {
                Kind::Veth(_, impairments) => {
                    let mut all = impairments.lock().unwrap_or_else(PoisonError::into_inner);
                    on_veth(&mut all[index]);
                    veth::impair(self.sender(index), &self.name, all[index])?;
                }
                Kind::Delay(link) => on_lane(link.lane(index)),
            }
        }
        Ok(())
    }

    /// Sets the client's device down, as when Wi-Fi is switched off.
    pub fn down(&self) -> Result<()> {
        self.client
            .run(&format!("ip link set dev {} down", self.name))
            .map(drop)
    }

    /// Sets the client's device up again and restores its route.
    pub fn up(&self) -> Result<()> {
        self.client
            .run(&format!("ip link set dev {} up", self.name))?;
        self.route()
    }

    /// Takes the address from the client's device, as when a lease ends.
    pub fn remove_client_addr(&self) -> Result<()> {
        let (addr, length) = (self.client_addr, self.path.family.prefix_len());
        self.client
            .run(&format!("ip addr del {addr}/{length} dev {}", self.name))
            .map(drop)
    }

    /// Returns the counters of a delay link in one direction.
    ///
    /// # Errors
    /// The link is a veth link, which counts nothing, or `direction` is
    /// [`Direction::Both`].
    pub fn stats(&self, direction: Direction) -> Result<LaneStats> {
        let Kind::Delay(link) = &self.kind else {
            anyhow::bail!("{} is a veth link", self.name)
        };
        let [index] = direction.indices() else {
            anyhow::bail!("one direction at a time")
        };
        Ok(link.lane(*index).stats())
    }

    /// Returns the CPU time that a delay link's threads have used; zero for a veth
    /// link.
    pub fn cpu_time(&self) -> Result<std::time::Duration> {
        match &self.kind {
            Kind::Veth(..) => Ok(std::time::Duration::ZERO),
            Kind::Delay(link) => link.cpu_time().context("CPU time of a delay link"),
        }
    }

    pub(crate) fn delay_link(&self) -> Option<Arc<DelayLink>> {
        match &self.kind {
            Kind::Veth(..) => None,
            Kind::Delay(link) => Some(Arc::clone(link)),
        }
    }

    /// Returns the host that sends in the direction of `index`.
    fn sender(&self, index: usize) -> &Host {
        if index == 0 {
            &self.client
        } else {
            &self.server
        }
    }
}

/// Returns the `ip` command for an address's family.
pub(crate) fn ip_of(addr: IpAddr) -> &'static str {
    if addr.is_ipv6() { "ip -6" } else { "ip -4" }
}
