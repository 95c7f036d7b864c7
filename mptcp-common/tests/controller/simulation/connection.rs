//! One connection: its load, the kernel's default scheduler, and its
//! controller, called as the eBPF side calls it.

use std::collections::{BTreeMap, VecDeque};

use mptcp_common::abi::{MAX_PATHS, Policy};
use mptcp_common::controller::overflow::Overflow;
use mptcp_common::controller::{
    Asked, Controller, Found, Limits, NO_CAP, REST_NS, STEP_NS, Slot, is_quiet,
};

use super::MS;
use super::link::{Segment, SharedLink};
use super::load::{Deliveries, Load};
use super::path::{Path, Piece, first_unacked};
use super::world::{Host, Random, Steering};

/// Bytes that the scheduler hands out at once: a page fragment.
const BURST: u64 = 32_768;

/// Timeouts in a row after which a path is stale (mptcp_pm_subflow_chk_stale).
const STALE_TIMEOUTS: u32 = 4;

/// The connection's retransmission timer if no subflow has one that runs
/// (`TCP_RTO_MIN`).
const RTO_MIN_MS: u64 = 200;

/// A connection of a host.
pub struct Connection {
    pub controller: Controller,
    pub(super) overflow: Overflow,
    pub load: Load,
    pub(super) deliveries: Deliveries,
    /// Bytes acked on all of its paths.
    pub(super) acked: u64,
    /// An empty segment that names the connection as its sender.
    name: Segment,
    /// When the load writes next, if that is known.
    next_write_ms: Option<u64>,
    pub(super) paths: Vec<Path>,
    /// The weights of its own policy, if it has one.
    weights: Option<[u32; MAX_PATHS]>,
    next_seq: u64,
    /// Bytes received: one for each answer, or for each object that is asked for.
    received: u64,
    /// Data that is not acked yet, oldest first: bytes by first sequence
    /// number.
    outstanding: BTreeMap<u64, u64>,
    backlog: f64,
    /// The oldest data that is not acked yet, and when the connection's own timer sends
    /// it once more.
    head: (Option<u64>, u64),
    /// Data that timed out. It is sent once more where a path is idle.
    reinject: VecDeque<Piece>,
    /// Data that a stale path has not delivered. It is scheduled once more.
    recover: VecDeque<Piece>,
    random: Random,
}

impl Connection {
    /// Opens a connection, whose subflows are all established.
    pub(super) fn new(index: usize, load: Load, links: &[SharedLink], host: &Host) -> Self {
        let name = Segment {
            connection: index,
            life: 0,
            number: 0,
            bytes: 0,
            sent_ms: 0,
            completes: None,
        };
        let mut connection = Self {
            controller: Controller::default(),
            overflow: Overflow::default(),
            load,
            deliveries: Deliveries::default(),
            acked: 0,
            name,
            next_write_ms: None,
            paths: links
                .iter()
                .map(|link| Path::new(host.now_ms, &link.settings))
                .collect(),
            weights: None,
            next_seq: 0,
            received: 0,
            outstanding: BTreeMap::new(),
            backlog: 0.0,
            head: (None, 0),
            reinject: VecDeque::new(),
            recover: VecDeque::new(),
            random: Random::new(0x9e37_79b9_7f4a_7c15 ^ (index as u64) << 32),
        };
        for path in 0..links.len() {
            connection.take_slot(path, links, host);
        }
        connection
    }

    /// Closes the connection, which has delivered all of its data, and opens a
    /// new one in its place: the old controller ends here. The subflow on the first link is established at
    /// once, and the others when they have joined it.
    fn reopen(&mut self, links: &[SharedLink], host: &Host) {
        self.name.life += 1;
        self.controller = Controller::default();
        self.overflow = Overflow::default();
        let first_ms = links[0].settings.rtt_ms;
        self.paths = (0..)
            .zip(links)
            .map(|(index, link)| match index {
                0 => Path::new(host.now_ms, &link.settings),
                _ => Path::new(
                    host.now_ms + first_ms + link.settings.rtt_ms,
                    &link.settings,
                ),
            })
            .collect();
        self.next_seq = 0;
        self.outstanding.clear();
        self.backlog = 0.0;
        self.head = (None, 0);
        self.reinject.clear();
        self.recover.clear();
        self.take_slot(0, links, host);
    }

