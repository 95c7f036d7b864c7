//! Computes the rates of each subflow, from the totals of one look at all subflows to
//! those of a later one.
//!
//! Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Rates cover at least this time, once looks have gone on for that long.
const WINDOW: Duration = Duration::from_secs(2);

/// Totals that are older than this say nothing about what happens now.
const STALE: Duration = Duration::from_secs(10);

/// Payload, bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Sent and acknowledged.
    pub acked: f64,
    /// Received.
    pub received: f64,
}

/// The totals of a subflow.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// Its cookie.
    pub cookie: u64,
    /// Payload bytes acknowledged.
    pub acked: u64,
    /// Payload bytes received.
    pub received: u64,
}

/// The totals that rates refer to, and those that they will refer to next.
#[derive(Debug, Default)]
pub struct Speeds {
    base: Option<Totals>,
    next: Option<Totals>,
}

#[derive(Debug)]
struct Totals {
    at: Instant,
    of: HashMap<u64, Total>,
}

impl Totals {
    fn new(at: Instant, totals: &[Total]) -> Self {
        let of = totals.iter().map(|total| (total.cookie, *total)).collect();
        Self { at, of }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

impl Speeds {
    /// Takes the totals of all open subflows. Returns the rates of those that were
    /// open before, too, by cookie.
    pub fn look(&mut self, now: Instant, totals: &[Total]) -> HashMap<u64, Speed> {
        let stale = |kept: &Option<Totals>| kept.as_ref().is_some_and(|it| it.age(now) > STALE);
        if stale(&self.base) {
            self.base = self.next.take();
        }
        if stale(&self.base) {
            self.base = None;
        }
        let speeds = self.base.as_ref().map_or_else(HashMap::new, |base| {
            let seconds = base.age(now).as_secs_f64();
            let of = |total: &Total| {
                let before = base.of.get(&total.cookie).filter(|_| seconds > 0.0)?;
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                let speed = Speed {
                    acked: rate(total.acked, before.acked),
                    received: rate(total.received, before.received),
                };
                Some((total.cookie, speed))
            };
            totals.iter().filter_map(of).collect()
        });
        if self.base.is_none() {
            self.base = Some(Totals::new(now, totals));
        } else if self
            .next
            .as_ref()
            .is_none_or(|next| next.age(now) >= WINDOW)
        {
            let next = self.next.replace(Totals::new(now, totals));
            self.base = next.or(self.base.take());
        }
        speeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn total(cookie: u64, acked: u64) -> Total {
        Total {
            cookie,
            acked,
            received: 2 * acked,
        }
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let start = Instant::now();
        let mut speeds = Speeds::default();
        assert!(speeds.look(start, &[total(1, 0)]).is_empty());
        // A thousand bytes a second, then none.
        for second in 1..=6_u32 {
            let now = start + second * SECOND;
            let found = speeds.look(now, &[total(1, u64::from(second) * 1000), total(2, 5)]);
            let expected = Speed {
                acked: 1000.0,
                received: 2000.0,
            };
            assert_eq!(found.get(&1), Some(&expected), "second {second}");
            assert_eq!(found.contains_key(&2), second > 3, "second {second}");
        }
        for second in 7..=9 {
            speeds.look(start + second * SECOND, &[total(1, 6000)]);
        }
        let found = speeds.look(start + 10 * SECOND, &[total(1, 6000)]);
        assert_eq!(found.get(&1), Some(&Speed::default()));
    }

    #[test]
    fn old_totals_say_nothing() {
        let start = Instant::now();
        let mut speeds = Speeds::default();
        speeds.look(start, &[total(1, 0)]);
        assert!(speeds.look(start + 11 * SECOND, &[total(1, 9)]).is_empty());
        assert_eq!(speeds.look(start + 12 * SECOND, &[total(1, 9)]).len(), 1);
    }
}
