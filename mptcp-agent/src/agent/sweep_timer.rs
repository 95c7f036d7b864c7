//! Decides when the sockets are swept again after something has happened.
//!
//! A standby path is held out and reopened by the callbacks of its own sockets.
//! An idle socket has no callbacks, so a sweep follows whenever another path
//! may have come or gone. A sweep visits every socket of the network namespace,
//! so there are limits to how often it runs.
//!
//! Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Least time from one sweep to the next.
const INTERVAL: Duration = Duration::from_millis(50);

/// Sweeps take at most one `DUTY`th of the time.
const DUTY: u32 = 10;

/// Lets many requests share one sweep.
#[derive(Debug, Default)]
pub struct SweepTimer {
    due: Option<Instant>,
    not_before: Option<Instant>,
}

impl SweepTimer {
    /// Asks for a sweep: at once, or as soon as the limits allow.
    pub fn request(&mut self, now: Instant) {
        let earliest = self.not_before.map_or(now, |limit| limit.max(now));
        self.due.get_or_insert(earliest);
    }

    /// Returns when the next sweep is due, if one was requested.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes note that a sweep ran from `start` to `end`, for whatever reason.
    pub fn done(&mut self, start: Instant, end: Instant) {
        self.due = None;
        self.not_before = Some(start + INTERVAL.max((end - start) * DUTY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_request_is_due_at_once_and_a_burst_is_one() {
        let start = Instant::now();
        let mut timer = SweepTimer::default();
        assert_eq!(timer.due(), None);
        timer.request(start);
        timer.request(start + MS);
        assert_eq!(timer.due(), Some(start));
        timer.done(start, start + MS);
        assert_eq!(timer.due(), None);
        timer.request(start + 2 * MS);
        timer.request(start + 3 * MS);
        assert_eq!(timer.due(), Some(start + INTERVAL));
    }

    #[test]
    fn slow_sweeps_are_rare() {
        let start = Instant::now();
        let mut timer = SweepTimer::default();
        timer.done(start, start + 40 * MS);
        timer.request(start + 41 * MS);
        assert_eq!(timer.due(), Some(start + 400 * MS));
        timer.done(start + 400 * MS, start + 401 * MS);
        timer.request(start + 900 * MS);
        assert_eq!(timer.due(), Some(start + 900 * MS));
    }
}