    /// Gives a path whose subflow is now established its slot.
    fn take_slot(&mut self, path: usize, links: &[SharedLink], host: &Host) {
        let slot = &self.controller.slots[path];
        slot.path.set(path as u64 + 1);
        slot.subflows.set(1);
        slot.cap.set(u64::from(NO_CAP));
        self.weigh_slot(path, links, host);
        // The callback of an established subflow.
        self.paths[path].limits = host.lower(path, Limits::NONE);
    }

    /// Tells a slot its path's weight and ceiling, and whether it is a backup.
    pub(super) fn weigh_slot(&self, path: usize, links: &[SharedLink], host: &Host) {
        let link = &links[path].settings;
        let weight = self.weights.map_or(link.weight, |weights| weights[path]);
        let slot = &self.controller.slots[path];
        slot.weight.set(u64::from(weight));
        slot.backups.set(u64::from(link.backup));
        slot.ceiling.set(u64::from(host.level(path)));
        slot.limit.set(host.ceilings[path].0);
    }

    /// Gives the connection the weights of a policy of its own. The first link
    /// is path 0 of the policy, and so on.
    pub fn weigh(&mut self, policy: &Policy) {
        self.weights = Some(policy.weights);
    }

    /// Writes so many bytes.
    pub fn write(&mut self, bytes: f64) {
        self.backlog += bytes;
    }

    /// Writes a message, and notes how long it takes.
    fn write_message(&mut self, bytes: f64, now_ms: u64) {
        self.write(bytes);
        let end = self.next_seq + self.backlog as u64;
        self.deliveries.begin(end, now_ms);
    }

    /// Writes what the load has for this tick.
    pub(super) fn write_load(&mut self, links: &[SharedLink], host: &Host) {
        let now_ms = host.now_ms;
        for path in 0..self.paths.len() {
            if self.paths[path].opens_ms == now_ms {
                self.take_slot(path, links, host);
            }
        }
        let arrived = self.outstanding.is_empty() && self.backlog < 1.0;
        match self.load {
            Load::Bulk => self.backlog = self.backlog.max(4e6),
            Load::Rate(rate) => self.backlog += rate / 1000.0,
            Load::Requests(bytes) if arrived => {
                self.received += 1;
                self.write_message(bytes, now_ms);
            }
            Load::Requests(_) => {}
            Load::Objects {
                bytes,
                pause_ms,
                fresh,
            } if arrived => {
                let pause_ms = (pause_ms as f64 * (0.5 + self.random.next())) as u64;
                let next_ms = *self.next_write_ms.get_or_insert(now_ms + pause_ms);
                if now_ms >= next_ms {
                    self.next_write_ms = None;
                    if fresh {
                        self.reopen(links, host);
                    }
                    self.received += 1;
                    self.write_message(bytes as f64, now_ms);
                }
            }
            Load::Objects { .. } => {}
            Load::Frames { bytes, every_ms } => {
                let first_ms = now_ms + (every_ms as f64 * self.random.next()) as u64;
                let next_ms = *self.next_write_ms.get_or_insert(first_ms);
                if now_ms >= next_ms {
                    self.next_write_ms = Some(next_ms + every_ms);
                    self.write_message(bytes as f64, now_ms);
                }
            }
            Load::Idle => self.backlog = 0.0,
        }
    }

    fn send_buffer(&self) -> u64 {
        self.paths.iter().map(|path| path.send_buffer).sum()
    }

