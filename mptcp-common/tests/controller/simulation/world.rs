//! A host with any number of connections that share its links.

use std::cell::Cell;

use mptcp_common::controller::ceiling::Ceiling;
use mptcp_common::controller::{Ledger, Limits, NO_CAP};

use super::MS;
use super::connection::Connection;
use super::link::{Link, SharedLink, Variation};
use super::load::Load;
use super::outcome::Outcome;

/// How often the agent's sweep sets limits.
const SWEEP_MS: u64 = 1000;

/// Least time between two sweeps, however often connections may use a path again.
const READMITTED_MS: u64 = 50;

/// How the connections of a world are steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Not at all: the kernel's default scheduler alone.
    Default,
    /// By weight.
    Strict,
    /// By weight, with each thin connection on one path.
    Place,
    /// By weight until a path is full.
    Spill,
    /// By weight as rank.
    Overflow,
}

/// The state that all connections of a host see. Each call of a controller gets it
/// (`Connection::step`), so whatever the controllers share belongs here.
pub struct Host {
    pub(super) now_ms: u64,
    pub(super) steering: Steering,
    /// None: each connection keeps the ratio by itself.
    pub(super) ledger: Option<Ledger>,
    /// The limit of each link, bytes per second (0: none), and its ceiling.
    pub(super) ceilings: Vec<(u64, Ceiling)>,
    /// Whether a connection may use a path again since the last sweep. The path's
    /// idle subflow learns of that by a sweep.
    pub(super) readmitted: Cell<bool>,
}

impl Host {
    /// Returns whether what the host sends over a link is limited.
    pub(super) fn is_limited(&self, link: usize) -> bool {
        self.ceilings[link].0 != 0
    }

    /// Notes what a subflow on this link had acked, and runs a step of the link's
    /// ceiling if one is due.
    pub(super) fn progress(&self, link: usize, acked: u64, srtt_us: u64) {
        let (limit, ceiling) = &self.ceilings[link];
        if *limit == 0 {
            return;
        }
        ceiling.progress(acked, srtt_us);
        if let Some(elapsed_ns) = ceiling.claim_step(self.now_ms * MS) {
            ceiling.step(*limit, elapsed_ns);
        }
    }

    /// Returns the cap that the link's ceiling allows each subflow.
    pub(super) fn level(&self, link: usize) -> u32 {
        match &self.ceilings[link] {
            (0, _) => NO_CAP,
            (_, ceiling) => ceiling.level(),
        }
    }

    /// Returns what the link's ceiling leaves of the policy's limits.
    pub(super) fn lower(&self, link: usize, limits: Limits) -> Limits {
        match &self.ceilings[link] {
            (0, _) => limits,
            (_, ceiling) => ceiling.lower(limits),
        }
    }
}

/// A host, its links and its connections.
pub struct World {
    host: Host,
    links: Vec<SharedLink>,
    pub(super) connections: Vec<Connection>,
    /// Connections that had something acked in this tick.
    heard: Vec<usize>,
    random: Random,
    /// When the last sweep ran.
    swept_ms: u64,
}

impl World {
    pub fn new(links: &[Link], seed: u64, steering: Steering) -> Self {
        Self {
            host: Host {
                now_ms: 1,
                steering,
                ledger: Some(Ledger::default()),
                ceilings: links.iter().map(|_| Default::default()).collect(),
                readmitted: Cell::new(false),
            },
            swept_ms: 0,
            links: links.iter().map(SharedLink::new).collect(),
            connections: Vec::new(),
            heard: Vec::new(),
            random: Random::new(seed),
        }
    }

    /// Lets losses cut the sender's window only. What is lost arrives
    /// nevertheless.
    pub fn repair_in_place(&mut self) {
        for link in &mut self.links {
            link.repairs_in_place = true;
        }
    }

    /// Lets each connection keep the ratio by itself, instead of the host.
    pub fn scope_connection(&mut self) {
        self.host.ledger = None;
    }

    /// Limits what the host sends over a link, bytes per second; 0 lifts the
    /// limit. The agent's sweep makes it hold at once.
    pub fn limit(&mut self, link: usize, rate: f64) {
        self.host.ceilings[link].0 = rate as u64;
        self.sweep();
    }

    /// Opens a connection with a subflow on each link, all of them established.
    /// Returns its index.
    pub fn add(&mut self, load: Load) -> usize {
        let index = self.connections.len();
        let connection = Connection::new(index, load, &self.links, &self.host);
        self.connections.push(connection);
        index
    }

