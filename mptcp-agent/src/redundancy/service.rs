//! Runs the policy: takes events, devices, datagrams and timers, and writes the
//! kernel's maps.
//!
//! It is part of the agent's loop, which owns the kernel side. One task for
//! each socket forwards what arrives on the port. When the queue to the loop is
//! full, the task drops datagrams, so that a flood costs no memory.

mod again;
mod figures;
mod subflows;
mod wishes;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mptcp_api::hello;
use mptcp_common::abi::{
    Event, event_kind,
    redundant::{Channel, ChannelKey},
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::channel_table::{self, ChannelTable};
use super::gate::{Gate, Known};
use super::listener::{Dropped, listen};
use super::output::{apply, log};
use super::peers::{Change, Datagram, Peers, Settings};
use super::ports::Ports;
use super::roster::Roster;
use super::socket::{Received, Socket, Sockets};
use super::unwritten::{Unwritten, Write};
use super::{Claim, random_nonzero};
use crate::kernel::monotonic_ns as now_ns;
use crate::kernel::{ChannelTraffic, Kernel, PAGE};
use crate::net::devices::Present;
use crate::policy;
use crate::state::paths::PathTable;
pub use wishes::Wishing;

/// Datagrams that may wait for the agent's loop.
const QUEUE: usize = 1024;

/// Time between confirmations of next hops. The kernel doubts them only after
/// seconds (`base_reachable_time_ms`, `delay_first_probe_time`).
const CONFIRM_NS: u64 = 500_000_000;

/// Time between comparisons of the roster with the kernel's maps.
const COMPARE: Duration = Duration::from_secs(5);

/// Comparing takes at most one part in this many of the loop's time.
const DUTY: u32 = 20;

/// The redundant policy's user-space side.
pub struct Service {
    peers: Peers,
    /// The peers that ask for weights, or are asked, if any do. Nothing that they
    /// prove gives them copies.
    wishing: Option<Peers>,
    /// Whether segments are copied. If not, the kernel's maps, devices and segment
    /// sizes are left alone.
    copies: bool,
    roster: Roster,
    channels: ChannelTable,
    ports: Ports,
    sockets: Vec<Socket>,
    /// When to compare next.
    compare_ns: u64,
    /// When to confirm next hops next.
    confirm_ns: u64,
    events_lost: u64,
    /// The addresses that proven peers send from.
    known: Known,
    /// The addresses that proven peers with wishes send from.
    known_wishing: wishes::KnownChannels,
    /// Datagrams that the listeners dropped.
    dropped: Arc<Dropped>,
    /// The value of `dropped.too_many` that was logged last.
    told_dropped: u64,
    /// The value of `dropped.malformed` that was logged last.
    told_malformed: u64,
    unwritten: Unwritten,
    /// Whether a failed write was logged already; reset once all are done.
    failed: bool,
    /// Sockets without a listener yet, each with the sender for what arrives.
    unheard: Vec<(UdpSocket, mpsc::Sender<Received>)>,
    /// The tasks that listen on the sockets; they end with the service.
    listeners: Vec<AbortHandle>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listeners.iter().for_each(AbortHandle::abort);
    }
}

impl Service {
    /// Takes over the claimed sockets, for [`Service::listen`] to listen on.
    /// Must be called within a tokio runtime. Without `traffic` nothing is copied.
    ///
    /// # Errors
    /// The kernel has no random numbers, or there are too many open files.
    pub fn new(
        settings: &policy::Redundant,
        claim: &Claim,
        traffic: Option<ChannelTraffic>,
        wishing: Option<Wishing>,
    ) -> Result<(Self, mpsc::Receiver<Received>)> {
        let (sender, received) = mpsc::channel(QUEUE);
        let (mut sockets, mut unheard) = (Vec::new(), Vec::new());
        for socket in &claim.sockets.sockets {
            let own = socket.try_clone().context("cannot use the UDP port")?;
            let own = UdpSocket::from_std(own.into()).context("cannot wait on the UDP port")?;
            unheard.push((own, sender.clone()));
            sockets.push(socket.try_clone().context("cannot use the UDP port")?);
        }
        let protocol = Settings {
            agent_id: random_nonzero()?,
            port: settings.port,
            key: claim.key.bytes().to_vec(),
        };
        // The kernel has just given one, and it does not run out of them.
        let random = || random_nonzero().expect("the kernel has random numbers");
        let wishing = wishing
            .map(|Wishing { own, accepts }| -> Result<Peers> {
                let protocol = Settings {
                    agent_id: random_nonzero()?,
                    ..protocol.clone()
                };
                Ok(Peers::for_wishes(protocol, own, accepts, random))
            })
            .transpose()?;
        let mut peers = Peers::new(protocol, random);
        let copies = traffic.is_some();
        if let Some(traffic) = traffic {
            peers.count_by(move |channel| traffic.get(channel));
        }
        let service = Self {
            peers,
            wishing,
            copies,
            roster: Roster::default(),
            channels: ChannelTable::default(),
            ports: Ports::new(settings),
            sockets,
            compare_ns: 0,
            confirm_ns: 0,
            events_lost: 0,
            known: Known::default(),
            known_wishing: wishes::KnownChannels::default(),
            dropped: Arc::default(),
            told_dropped: 0,
            told_malformed: 0,
            unwritten: Unwritten::default(),
            failed: false,
            unheard,
            listeners: Vec::new(),
        };
        Ok((service, received))
    }

