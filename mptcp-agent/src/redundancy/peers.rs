//! Peer discovery: finds the hosts that run an agent too and know our
//! connections.
//!
//! ```text
//!  client of a connection                     its server
//!    hello (nonce c1)          ------------>    HMAC right?
//!    channel is proven            <------------  answer (echo c1, nonce s1)
//!    hello (echo s1, nonce c2) ------------>  channel is proven
//!    settled                   <------------  settled (echo c2, nonce s2)
//!    hello each 500 ms, by one subflow of the channel, answered likewise
//! ```
//!
//! Each subflow is proven by itself, and that also proves the channel between
//! its addresses. From then on, one hello at a time keeps the channel alive for
//! all subflows on it. The client asks, since it may be behind a NAT. The
//! server answers only hellos whose HMAC is right, to the address they came
//! from. A nonce is good once, for one subflow, from the address that it was
//! sent to.
//!
//! Pure: no socket, no clock, no source of random numbers. The cost of a
//! datagram or a timer grows only with the logarithm of the number of
//! connections, and with the number of subflows of one connection.

mod asking;
mod changes;
mod channels;
mod connections;
mod hearing;
mod nonces;
mod quality;
mod report;
mod schedule;
mod wishing;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;

use mptcp_common::abi::{
    Tuple,
    redundant::{Carrier, Carriers, ChannelKey, Traffic},
};
use mptcp_common::address::{address, octets};

pub use changes::Change;
pub use report::{Counts, Hellos, Notice};
pub use wishing::{Heard, Own, Reply};

use changes::Changes;
use channels::Channels;
use connections::{Connection, Connections};
use report::Report;
use schedule::{Schedule, Timer};
use wishing::Wishing;

/// Settings that do not change while the agent runs.
#[derive(Clone)]
pub struct Settings {
    /// Random, not 0: identifies this agent until it ends.
    pub agent_id: u64,
    /// `--redundant-port`, the same for this agent and its peers.
    pub port: u16,
    /// Content of `--redundant-key`; empty: none.
    pub key: Vec<u8>,
}

/// A connection as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its address in the kernel: its key in `CONNECTIONS`.
    pub key: u64,
    /// Whether this host accepted it.
    pub server: bool,
    /// Token of this end (RFC 8684, 3.2).
    pub token: u32,
    /// Key of this end (RFC 8684, 3.1), host order.
    pub local_key: u64,
    /// The peer's key, host order.
    pub remote_key: u64,
}

/// A subflow as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubflowInfo {
    /// Its socket's cookie.
    pub cookie: u64,
    /// [`ConnectionInfo::key`].
    pub connection: u64,
    /// Addresses, ports, and address ids if flagged as known.
    pub tuple: Tuple,
    /// The device that carries it; 0: not known.
    pub ifindex: u32,
    /// Index of its path.
    pub path: u32,
}

/// A datagram to send from this agent's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its source address.
    pub from: IpAddr,
    /// The device that it leaves by; 0: the one that the route says.
    pub ifindex: u32,
    /// Its destination.
    pub to: SocketAddr,
    /// An encoded message.
    pub payload: Vec<u8>,
}

/// The state of peer discovery. All times are of CLOCK_MONOTONIC, nanoseconds.
pub struct Peers {
    id: NonZeroU64,
    port: u16,
    key: Vec<u8>,
    random: Box<dyn FnMut() -> u64 + Send>,
    traffic: Box<dyn Fn(u32) -> Traffic + Send>,
    connections: Connections,
    channels: Channels,
    schedule: Schedule,
    changes: Changes,
    report: Report,
    /// The addresses between which subflows without a channel send hellos, and
    /// the number of these subflows.
    asking: HashMap<ChannelKey, usize>,
    /// Number of connections that were kept after they closed, so far.
    retired: u64,
    /// The wishes, and who has them, if these peers are not for copies but for wishes:
    /// messages have a block then (version 3).
    wishing: Option<Wishing>,
}

/// Keys of connections that are over begin here: these are no kernel addresses.
const RETIRED: u64 = 1 << 62;

impl Peers {
    /// Starts without peers. `random` returns numbers that nobody can predict.
    #[must_use]
    pub fn new(settings: Settings, mut random: impl FnMut() -> u64 + Send + 'static) -> Self {
        let channels = Channels::new(settings.port, random());
        Self {
            id: NonZeroU64::new(settings.agent_id).unwrap_or(NonZeroU64::MIN),
            port: settings.port,
            key: settings.key,
            random: Box::new(random),
            traffic: Box::new(|_| Traffic::default()),
            connections: Connections::default(),
            channels,
            schedule: Schedule::default(),
            changes: Changes::default(),
            report: Report::default(),
            asking: HashMap::new(),
            retired: 0,
            wishing: None,
        }
    }

    /// Reads the kernel's counters of a channel, by its index, with `traffic`.
    pub fn count_by(&mut self, traffic: impl Fn(u32) -> Traffic + Send + 'static) {
        self.traffic = Box::new(traffic);
    }

