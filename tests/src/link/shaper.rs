//! One direction of a link, as pure arithmetic: no IO and no clock. The time is
//! an argument (since any fixed moment).
//!
//! ```text
//!   offer -> [ backlog, drop-tail ] -> serialise at the rate -> [ in flight ] -> pop
//!                queue_bytes             len * 8 / rate            delay
//! ```
//!
//! The service of a packet starts when that of the packet before it ends, not
//! when the caller looks. So a caller that wakes late delays a packet but loses
//! no capacity.

use std::collections::VecDeque;
use std::time::Duration;

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// The settings of the link; they may change between calls.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The rate; 0 means unlimited.
    pub rate_bits_per_sec: u64,
    /// The one-way delay.
    pub delay: Duration,
    /// The size of the backlog. An empty backlog accepts any packet.
    pub queue_bytes: u64,
}

/// The packets of one direction.
#[derive(Debug, Default)]
pub struct Shaper {
    backlog: VecDeque<(Duration, Vec<u8>)>,
    backlog_bytes: u64,
    busy_until: Duration,
    flight: VecDeque<(Duration, Vec<u8>)>,
}

impl Shaper {
    /// Takes a packet that arrives now. Returns `false` if the queue is full and
    /// the packet is dropped.
    pub fn offer(&mut self, now: Duration, packet: Vec<u8>, settings: &Settings) -> bool {
        self.advance(now, settings);
        let len = packet.len() as u64;
        if !self.backlog.is_empty() && self.backlog_bytes + len > settings.queue_bytes {
            return false;
        }
        self.backlog_bytes += len;
        self.backlog.push_back((now, packet));
        self.advance(now, settings);
        true
    }

    /// Returns the next packet that has reached the far end by now.
    pub fn pop(&mut self, now: Duration, settings: &Settings) -> Option<Vec<u8>> {
        self.advance(now, settings);
        self.flight
            .pop_front_if(|(arrival, _)| *arrival <= now)
            .map(|(_, packet)| packet)
    }

    /// Returns when the caller should look next if it offers no further packet: at
    /// the next arrival or, if nothing is in flight, at the next start of service.
    /// (Services that could have started before an arrival are made up for then.)
    pub fn next_event(&self) -> Option<Duration> {
        let service = self.backlog.front().map(|_| self.busy_until);
        self.flight.front().map(|(arrival, _)| *arrival).or(service)
    }

    /// Serialises the packets whose service could start by now.
    fn advance(&mut self, now: Duration, settings: &Settings) {
        while self.busy_until <= now {
            let Some((arrived, packet)) = self.backlog.pop_front() else {
                break;
            };
            self.backlog_bytes -= packet.len() as u64;
            let start = self.busy_until.max(arrived);
            self.busy_until = start + service_time(packet.len(), settings.rate_bits_per_sec);
            let earliest = self
                .flight
                .back()
                .map_or(Duration::ZERO, |(arrival, _)| *arrival);
            // A lowered delay must not reorder packets.
            self.flight
                .push_back(((self.busy_until + settings.delay).max(earliest), packet));
        }
    }
}

fn service_time(len: usize, rate_bits_per_sec: u64) -> Duration {
    let bits = 8 * len as u128;
    let nanos = (bits * NANOS_PER_SEC).checked_div(u128::from(rate_bits_per_sec));
    Duration::from_nanos(nanos.unwrap_or(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// A packet of 1000 bytes takes 1 ms.
    const SETTINGS: Settings = Settings {
        rate_bits_per_sec: 8_000_000,
        delay: Duration::from_millis(10),
        queue_bytes: 3000,
    };

    fn packet(id: u8) -> Vec<u8> {
        vec![id; 1000]
    }

    #[test]
    fn a_lone_packet_takes_its_serialisation_and_the_delay() {
        let mut shaper = Shaper::default();
        assert_eq!(shaper.next_event(), None);
        assert!(shaper.offer(5 * MS, packet(1), &SETTINGS));
        assert_eq!(shaper.next_event(), Some(16 * MS));
        assert_eq!(
            shaper.pop(16 * MS - Duration::from_nanos(1), &SETTINGS),
            None
        );
        assert_eq!(shaper.pop(16 * MS, &SETTINGS), Some(packet(1)));
        assert_eq!(shaper.next_event(), None);
    }

    #[test]
    fn a_burst_is_spaced_by_the_rate_and_cut_by_the_queue() {
        let mut shaper = Shaper::default();
        // The first is being sent, three wait, and the fifth finds the queue full.
        let taken: Vec<bool> = (0..5)
            .map(|id| shaper.offer(Duration::ZERO, packet(id), &SETTINGS))
            .collect();
        assert_eq!(taken, [true, true, true, true, false]);
        for id in 0..4 {
            let due = MS * (11 + u32::from(id));
            assert_eq!(shaper.pop(due - Duration::from_nanos(1), &SETTINGS), None);
            assert_eq!(shaper.pop(due, &SETTINGS), Some(packet(id)));
        }
    }

    #[test]
    fn a_late_caller_loses_no_capacity() {
        let mut shaper = Shaper::default();
        for id in 0..4 {
            assert!(shaper.offer(Duration::ZERO, packet(id), &SETTINGS));
        }
        // All four were due by 14 ms, though nobody looked in between.
        let got = std::iter::from_fn(|| shaper.pop(14 * MS, &SETTINGS)).count();
        assert_eq!(got, 4);
    }

    #[test]
    fn a_lower_delay_does_not_reorder_and_rate_zero_is_unlimited() {
        let mut shaper = Shaper::default();
        let slow = Settings {
            rate_bits_per_sec: 0,
            ..SETTINGS
        };
        let fast = Settings {
            delay: Duration::ZERO,
            ..slow
        };
        assert!(shaper.offer(Duration::ZERO, packet(1), &slow));
        assert!(shaper.offer(MS, packet(2), &fast));
        assert_eq!(shaper.pop(9 * MS, &fast), None);
        assert_eq!(shaper.pop(10 * MS, &fast), Some(packet(1)));
        assert_eq!(shaper.pop(10 * MS, &fast), Some(packet(2)));
    }
}
