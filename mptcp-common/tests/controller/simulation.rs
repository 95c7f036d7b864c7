//! Simulates a connection: paths with a rate, a round trip, a queue and random
//! loss; congestion control that cuts its window on loss; the kernel's default
//! scheduler; and the controller, called as the eBPF side calls it.
//!
//! Time runs in ticks of a millisecond. The simulation models what the policy
//! acts on: the scheduler's choice by `wmem / pace`, which sends nothing while
//! its favourite's queue is full; pacing caps, which a socket learns of at its
//! own ACKs only; and the send buffer, which data stuck on one path fills.

mod overflow;
mod path;

use std::collections::{BTreeMap, VecDeque};

use mptcp_common::abi::{Policy, capability};
use mptcp_common::controller::overflow::Overflow;
use mptcp_common::controller::{Controller, Limits, NO_CAP, REST_NS, STEP_NS, is_quiet};

use path::{Path, Piece, bytes, first_unacked};

pub const MS: u64 = 1_000_000;
const MSS: f64 = 1448.0;
/// Bytes that the scheduler hands out at once: a page fragment.
const BURST: u64 = 32_768;
/// Bytes that the kernel accounts for a full-size segment.
const TRUESIZE: f64 = 2304.0;

/// Timeouts in a row after which a path is stale (mptcp_pm_subflow_chk_stale).
const STALE_TIMEOUTS: u32 = 4;

/// `net.ipv4.tcp_wmem`: the most that one subflow adds to the send buffer.
const MAX_SEND_BUFFER: u64 = 4 << 20;

/// A link, as the test sets it; may change while the simulation runs.
#[derive(Clone, Debug)]
pub struct Link {
    pub rate: f64,
    pub rtt_ms: u64,
    pub loss: f64,
    pub weight: u32,
    /// Whether the kernel takes its subflow for a backup.
    pub backup: bool,
}

/// Offered load.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Bulk,
    /// Bytes per second.
    Rate(f64),
    /// Requests of so many bytes: each is sent when the one before has arrived.
    Requests(f64),
    Idle,
}

pub struct Simulation {
    pub controller: Controller,
    paths: Vec<Path>,
    pub now_ms: u64,
    pub spill: bool,
    /// The overflow policy's state, if that is the policy.
    pub overflow: Option<Overflow>,
    next_seq: u64,
    /// Data that is not acked yet, oldest first: bytes by first sequence
    /// number.
    outstanding: BTreeMap<u64, u64>,
    backlog: f64,
    /// Data that timed out. It is sent once more where a path is idle.
    reinject: VecDeque<Piece>,
    /// Data that a stale path has not delivered. It is scheduled once more.
    recover: VecDeque<Piece>,
    random: u64,
}

impl Simulation {
    pub fn new(links: &[Link], seed: u64) -> Self {
        let controller = Controller::default();
        let paths = links
            .iter()
            .enumerate()
            .map(|(index, link)| {
                let slot = &controller.slots[index];
                slot.path.set(index as u64 + 1);
                slot.subflows.set(1);
                slot.backups.set(u64::from(link.backup));
                slot.cap.set(u64::from(NO_CAP));
                Path {
                    link: link.clone(),
                    limits: Limits::NONE,
                    quiet: (0, 0),
                    resting: false,
                    seen_ns: 0,
                    unsent: VecDeque::new(),
                    queued: VecDeque::new(),
                    flying: VecDeque::new(),
                    cwnd: 10.0 * MSS,
                    send_buffer: (20.0 * TRUESIZE) as u64,
                    slow_start: true,
                    window_limited: false,
                    pace_credit: 0.0,
                    link_credit: 0.0,
                    average_pace: 0.0,
                    heard_ms: 0,
                    rto_ms: 1000,
                    backoff: 0,
                    recovered_ms: 0,
                    acked: 0,
                }
            })
            .collect();
        Self {
            controller,
            paths,
            now_ms: 1,
            spill: false,
            overflow: None,
            next_seq: 0,
            outstanding: Default::default(),
            backlog: 0.0,
            reinject: VecDeque::new(),
            recover: VecDeque::new(),
            random: seed | 1,
        }
    }