    /// Adds a connection; its subflows follow. Ignored while one of its keys or
    /// its token is 0 (not known yet). If another connection had the same
    /// address in the kernel, that one is gone and is forgotten.
    pub fn connection(&mut self, info: ConnectionInfo) {
        if info.token == 0 || info.local_key == 0 || info.remote_key == 0 {
            return;
        }
        match self.connections.get(info.key) {
            Some(known) if known.info == info => return,
            Some(known) => {
                for cookie in known.subflows.clone() {
                    self.forget(cookie);
                }
                self.forget_connection(info.key);
            }
            None => {}
        }
        self.connections.add(info);
    }

    /// Returns whether [`Peers::connection`] accepted this connection.
    #[must_use]
    pub fn knows(&self, connection: u64) -> bool {
        self.connections.get(connection).is_some()
    }

    /// Adds a subflow that opened, or updates its device or ids. Ignored if its
    /// connection is not known.
    pub fn subflow(&mut self, info: SubflowInfo, now_ns: u64) {
        let Some(connection) = self.connections.get(info.connection) else {
            return;
        };
        let server = connection.info.server;
        if let Some(known) = self.connections.subflow_mut(info.cookie) {
            if known.connection == info.connection && same_ends(&known.tuple, &info.tuple) {
                known.tuple = info.tuple;
                known.ifindex = info.ifindex;
                known.path = info.path;
                if let Some(channel) = known.channel
                    && info.ifindex != 0
                {
                    self.channels
                        .set_device(channel, info.ifindex, &mut self.changes);
                }
                return;
            }
            // The kernel never reuses a cookie, but events may have been lost.
            self.forget(info.cookie);
        }
        if self.connections.add_subflow(&info).is_none() {
            return;
        }
        if server {
            // The client speaks first. If it does not in time, report that.
            // Nobody has to make a wish.
            if self.wishing.is_some() {
                return;
            }
            let late = now_ns.saturating_add(schedule::NO_AGENT_AFTER);
            self.schedule.set(Timer::Subflow(info.cookie), Some(late));
        } else if self.wishing.as_ref().is_none_or(Wishing::asks) {
            self.start_asking(info.cookie, now_ns);
        }
    }

    /// Removes a subflow that closed. A connection goes with its last subflow.
    /// The last subflow of a channel is kept for a while, so that the channel
    /// is still there for the next connection.
    pub fn closed(&mut self, cookie: u64, now_ns: u64) {
        let Some(subflow) = self.connections.subflow(cookie) else {
            return;
        };
        let key = subflow.connection;
        if !self.linger(cookie, now_ns) {
            self.forget_entirely(cookie);
            if self.connections.get(key).is_none() {
                return;
            }
        }
        self.publish(key);
        if self.connections.is_over(key) {
            self.retired += 1;
            self.connections.retire(key, RETIRED + self.retired);
        }
    }

    /// Keeps a closed subflow if it is the last one of its channel, and returns
    /// whether it did.
    fn linger(&mut self, cookie: u64, now_ns: u64) -> bool {
        let Some(subflow) = self.connections.subflow(cookie) else {
            return false;
        };
        let Some(channel) = subflow.channel else {
            return false;
        };
        let time = if self.connections.is_client_of(subflow.connection) {
            schedule::LINGER
        } else {
            schedule::LINGER_SERVER
        };
        if !self
            .channels
            .linger(channel, cookie, now_ns.saturating_add(time))
        {
            return false;
        }
        if let Some(subflow) = self.connections.subflow_mut(cookie) {
            subflow.closed = true;
            if subflow.view.is_some() {
                self.changes.view(cookie, None);
            }
        }
        self.schedule.set(Timer::Subflow(cookie), None);
        self.reschedule(channel);
        true
    }

