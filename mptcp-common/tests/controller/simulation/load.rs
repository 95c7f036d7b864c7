//! Simulates what an application writes to its connection, and how long that takes.

use std::collections::VecDeque;

/// Offered load.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Bulk,
    /// Bytes per second.
    Rate(f64),
    /// Requests of so many bytes: each is sent when the one before has arrived.
    Requests(f64),
    /// Objects of `bytes` bytes. A pause of `pause_ms`, more or less by half of
    /// it, follows each. If `fresh`, each object has a connection of its own.
    Objects {
        bytes: u64,
        pause_ms: u64,
        fresh: bool,
    },
    /// A frame of `bytes` bytes each `every_ms`, whether the one before has
    /// arrived or not.
    Frames {
        bytes: u64,
        every_ms: u64,
    },
    Idle,
}

/// The bytes that were written and are not acked yet, and the time that the rest took.
#[derive(Default)]
pub(super) struct Deliveries {
    /// The end of each message, and when it was written, oldest first.
    pending: VecDeque<(u64, u64)>,
    /// How long each message took, from the write until all of it was acked,
    /// ms.
    times_ms: Vec<u64>,
}

impl Deliveries {
    /// Notes that a message that ends before byte `end` of the stream was
    /// written.
    pub(super) fn begin(&mut self, end: u64, now_ms: u64) {
        self.pending.push_back((end, now_ms));
    }

    /// Notes that all bytes before `acked` have arrived.
    pub(super) fn complete(&mut self, acked: u64, now_ms: u64) {
        while let Some((end, began_ms)) = self.pending.front().copied() {
            if end > acked {
                break;
            }
            self.pending.pop_front();
            self.times_ms.push(now_ms - began_ms);
        }
    }

    /// Returns the times of the messages that were completed since the last
    /// call.
    pub(super) fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.times_ms)
    }
}