    /// Starts the tasks that listen on the sockets, in `tasks`.
    pub fn listen(&mut self, tasks: &mut JoinSet<Result<()>>) {
        for (socket, sender) in self.unheard.drain(..) {
            let known = [self.known.clone(), self.known_wishing.addresses()];
            let gate = Gate::new(known.into());
            let listener = listen(socket, sender, gate, Arc::clone(&self.dropped));
            self.listeners.push(tasks.spawn(listener));
        }
    }

    /// Returns handles to the sockets on the policy's port, for a successor.
    ///
    /// # Errors
    /// Too many open files.
    pub fn sockets(&self) -> Result<Sockets> {
        let clones = self.sockets.iter().map(Socket::try_clone);
        let sockets = clones.collect::<Result<_, _>>();
        let sockets = sockets.context("cannot use the UDP port")?;
        Ok(Sockets { sockets })
    }

    /// Changes the settings, except port and key: peers were proven with them.
    pub fn set(&mut self, settings: &policy::Redundant) {
        self.ports.set_settings(settings);
    }

    /// Takes the devices that exist now.
    pub fn follow(&mut self, present: Present, table: &PathTable, kernel: &mut Kernel) {
        self.ports.set(present, table);
        self.update(kernel);
    }

    /// Handles an event: a subflow opened, closed or changed.
    pub fn on_event(&mut self, event: &Event, kernel: &mut Kernel) {
        let now_ns = now_ns();
        let cookie = event.cookie;
        match event.kind {
            event_kind::OPENED => {
                // The kernel reuses the addresses of connections. If subflows
                // are left at this one, the events of their end were lost.
                for other in self.roster.cookies(event.connection) {
                    if other != cookie {
                        self.close(other, now_ns);
                    }
                }
                self.see(cookie, event.into(), now_ns, kernel);
            }
            event_kind::JOINED => self.see(cookie, event.into(), now_ns, kernel),
            event_kind::SUBFLOW_CLOSED | event_kind::FALLBACK => self.close(cookie, now_ns),
            _ => return,
        }
        self.look_up(now_ns, kernel);
        self.speak(now_ns);
        self.write(kernel);
    }

    /// Handles a datagram that arrived on the port.
    pub fn on_datagram(&mut self, received: &Received, kernel: &mut Kernel) {
        let Received {
            payload,
            local,
            remote,
            ifindex,
        } = received;
        let now_ns = now_ns();
        let peers = match &mut self.wishing {
            Some(wishing) if hello::may_have_a_block(payload) => wishing,
            _ => &mut self.peers,
        };
        let answer = peers.receive(payload, *local, *remote, *ifindex, now_ns);
        // The answer lets the peer send copies, so the maps must be ready
        // first.
        self.write(kernel);
        if let Some(answer) = answer {
            self.send(&answer);
        }
        self.speak(now_ns);
        self.write(kernel);
    }

    /// Takes the number of events lost so far. If it has changed, the next
    /// timer compares the roster with the maps.
    pub fn on_lost(&mut self, events_lost: u64) {
        if self.events_lost != events_lost {
            (self.events_lost, self.compare_ns) = (events_lost, 0);
        }
    }

    /// Returns the time at which [`Service::on_timer`] has something to do.
    pub fn due(&self) -> Instant {
        let wishing = self.wishing.as_ref();
        let due_ns = [
            self.peers.next_due_ns(),
            wishing.and_then(Peers::next_due_ns),
            self.roster.next_due_ns(),
            self.unwritten.due_ns(),
        ]
        .into_iter()
        .flatten()
        .fold(self.compare_ns.min(self.confirm_ns), u64::min);
        // `Instant` is CLOCK_MONOTONIC too, but does not expose its value.
        Instant::now() + Duration::from_nanos(due_ns.saturating_sub(now_ns()))
    }

    /// Does what is due.
    pub fn on_timer(&mut self, kernel: &mut Kernel) {
        let start_ns = now_ns();
        if self.compare_ns <= start_ns {
            self.update(kernel);
            if let Err(error) = self.compare(start_ns, kernel) {
                tracing::debug!("cannot compare subflows with the kernel's: {error:#}");
            }
            let end_ns = now_ns();
            let rest = (end_ns - start_ns).saturating_mul(u64::from(DUTY));
            let least = u64::try_from(COMPARE.as_nanos()).unwrap_or(u64::MAX);
            self.compare_ns = end_ns.saturating_add(rest.max(least));
            let dropped = self.dropped.too_many.load(Ordering::Relaxed);
            let dropped = dropped - std::mem::replace(&mut self.told_dropped, dropped);
            if dropped > 0 {
                tracing::warn!(dropped, "datagrams to the redundant port came too fast");
            }
            self.tell_malformed();
        }
        let now_ns = now_ns();
        if self.confirm_ns <= now_ns {
            self.confirm();
            self.confirm_ns = now_ns.saturating_add(CONFIRM_NS);
        }
        let again = self.unwritten.again(now_ns, |write| apply(write, kernel));
        self.log_failure(again);
        self.look_up(now_ns, kernel);
        self.speak(now_ns);
        self.write(kernel);
    }