    /// Applies a policy to the connection, as the programs do by
    /// `Connection::policy`. The first link is path 0 of the policy, and so on.
    pub fn obey(&mut self, policy: &Policy) {
        self.spill = policy.capabilities & capability::SPILLS != 0;
        for (index, path) in (0..).zip(&mut self.paths) {
            path.link.weight = policy.weight(index);
        }
    }

    /// Returns a link, to change it while the connection runs. A link of rate 0
    /// is dead.
    pub fn link(&mut self, path: usize) -> &mut Link {
        &mut self.paths[path].link
    }

    /// Runs for `ms` and returns the bytes that each path got acked.
    pub fn run(&mut self, ms: u64, load: Load) -> Vec<u64> {
        let before: Vec<u64> = self.paths.iter().map(|path| path.acked).collect();
        for _ in 0..ms {
            self.now_ms += 1;
            match load {
                Load::Bulk => self.backlog = self.backlog.max(4e6),
                Load::Rate(rate) => self.backlog += rate / 1000.0,
                Load::Requests(size) if self.outstanding.is_empty() && self.backlog < 1.0 => {
                    self.backlog = size;
                }
                Load::Requests(_) => {}
                Load::Idle => self.backlog = 0.0,
            }
            self.schedule();
            self.retransmit();
            for path in 0..self.paths.len() {
                self.transmit(path);
                self.acknowledge(path);
                self.time_out(path);
            }
            if self.now_ms.is_multiple_of(100) {
                self.sweep();
            }
        }
        self.paths
            .iter()
            .zip(before)
            .map(|(path, before)| path.acked - before)
            .collect()
    }

    /// Lets the host stand still for `ms`, as a shared machine does at times:
    /// the load goes on, and nothing else does.
    pub fn stand_still(&mut self, ms: u64, rate: f64) {
        self.now_ms += ms;
        self.backlog += rate * ms as f64 / 1000.0;
    }

    fn send_buffer(&self) -> u64 {
        self.paths.iter().map(|path| path.send_buffer).sum()
    }

    fn random(&mut self) -> f64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Retransmits as mptcp_subflow_get_retrans does: on a path that has
    /// nothing of its own to send, even if it is held out.
    fn retransmit(&mut self) {
        while let Some(piece) = first_unacked(&mut self.reinject, &self.outstanding) {
            let idle = |path: &&mut Path| {
                path.backoff == 0 && path.unsent.is_empty() && path.in_flight() == 0
            };
            let Some(path) = self.paths.iter_mut().find(idle) else {
                return;
            };
            path.unsent.push_back(piece);
            self.reinject.pop_front();
        }
    }

    /// Does what `iter/tcp` does with `sweep::APPLY`. The agent runs that when
    /// a path is lost.
    fn sweep(&mut self) {
        for index in 0..self.paths.len() {
            self.paths[index].limits = self.limits(index);
        }
    }

    /// Returns what the policy wants of a path's subflow, as `obey` does.
    fn limits(&self, index: usize) -> Limits {
        let slot = &self.controller.slots[index];
        match &self.overflow {
            Some(overflow) => overflow::limits(overflow, &self.controller.slots, slot),
            None => {
                let unsent = bytes(&self.paths[index].unsent);
                self.controller.limits(slot, unsent)
            }
        }
    }