    /// Schedules as mptcp_subflow_get_send does, until it finds no subflow.
    pub(super) fn schedule(&mut self, links: &[SharedLink], host: &Host) {
        loop {
            let again = first_unacked(&mut self.recover, &self.outstanding);
            let oldest = self.outstanding.keys().next().copied();
            let sent = self.next_seq - oldest.unwrap_or(self.next_seq);
            let fresh = self.backlog >= 1.0 && sent <= self.send_buffer();
            if again.is_none() && !fresh {
                return;
            }
            let mut best: Option<(f64, usize)> = None;
            let active =
                |path: &Path| path.opens_ms <= host.now_ms && path.backoff < STALE_TIMEOUTS;
            let has_ordinary = self
                .paths
                .iter()
                .zip(links)
                .any(|(path, link)| active(path) && !link.settings.backup);
            for (index, (path, link)) in self.paths.iter_mut().zip(links).enumerate() {
                if !active(path) || (has_ordinary && link.settings.backup) {
                    continue;
                }
                if path.average_pace == 0.0 {
                    path.average_pace = path.pace();
                }
                if path.average_pace == 0.0 {
                    continue;
                }
                let linger = path.memory() as f64 / path.average_pace;
                if best.is_none_or(|(least, _)| linger < least) {
                    best = Some((linger, index));
                }
            }
            let Some((_, index)) = best else { return };
            let path = &mut self.paths[index];
            // The scheduler sends nothing if its favourite is full.
            if !path.has_room() {
                return;
            }
            let piece = self.recover.pop_front().unwrap_or_else(|| {
                let bytes = (self.backlog as u64).clamp(1, BURST);
                self.backlog -= bytes as f64;
                let piece = Piece {
                    seq: self.next_seq,
                    bytes,
                };
                self.next_seq += bytes;
                self.outstanding.insert(piece.seq, bytes);
                piece
            });
            let (memory, burst) = (path.memory() as f64, piece.bytes as f64);
            let pace = path.pace();
            path.average_pace = (path.average_pace * memory + pace * burst) / (memory + burst);
            path.give(piece);
        }
    }

    /// Retransmits as mptcp_subflow_get_retrans does: on a path that has
    /// nothing of its own to send, even if it is held out.
    pub(super) fn retransmit(&mut self, host: &Host) {
        self.run_timer(host);
        while let Some(piece) = first_unacked(&mut self.reinject, &self.outstanding) {
            let idle = |path: &&mut Path| {
                path.opens_ms <= host.now_ms && path.backoff == 0 && path.memory() == 0
            };
            let Some(path) = self.paths.iter_mut().find(idle) else {
                return;
            };
            path.give(piece);
            self.reinject.pop_front();
        }
    }

    /// Runs the connection's own retransmission timer as mptcp_retransmit_timer does: it
    /// starts anew whenever the oldest data is acked, and takes as long as the timer of
    /// a subflow that has data in flight.
    fn run_timer(&mut self, host: &Host) {
        let oldest = self.outstanding.first_key_value();
        let oldest = oldest.map(|(&seq, &bytes)| Piece { seq, bytes });
        let head = oldest.as_ref().map(|piece| piece.seq);
        let (last, due_ms) = self.head;
        if head == last && host.now_ms < due_ms {
            return;
        }
        let paths = self.paths.iter();
        let longest_ms = paths.filter_map(|path| path.timer_in_ms(host.now_ms)).max();
        self.head = (head, host.now_ms + longest_ms.unwrap_or(RTO_MIN_MS));
        if head == last {
            self.reinject.extend(oldest);
        }
    }

    /// Sends on a path into the queue of its link.
    pub(super) fn transmit(&mut self, path: usize, link: &mut SharedLink, host: &Host) {
        self.paths[path].transmit(self.name, link, host.now_ms);
    }

    /// Takes the ACK of a segment. Returns whether it is the path's first one
    /// of this tick.
    pub(super) fn hear(&mut self, path: usize, segment: Segment, host: &Host) -> bool {
        if segment.life != self.name.life {
            return false;
        }
        self.paths[path].hear(segment, &mut self.outstanding, host.now_ms)
    }

    /// Does what a path's socket does after the ACKs of this tick.
    pub(super) fn acknowledge(&mut self, index: usize, links: &[SharedLink], host: &Host) {
        let now_ms = host.now_ms;
        let oldest = self.outstanding.keys().next().copied();
        self.deliveries
            .complete(oldest.unwrap_or(self.next_seq), now_ms);
        let path = &mut self.paths[index];
        self.acked += path.grow(now_ms);
        if !path.is_heard(&links[index].settings, now_ms) {
            return;
        }
        let (since_ns, before) = path.quiet;
        let elapsed_ns = now_ms * MS - since_ns;
        let rests = path.resting
            && now_ms * MS - path.seen_ns < REST_NS
            && is_quiet(path.acked - before, elapsed_ns);
        if elapsed_ns >= STEP_NS {
            path.quiet = (now_ms * MS, path.acked);
        }
        if !rests {
            self.callback(index, links, host);
        }
    }