    /// Returns the time at which [`Peers::due`] has something to do next.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.schedule.next_ns()
    }

    /// Returns the changes of the kernel's maps since the last call. They must
    /// be written in this order.
    pub fn changes(&mut self) -> Vec<Change> {
        self.changes.take()
    }

    /// Returns the figures for the metrics. Costs as many steps as there are
    /// channels.
    #[must_use]
    pub fn counts(&self, now_ns: u64) -> Counts {
        let mut counts = Counts {
            hellos: self.report.hellos,
            crowded: self.report.crowded,
            ..Counts::default()
        };
        let mut proven = HashSet::new();
        for channel in self.channels.iter().filter(|channel| !channel.replaced) {
            if channel.expires_ns > now_ns {
                counts.proven += 1;
                proven.insert(channel.road);
            } else {
                counts.silent += 1;
            }
        }
        let refused = self.report.refused_lately(now_ns);
        counts.refused = refused.difference(&proven).count() as u64;
        let asking = self.asking.keys();
        counts.asking = asking
            .filter(|road| !self.channels.leads_to_a_peer(road) && !refused.contains(road))
            .count() as u64;
        counts
    }

    /// Returns the devices by which a peer is silent that answers by another
    /// one, and by which no peer answers. A peer that is silent everywhere has
    /// ended, whatever the devices do. Costs as many steps as there are channels.
    pub fn silent_devices(&self, now_ns: u64) -> BTreeSet<u32> {
        let known = || {
            let channels = self.channels.iter();
            channels.filter(|channel| !channel.replaced && channel.ifindex != 0)
        };
        let answers = |channel: &&channels::Channel| channel.expires_ns > now_ns;
        let present: HashSet<u64> = known().filter(answers).map(|one| one.peer).collect();
        let in_use: HashSet<u32> = known().filter(answers).map(|one| one.ifindex).collect();
        let silent = known().filter(|channel| !answers(channel));
        silent
            .filter(|one| present.contains(&one.peer) && !in_use.contains(&one.ifindex))
            .map(|one| one.ifindex)
            .collect()
    }

    /// Returns the notices for the log since the last call.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.report.take()
    }

    /// Removes a subflow everywhere. A connection goes with its last subflow.
    fn forget_entirely(&mut self, cookie: u64) {
        let Some(connection) = self.forget(cookie) else {
            return;
        };
        let known = self.connections.get(connection);
        if known.is_some_and(|known| known.subflows.is_empty()) {
            self.forget_connection(connection);
        } else {
            self.publish(connection);
        }
    }

    /// Tells the programs that a connection has no proven peer. They may have
    /// assumed one, because of the connection's addresses.
    fn disown(&mut self, key: u64) {
        let known = self.connections.get(key);
        if known.is_some_and(|known| known.carriers.is_none()) {
            self.changes.carriers(key, None);
        }
    }

    /// Removes a subflow, but not its connection even if that has no other.
    /// Returns the connection's key.
    fn forget(&mut self, cookie: u64) -> Option<u64> {
        self.leave_channel(cookie);
        let subflow = self.connections.remove_subflow(cookie)?;
        self.schedule.set(Timer::Subflow(cookie), None);
        if self.connections.is_client_of(subflow.connection) {
            self.count_asking(subflow.road(self.port), false);
        }
        if subflow.view.is_some() {
            self.changes.view(cookie, None);
        }
        Some(subflow.connection)
    }

    fn forget_connection(&mut self, key: u64) {
        if let Some(connection) = self.connections.remove(key)
            && connection.carriers.is_some()
        {
            self.changes.carriers(key, None);
        }
    }

    /// Takes a subflow off its channel, if it has one. If this end is the
    /// client, the subflow counts as asking again.
    fn leave_channel(&mut self, cookie: u64) {
        let Some(subflow) = self.connections.subflow_mut(cookie) else {
            return;
        };
        let Some(channel) = subflow.channel.take() else {
            return;
        };
        let (road, key) = (subflow.road(self.port), subflow.connection);
        if self.connections.is_client_of(key) {
            self.count_asking(road, true);
        }
        self.channels.leave(channel, cookie, &mut self.changes);
        self.reschedule(channel);
    }

    fn count_asking(&mut self, road: ChannelKey, more: bool) {
        let count = self.asking.entry(road).or_default();
        *count = if more {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            self.asking.remove(&road);
        }
    }

    /// Sets a channel's timer anew, after something happened to the channel.
    fn reschedule(&mut self, channel: u32) {
        let due_ns = self
            .channels
            .get(channel)
            .and_then(channels::Channel::due_ns);
        self.schedule.set(Timer::Channel(channel), due_ns);
    }

    /// Publishes a connection's carriers to the kernel if they changed.
    fn publish(&mut self, key: u64) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let carriers = self.carriers(connection);
        if carriers != connection.carriers {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.carriers = carriers;
            }
            self.changes.carriers(key, carriers);
        }
    }

    fn carriers(&self, connection: &Connection) -> Option<Carriers> {
        let proven = connection.subflows.iter().filter_map(|&cookie| {
            let subflow = self.connections.subflow(cookie)?;
            let channel = subflow.channel.filter(|_| !subflow.closed)?;
            Some(Carrier {
                cookie,
                channel,
                translated: subflow.view.is_some().into(),
            })
        });
        let mut carriers = Carriers {
            peer: connection.peer,
            ..Carriers::default()
        };
        let mut any = false;
        for (place, carrier) in carriers.carriers.iter_mut().zip(proven) {
            *place = carrier;
            any = true;
        }
        any.then_some(carriers)
    }

    fn nonce(&mut self) -> NonZeroU64 {
        NonZeroU64::new((self.random)()).unwrap_or(NonZeroU64::MIN)
    }
}

/// Leaves out the shared key and the keys of connections.
impl fmt::Debug for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut peers = formatter.debug_struct("Peers");
        peers.field("port", &self.port).finish_non_exhaustive()
    }
}

/// Returns whether two tuples belong to one subflow.
fn same_ends(one: &Tuple, other: &Tuple) -> bool {
    let ends = |tuple: &Tuple| {
        (
            tuple.local,
            tuple.remote,
            tuple.local_port,
            tuple.remote_port,
        )
    };
    ends(one) == ends(other)
}