    /// Schedules as mptcp_subflow_get_send does, until it finds no subflow.
    fn schedule(&mut self) {
        loop {
            let again = first_unacked(&mut self.recover, &self.outstanding);
            let oldest = self.outstanding.keys().next().copied();
            let sent = self.next_seq - oldest.unwrap_or(self.next_seq);
            let fresh = self.backlog >= 1.0 && sent <= self.send_buffer();
            if again.is_none() && !fresh {
                return;
            }
            let mut best: Option<(f64, usize)> = None;
            let active = |path: &Path| path.backoff < STALE_TIMEOUTS;
            let ordinary = |path: &Path| active(path) && !path.link.backup;
            let no_backups = self.paths.iter().any(ordinary);
            for (index, path) in self.paths.iter_mut().enumerate() {
                if !active(path) || (no_backups && path.link.backup) {
                    continue;
                }
                if path.average_pace == 0.0 {
                    path.average_pace = path.pace();
                }
                if path.average_pace == 0.0 {
                    continue;
                }
                let memory = bytes(&path.unsent) + path.in_flight();
                let linger = memory as f64 / path.average_pace;
                if best.is_none_or(|(least, _)| linger < least) {
                    best = Some((linger, index));
                }
            }
            let Some((_, index)) = best else { return };
            let path = &mut self.paths[index];
            let lowat = if path.limits.lowat == 0 {
                u64::MAX
            } else {
                u64::from(path.limits.lowat)
            };
            let unsent = bytes(&path.unsent);
            // The scheduler sends nothing if the queue is full, or the
            // subflow's own send buffer (three windows and 64 KiB).
            if unsent >= lowat || (unsent + path.in_flight()) as f64 > 3.0 * path.cwnd + 65_536.0 {
                return;
            }
            let memory = (unsent + path.in_flight()) as f64;
            let piece = self.recover.pop_front().unwrap_or_else(|| {
                let size = (self.backlog as u64).clamp(1, BURST);
                self.backlog -= size as f64;
                let piece = Piece {
                    seq: self.next_seq,
                    bytes: size,
                };
                self.next_seq += size;
                self.outstanding.insert(piece.seq, size);
                piece
            });
            let burst = piece.bytes as f64;
            path.average_pace =
                (path.average_pace * memory + path.pace() * burst) / (memory + burst);
            path.unsent.push_back(piece);
        }
    }

    /// Paces from the socket into the link's queue, and serves the link.
    fn transmit(&mut self, index: usize) {
        let lost = {
            let roll = self.random();
            roll < self.paths[index].link.loss
        };
        let now = self.now_ms;
        let path = &mut self.paths[index];
        // A pacing rate of 0 does not pace.
        let pace = if path.limits.cap == 0 {
            f64::INFINITY
        } else {
            path.pace()
        };
        path.pace_credit = (path.pace_credit + pace / 1000.0).min((pace / 100.0).max(MSS));
        let mut drop = lost;
        while let Some(piece) = path.unsent.front_mut() {
            let room = path.cwnd
                - (bytes(&path.queued)
                    + path
                        .flying
                        .iter()
                        .map(|(_, piece)| piece.bytes)
                        .sum::<u64>()) as f64;
            let bytes_now = (piece.bytes as f64).min(MSS).min(room);
            if room < 1.0 {
                path.window_limited = true;
                break;
            }
            if path.pace_credit < bytes_now {
                break;
            }
            path.pace_credit -= bytes_now;
            let sent = (bytes_now as u64).max(1);
            piece.bytes = piece.bytes.saturating_sub(sent);
            // Only the last part carries the piece's number: the piece is acked
            // as a whole.
            let part = Piece {
                seq: if piece.bytes == 0 {
                    piece.seq
                } else {
                    u64::MAX
                },
                bytes: sent,
            };
            if piece.bytes == 0 {
                path.unsent.pop_front();
            }
            path.queued.push_back(part);
        }
        let limit = (path.link.rate * 0.05).max(30.0 * MSS);
        drop |= bytes(&path.queued) as f64 > limit;
        if drop && now > path.recovered_ms {
            // Cut the window once per round trip at most. The loss itself is
            // repaired in place.
            path.cwnd = (path.cwnd * 0.7).max(4.0 * MSS);
            path.slow_start = false;
            path.recovered_ms = now + path.link.rtt_ms.max(1);
        }
        path.link_credit =
            (path.link_credit + path.link.rate / 1000.0).min(path.link.rate / 500.0 + MSS);
        while let Some(part) = path.queued.front() {
            if path.link_credit < part.bytes as f64 {
                break;
            }
            path.link_credit -= part.bytes as f64;
            let back = now + path.link.rtt_ms.max(1);
            path.flying.push_back((back, *part));
            path.queued.pop_front();
        }
    }