    /// Opens so many connections.
    pub fn add_many(&mut self, count: usize, load: Load) {
        for _ in 0..count {
            self.add(load);
        }
    }

    pub fn connection(&mut self, index: usize) -> &mut Connection {
        &mut self.connections[index]
    }

    /// Returns a link, to change it while the connections run. A link of rate 0
    /// is dead.
    pub fn link(&mut self, index: usize) -> &mut Link {
        &mut self.links[index].settings
    }

    /// Lets the rate of a link move.
    pub fn vary(&mut self, index: usize, variation: Variation) {
        self.links[index].variation = Some(variation);
    }

    /// Applies the policy to all connections at once.
    pub(super) fn sweep(&mut self) {
        for connection in &mut self.connections {
            for path in 0..self.links.len() {
                connection.weigh_slot(path, &self.links, &self.host);
            }
            connection.sweep(&self.host);
        }
    }

    /// Steers the connections otherwise from now on.
    pub fn steer(&mut self, steering: Steering) {
        self.host.steering = steering;
    }

    /// Lets the host stand still for `ms`, as a shared machine does at times.
    pub fn stand_still(&mut self, ms: u64) {
        self.host.now_ms += ms;
    }

    /// Runs for `ms`.
    pub fn run(&mut self, ms: u64) -> Outcome {
        let before: Vec<u64> = self.links.iter().map(|link| link.acked).collect();
        let carried = |connections: &[Connection]| -> Vec<u64> {
            connections
                .iter()
                .map(|connection| connection.acked)
                .collect()
        };
        let carried_before = carried(&self.connections);
        let (mut bound, mut capacity) = (0.0, 0.0);
        for _ in 0..ms {
            self.tick();
            bound += self.bound() / 1000.0;
            capacity += self
                .links
                .iter()
                .map(|link| link.settings.rate / 1000.0)
                .sum::<f64>();
        }
        Outcome {
            acked: self
                .links
                .iter()
                .zip(before)
                .map(|(link, before)| link.acked - before)
                .collect(),
            carried: carried(&self.connections)
                .iter()
                .zip(carried_before)
                .map(|(carried, before)| carried - before)
                .collect(),
            bound,
            capacity,
            times_ms: self
                .connections
                .iter_mut()
                .map(|connection| connection.deliveries.take())
                .collect(),
        }
    }

    /// Returns the largest rate at which every link keeps its share and none
    /// exceeds its rate, bytes per second.
    fn bound(&self) -> f64 {
        let links = || self.links.iter().map(|link| &link.settings);
        let weights: u32 = links().map(|link| link.weight).sum();
        links()
            .filter(|link| link.weight != 0)
            .map(|link| link.rate * f64::from(weights) / f64::from(link.weight))
            .fold(f64::INFINITY, f64::min)
    }

    fn tick(&mut self) {
        let Self {
            host,
            links,
            connections,
            heard,
            random,
            swept_ms,
        } = self;
        host.now_ms += 1;
        for connection in connections.iter_mut() {
            connection.write_load(links, host);
            connection.schedule(links, host);
            connection.retransmit(host);
        }
        for path in 0..links.len() {
            let link = &mut links[path];
            let roll = random.next();
            link.tick(host.now_ms, roll, || random.next());
            // Another connection is the first in each tick, so that a queue
            // that becomes full within the tick favours none.
            let first = host.now_ms as usize % connections.len().max(1);
            let (later, sooner) = connections.split_at_mut(first);
            for connection in sooner.iter_mut().chain(later) {
                connection.transmit(path, link, host);
            }
            link.serve(host.now_ms);
            while let Some(segment) = link.acknowledge(host.now_ms) {
                if connections[segment.connection].hear(path, segment, host) {
                    heard.push(segment.connection);
                }
            }
            for index in heard.drain(..) {
                connections[index].acknowledge(path, links, host);
            }
            for connection in connections.iter_mut() {
                connection.time_out(path, links, host);
            }
        }
        let readmitted = host.readmitted.get() && host.now_ms >= *swept_ms + READMITTED_MS;
        if readmitted || host.now_ms.is_multiple_of(SWEEP_MS) {
            *swept_ms = host.now_ms;
            host.readmitted.set(false);
            for connection in connections {
                connection.sweep(host);
            }
        }
    }
}

/// A generator of random numbers: xorshift64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Returns a number between 0 and 1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