    /// Retransmits what a path has not delivered when its timer fires.
    pub(super) fn time_out(&mut self, index: usize, links: &[SharedLink], host: &Host) {
        let path = &mut self.paths[index];
        if !path.times_out(host.now_ms) {
            return;
        }
        // Stuck data is sent again on the other paths. This path keeps its
        // copy.
        let backoff = path.backoff;
        let stuck = self.outstanding.iter();
        let stuck = stuck.map(|(&seq, &bytes)| Piece { seq, bytes });
        if backoff == STALE_TIMEOUTS {
            // __mptcp_retransmit_pending_data
            self.recover = stuck.collect();
            self.reinject.clear();
        } else if self.recover.is_empty() {
            self.reinject = stuck.collect();
        }
        self.controller.slots[index].timeouts.set(backoff.into());
        self.callback(index, links, host);
    }

    /// Does what `iter/tcp` does with `sweep::APPLY`. The agent runs that when
    /// a path is lost.
    pub(super) fn sweep(&mut self, host: &Host) {
        for index in 0..self.paths.len() {
            if self.paths[index].opens_ms <= host.now_ms {
                self.paths[index].limits = host.lower(index, self.limits(index, host));
            }
        }
    }

    /// Returns what the policy wants of a path's subflow, as `obey` does.
    fn limits(&self, index: usize, host: &Host) -> Limits {
        if host.steering == Steering::Default {
            return Limits::NONE;
        }
        if host.steering == Steering::Overflow {
            return self.overflow_limits(index);
        }
        let slot = &self.controller.slots[index];
        self.controller
            .limits(slot, self.paths[index].unsent_bytes())
    }

    /// Does what `sockops` does at a callback of this path's subflow.
    fn callback(&mut self, index: usize, links: &[SharedLink], host: &Host) {
        let now_ns = host.now_ms * MS;
        let path = &self.paths[index];
        let slot = &self.controller.slots[index];
        let fresh = path.acked - slot.acked_bytes.get();
        let unsent = path.unsent_bytes();
        slot.progress(fresh, path.srtt_us(), unsent, now_ns);
        host.progress(index, fresh, path.srtt_us());
        if host.steering == Steering::Default {
            self.paths[index].limits = host.lower(index, Limits::NONE);
            return;
        }
        let unassigned = self.backlog >= 1.0;
        if host.steering == Steering::Overflow {
            self.overflow_callback(index, unassigned, links, host);
            return;
        }
        let found = Found {
            given: self.next_seq,
            received: self.received,
            unassigned,
            queued: unsent > 0,
        };
        self.controller.notice(found, now_ns);
        if let Some(elapsed_ns) = self.controller.claim_step(now_ns) {
            for path in 0..self.paths.len() {
                self.weigh_slot(path, links, host);
            }
            self.controller.send_buffer.set(self.send_buffer());
            self.step(host, now_ns, elapsed_ns);
        }
        let slot = &self.controller.slots[index];
        let limits = host.lower(index, self.controller.limits(slot, unsent));
        let path = &mut self.paths[index];
        path.limits = limits;
        path.quiet = (now_ns, path.acked);
        path.resting =
            limits == Limits::NONE && self.controller.may_rest(slot) && !host.is_limited(index);
        path.seen_ns = now_ns;
    }

    /// Runs a step of the controller. No other place does. `host` holds what the
    /// controllers of all connections share.
    fn step(&self, host: &Host, now_ns: u64, elapsed_ns: u64) {
        let asked = Asked {
            spill: host.steering == Steering::Spill,
            place: host.steering == Steering::Place,
            revives: true,
        };
        self.controller
            .step(now_ns, elapsed_ns, asked, host.ledger.as_ref());
        let readmitted = |slot: &Slot| slot.turned.get() == Slot::READMITTED;
        if self.controller.slots.iter().any(readmitted) {
            host.readmitted.set(true);
        }
    }
}