    fn acknowledge(&mut self, index: usize) {
        let now = self.now_ms;
        let path = &mut self.paths[index];
        let mut fresh = 0;
        while path.flying.front().is_some_and(|(back, _)| *back <= now) {
            let Some((_, part)) = path.flying.pop_front() else {
                break;
            };
            fresh += part.bytes;
            if part.seq != u64::MAX {
                self.outstanding.remove(&part.seq);
            }
        }
        if fresh == 0 {
            return;
        }
        path.acked += fresh;
        path.backoff = 0;
        let wanted = (2.0 * TRUESIZE * path.cwnd / MSS) as u64;
        path.send_buffer = path.send_buffer.max(wanted.min(MAX_SEND_BUFFER));
        path.rto_ms = now + 200 + 2 * path.link.rtt_ms;
        if path.window_limited {
            path.window_limited = path.slow_start;
            let growth = if path.slow_start {
                fresh as f64
            } else {
                MSS * fresh as f64 / path.cwnd
            };
            path.cwnd += growth;
        }
        // RTT_CB comes once per round trip, and no more than once per
        // millisecond.
        if now < path.heard_ms + path.link.rtt_ms.max(1) {
            return;
        }
        path.heard_ms = now;
        let (since_ns, before) = path.quiet;
        let elapsed_ns = now * MS - since_ns;
        let rests = path.resting
            && now * MS - path.seen_ns < REST_NS
            && is_quiet(path.acked - before, elapsed_ns);
        if elapsed_ns >= STEP_NS {
            path.quiet = (now * MS, path.acked);
        }
        if !rests {
            self.callback(index);
        }
    }

    fn time_out(&mut self, index: usize) {
        let now = self.now_ms;
        let path = &mut self.paths[index];
        if path.in_flight() == 0 {
            path.rto_ms = now + 200 + 2 * path.link.rtt_ms;
            return;
        }
        if now < path.rto_ms {
            return;
        }
        path.backoff += 1;
        path.rto_ms = now + ((200 + 2 * path.link.rtt_ms) << path.backoff.min(6));
        path.cwnd = 2.0 * MSS;
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
        self.callback(index);
    }

    /// Does what `sockops` does at a callback of this path's subflow.
    fn callback(&mut self, index: usize) {
        let now_ns = self.now_ms * MS;
        let path = &mut self.paths[index];
        let slot = &self.controller.slots[index];
        let fresh = path.acked - slot.acked_bytes.get();
        let delay_ms = bytes(&path.queued) as f64 * 1000.0 / path.link.rate.max(1.0);
        let srtt_us = 1000 * path.link.rtt_ms.max(1) + (1000.0 * delay_ms.min(60.0)) as u64;
        let unsent = bytes(&path.unsent);
        slot.progress(fresh, srtt_us, unsent, now_ns);
        let unassigned = self.backlog >= 1.0;
        if self.overflow.is_some() {
            self.overflow_callback(index, unassigned);
            return;
        }
        self.controller
            .notice(self.next_seq, unassigned, unsent > 0);
        if let Some(elapsed_ns) = self.controller.claim_step(now_ns) {
            for (path, slot) in self.paths.iter().zip(&self.controller.slots) {
                slot.weight.set(u64::from(path.link.weight));
                slot.backups.set(u64::from(path.link.backup));
            }
            self.controller.send_buffer.set(self.send_buffer());
            self.controller.step(now_ns, elapsed_ns, self.spill);
        }
        let slot = &self.controller.slots[index];
        let limits = self.controller.limits(slot, unsent);
        let path = &mut self.paths[index];
        path.limits = limits;
        path.quiet = (now_ns, path.acked);
        path.resting = limits == Limits::NONE && self.controller.may_rest(slot);
        path.seen_ns = now_ns;
    }
}
