//! Recent figures of each path: its share of the traffic, its rates, and its
//! round-trip time.
//!
//! Pure: samples come in, one a second, with their time.

use std::collections::VecDeque;

use mptcp_common::abi::{PathStats, candidate};

/// The window of `mptcp_path_share_ratio`, in samples of one second.
pub const WINDOW: usize = 10;

/// Totals, by path, over the last [`WINDOW`] samples.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    at_ns: u64,
    paths: Vec<PathStats>,
}

/// The rates of a path, in bytes per second, and its round-trip time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Payload sent, retransmissions included.
    pub sent: f64,
    /// Payload sent and acknowledged.
    pub acked: f64,
    /// Payload received.
    pub received: f64,
    /// Mean of the round-trip times, in seconds; `None` without samples.
    pub rtt_seconds: Option<f64>,
}

/// The packet scheduler's choices among a path's subflows, as in [`PathStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Decisions that chose the path.
    pub decisions: u64,
    /// Decisions for the path that sent nothing.
    pub blocked: u64,
    /// Subflows that decisions looked at, by [`candidate`].
    pub candidates: [u64; candidate::COUNT],
}

impl From<&PathStats> for Choices {
    fn from(stats: &PathStats) -> Self {
        Self {
            decisions: stats.decisions,
            blocked: stats.blocked,
            candidates: stats.candidates,
        }
    }
}

impl Choices {
    /// Returns what came on top of an earlier count.
    fn since(self, before: &Self) -> Self {
        Self {
            decisions: self.decisions.saturating_sub(before.decisions),
            blocked: self.blocked.saturating_sub(before.blocked),
            candidates: std::array::from_fn(|state| {
                self.candidates[state].saturating_sub(before.candidates[state])
            }),
        }
    }

    /// Returns the sum of two counts.
    pub fn plus(self, other: &Self) -> Self {
        Self {
            decisions: self.decisions + other.decisions,
            blocked: self.blocked + other.blocked,
            candidates: std::array::from_fn(|state| {
                self.candidates[state] + other.candidates[state]
            }),
        }
    }
}

