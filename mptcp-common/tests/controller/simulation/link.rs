//! A link that the connections of a host share: one queue, served in the order
//! of arrival.

use std::collections::VecDeque;

use super::MSS;

/// A link, as the test sets it; may change while the simulation runs.
#[derive(Clone, Debug)]
pub struct Link {
    /// Bytes per second; 0: the link is dead.
    pub rate: f64,
    pub rtt_ms: u64,
    /// Probability that a segment is lost within a millisecond.
    pub loss: f64,
    /// The weight of the link's path for connections without a policy of their
    /// own.
    pub weight: u32,
    /// Whether the kernel takes subflows on it for backups.
    pub backup: bool,
}

/// A rate that moves: each `every_ms` the link gets a rate between `low` and
/// `high`, bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Variation {
    pub low: f64,
    pub high: f64,
    pub every_ms: u64,
}

/// A segment of a subflow.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    /// Its connection: an index of `World::connections`, and which of the
    /// connections that had this index one after the other.
    pub(super) connection: usize,
    pub(super) life: u32,
    /// Its place in the order of the subflow's segments.
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) sent_ms: u64,
    /// The piece of data that arrives with this segment as a whole, if any.
    pub(super) completes: Option<u64>,
}

/// The fate of a segment that reaches a link.
#[derive(PartialEq, Eq)]
pub(super) enum Fate {
    Queued,
    /// It is lost, so its sender has to send it again.
    Lost,
    /// It counts as lost, and arrives nevertheless.
    Repaired,
}

pub(super) struct SharedLink {
    pub(super) settings: Link,
    /// Whether losses only cut the sender's window: see [`Fate::Repaired`].
    pub(super) repairs_in_place: bool,
    pub(super) variation: Option<Variation>,
    queue: VecDeque<Segment>,
    queued_bytes: u64,
    credit: f64,
    /// Segments on the wire, each until the time when its ACK is back.
    flying: VecDeque<(u64, Segment)>,
    /// Whether the next segment is lost by chance.
    loses_next: bool,
    /// Bytes of all connections that were acked.
    pub(super) acked: u64,
}

impl SharedLink {
    pub(super) fn new(settings: &Link) -> Self {
        Self {
            settings: settings.clone(),
            repairs_in_place: false,
            variation: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            credit: 0.0,
            flying: VecDeque::new(),
            loses_next: false,
            acked: 0,
        }
    }

    /// Begins a tick. `roll` and `level` are random, between 0 and 1.
    pub(super) fn tick(&mut self, now_ms: u64, roll: f64, level: impl FnOnce() -> f64) {
        self.loses_next |= roll < self.settings.loss;
        if let Some(variation) = self.variation
            && now_ms.is_multiple_of(variation.every_ms)
        {
            self.settings.rate = variation.low + level() * (variation.high - variation.low);
        }
    }

    /// Takes a segment into the queue, unless it is lost: by chance, or because
    /// the queue is full.
    pub(super) fn enter(&mut self, segment: Segment) -> Fate {
        let limit = (self.settings.rate * 0.05).max(30.0 * MSS);
        let by_chance = std::mem::take(&mut self.loses_next);
        let lost = by_chance || self.queued_bytes as f64 > limit;
        if lost && !self.repairs_in_place {
            return Fate::Lost;
        }
        self.queue.push_back(segment);
        self.queued_bytes += segment.bytes;
        if lost { Fate::Repaired } else { Fate::Queued }
    }

    /// Sends from the queue what the link carries in a millisecond.
    pub(super) fn serve(&mut self, now_ms: u64) {
        let Link { rate, rtt_ms, .. } = self.settings;
        self.credit = (self.credit + rate / 1000.0).min(rate / 500.0 + MSS);
        while let Some(segment) = self.queue.front().copied() {
            if self.credit < segment.bytes as f64 {
                break;
            }
            self.credit -= segment.bytes as f64;
            self.queued_bytes -= segment.bytes;
            self.flying.push_back((now_ms + rtt_ms.max(1), segment));
            self.queue.pop_front();
        }
    }

    /// Returns the next segment whose ACK is back.
    pub(super) fn acknowledge(&mut self, now_ms: u64) -> Option<Segment> {
        let (back_ms, segment) = *self.flying.front()?;
        if back_ms > now_ms {
            return None;
        }
        self.flying.pop_front();
        self.acked += segment.bytes;
        Some(segment)
    }
}