    /// Sends what the protocol wants to say now.
    fn speak(&mut self, now_ns: u64) {
        let mut datagrams = Vec::new();
        let all = [Some(&mut self.peers), self.wishing.as_mut()];
        for peers in all.into_iter().flatten() {
            if peers.next_due_ns().is_some_and(|due| due <= now_ns) {
                // A few milliseconds of work, then the loop can send a heartbeat.
                datagrams.extend(peers.due(now_ns, 8 * PAGE));
            }
        }
        for datagram in datagrams {
            self.send(&datagram);
        }
    }

    fn send(&self, datagram: &Datagram) {
        let socket = self.sockets.iter().find(|one| one.is_for(datagram.from));
        let Some(socket) = socket else {
            return;
        };
        // An error is no worse than a loss on the way: the protocol retries.
        if let Err(error) = socket.send(datagram) {
            let (from, to) = (datagram.from, datagram.to);
            tracing::debug!(%from, %to, ifindex = datagram.ifindex, "no hello: {error}");
        }
    }

    /// Confirms the next hop of every channel. While a path is dead, its next
    /// hop does not answer either, and after some seconds the kernel would hold
    /// packets back until it does. They would wait ahead of tc egress, so that
    /// nothing could be copied.
    fn confirm(&self) {
        for (_, channel) in self.channels.all() {
            let from = IpAddr::from(channel.local).to_canonical();
            let to = SocketAddr::new(IpAddr::from(channel.remote), channel.remote_port);
            if let Some(socket) = self.sockets.iter().find(|one| one.is_for(from))
                && let Err(error) = socket.confirm(from, channel.ifindex, to)
            {
                tracing::debug!(%from, %to, "cannot confirm the next hop: {error}");
            }
        }
    }

    /// Brings the devices, and what channels take from them, up to date.
    fn update(&mut self, kernel: &mut Kernel) {
        if !self.copies {
            return;
        }
        let carriers = self.channels.devices();
        let mut result = self.ports.update(kernel, &carriers, now_ns());
        let mut writes = Vec::new();
        for (index, channel) in self.channels.all() {
            self.channels
                .set(index, Some(self.ports.fill(channel)), &mut writes);
        }
        for write in writes {
            result = result.and(self.put(Write::Channels(write), kernel));
        }
        self.log_failure(result);
    }

    /// Writes the protocol's changes to the maps, and logs its notices.
    fn write(&mut self, kernel: &mut Kernel) {
        let mut result = Ok(());
        for change in self.peers.changes() {
            let done = match change {
                Change::Channel(index, channel) => {
                    let channel = channel.map(|channel| self.filled(index, channel));
                    let mut writes = Vec::new();
                    self.channels.set(index, channel, &mut writes);
                    let mut done = Ok(());
                    for write in writes {
                        done = done.and(self.put(Write::Channels(write), kernel));
                    }
                    done
                }
                Change::Carriers(connection, carriers) => {
                    self.put(Write::Carriers(connection, carriers), kernel)
                }
                Change::View(cookie, view) => self.put(Write::View(cookie, view), kernel),
                Change::Familiar(key, channel) => self.put(Write::Familiar(key, channel), kernel),
            };
            result = result.and(done);
        }
        self.log_failure(result);
        self.peers.notices().into_iter().for_each(log);
        self.after_wishes();
    }

    /// Writes to the kernel's maps. If that fails, it is retried later.
    fn put(&mut self, write: Write, kernel: &mut Kernel) -> Result<()> {
        let at = |key: &ChannelKey| {
            let remote = IpAddr::from(key.remote).to_canonical();
            SocketAddr::new(remote, key.remote_port)
        };
        match &write {
            Write::Channels(channel_table::Write::Key(key, _)) => self.known.set(at(key), true),
            Write::Channels(channel_table::Write::Gone(key)) => self.known.set(at(key), false),
            _ => {}
        }
        self.unwritten
            .write(write, now_ns(), |write| apply(write, kernel))
    }

    /// Completes a channel with its device's properties. A channel that is only
    /// kept alive keeps those it has: [`Service::update`] takes care of
    /// changes.
    fn filled(&self, index: u32, channel: Channel) -> Channel {
        let ends = |channel: &Channel| (channel.local, channel.remote);
        match self.channels.get(index) {
            Some(known)
                if ends(known) == ends(&channel)
                    && (channel.ifindex == known.ifindex || channel.ifindex == 0) =>
            {
                Channel {
                    mtu: known.mtu,
                    path: known.path,
                    ifindex: known.ifindex,
                    ..channel
                }
            }
            _ => self.ports.fill(channel),
        }
    }

    fn log_failure(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.failed &= self.unwritten.due_ns().is_some(),
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::error!("cannot write what the programs know of peers: {error:#}");
            }
            Err(_) => {}
        }
    }
}