impl History {
    /// Adds the totals as they are at `at_ns` and forgets what is older than
    /// the window.
    pub fn push(&mut self, at_ns: u64, paths: Vec<PathStats>) {
        if self.samples.len() > WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at_ns, paths });
    }

    /// Resets a path's totals in all samples, because its index went to another
    /// path.
    pub fn forget(&mut self, path: u32) {
        for sample in &mut self.samples {
            if let Some(stats) = sample.paths.get_mut(path as usize) {
                *stats = PathStats::default();
            }
        }
    }

    /// Returns the share of each path, by index, from 0 to 1; `None` without
    /// traffic.
    pub fn shares(&self) -> Option<Vec<f64>> {
        let (first, last) = self.samples.front().zip(self.samples.back())?;
        let fresh: Vec<u64> = last
            .paths
            .iter()
            .zip(&first.paths)
            .map(|(last, first)| last.acked_bytes.saturating_sub(first.acked_bytes))
            .collect();
        let total: u64 = fresh.iter().sum();
        (total != 0).then(|| {
            fresh
                .iter()
                .map(|&bytes| bytes as f64 / total as f64)
                .collect()
        })
    }

    /// Returns what a path did; the rates are zero before there are two
    /// samples.
    pub fn rates(&self, path: u32) -> Rates {
        let both = self.samples.front().zip(self.samples.back());
        let totals = both.and_then(|(first, last)| {
            let of = |sample: &Sample| sample.paths.get(path as usize).copied();
            let seconds = last.at_ns.saturating_sub(first.at_ns) as f64 / 1e9;
            Some((of(first)?, of(last)?, seconds)).filter(|(.., seconds)| *seconds > 0.0)
        });
        let Some((first, last, seconds)) = totals else {
            return Rates::default();
        };
        let fresh = |total: fn(&PathStats) -> u64| total(&last).saturating_sub(total(&first));
        let rate = |total| fresh(total) as f64 / seconds;
        let samples = fresh(|stats| stats.rtt.iter().sum());
        let sum_us = fresh(|stats| stats.rtt_sum_us) as f64;
        Rates {
            sent: rate(|stats| stats.sent_bytes),
            acked: rate(|stats| stats.acked_bytes),
            received: rate(|stats| stats.received_bytes),
            rtt_seconds: (samples != 0).then(|| sum_us / samples as f64 / 1e6),
        }
    }

    /// Returns what the packet scheduler did with a path within the window.
    pub fn choices(&self, path: u32) -> Choices {
        let of = |sample: &Sample| sample.paths.get(path as usize).map(Choices::from);
        let first = self.samples.front().and_then(of);
        let last = self.samples.back().and_then(of);
        let both = first.zip(last);
        both.map_or_else(Choices::default, |(first, last)| last.since(&first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Pushes a sample of acked bytes, a second after the last.
    fn push(history: &mut History, acked: &[u64]) {
        let at_ns = history.samples.back().map_or(0, |last| last.at_ns) + SECOND;
        let stats = |&acked_bytes: &u64| PathStats {
            acked_bytes,
            ..PathStats::default()
        };
        history.push(at_ns, acked.iter().map(stats).collect());
    }

    #[test]
    fn absent_without_two_samples_or_without_traffic() {
        let mut history = History::default();
        assert_eq!(history.shares(), None);
        assert_eq!(history.rates(0), Rates::default());
        push(&mut history, &[5, 5]);
        assert_eq!(history.shares(), None);
        push(&mut history, &[5, 5]);
        assert_eq!(history.shares(), None);
        push(&mut history, &[8, 6]);
        assert_eq!(history.shares(), Some(vec![0.75, 0.25]));
    }

    #[test]
    fn only_the_last_ten_seconds_count() {
        let mut history = History::default();
        push(&mut history, &[0, 0]);
        push(&mut history, &[1000, 0]);
        for second in 1..=9_u64 {
            push(&mut history, &[1000, second]);
        }
        // Ten seconds back is the first sample.
        assert_eq!(history.shares(), Some(vec![1000.0 / 1009.0, 9.0 / 1009.0]));
        push(&mut history, &[1000, 10]);
        assert_eq!(history.shares(), Some(vec![0.0, 1.0]));
        for _ in 0..WINDOW {
            push(&mut history, &[1000, 10]);
        }
        assert_eq!(history.shares(), None);
    }

    #[test]
    fn rates_are_per_second_and_round_trips_a_mean() {
        let mut history = History::default();
        let mut stats = PathStats::default();
        history.push(SECOND, vec![stats]);
        stats.sent_bytes = 3000;
        stats.acked_bytes = 2000;
        stats.received_bytes = 100;
        stats.rtt[2] = 3;
        stats.rtt[5] = 1;
        stats.rtt_sum_us = 8_000;
        history.push(3 * SECOND, vec![stats]);
        assert_eq!(
            history.rates(0),
            Rates {
                sent: 1500.0,
                acked: 1000.0,
                received: 50.0,
                rtt_seconds: Some(0.002),
            }
        );
        assert_eq!(history.rates(1), Rates::default());
        history.forget(0);
        assert_eq!(history.rates(0), Rates::default());
    }

    #[test]
    fn choices_are_those_of_the_window() {
        let mut history = History::default();
        assert_eq!(history.choices(0), Choices::default());
        let mut stats = PathStats {
            decisions: 100,
            ..PathStats::default()
        };
        history.push(SECOND, vec![stats]);
        stats.decisions = 107;
        stats.blocked = 2;
        stats.candidates[usize::from(candidate::STANDBY)] = 9;
        history.push(2 * SECOND, vec![stats]);
        let mut candidates = [0; candidate::COUNT];
        candidates[usize::from(candidate::STANDBY)] = 9;
        let expected = Choices {
            decisions: 7,
            blocked: 2,
            candidates,
        };
        assert_eq!(history.choices(0), expected);
        assert_eq!(expected.plus(&expected).decisions, 14);
    }

    proptest! {
        #[test]
        fn shares_are_ratios_that_add_up_to_one(
            steps in prop::collection::vec(prop::collection::vec(0_u64..1 << 40, 3), 0..30)
        ) {
            let mut history = History::default();
            let mut totals = vec![0_u64; 3];
            for step in steps {
                for (total, bytes) in totals.iter_mut().zip(step) {
                    *total += bytes;
                }
                push(&mut history, &totals);
                if let Some(shares) = history.shares() {
                    prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
                    prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                }
            }
        }
    }
}
