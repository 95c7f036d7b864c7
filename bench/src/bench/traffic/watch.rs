//! Watches what all connections of a host carry, in windows.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mptcp_lab::Link;
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::share::{self, Totals, Window};
use mptcp_lab::traffic::Crowding;

/// The length of a window.
pub const WINDOW: Duration = Duration::from_secs(5);
/// The time between two readings of the counters. A subflow that goes takes with
/// it what it has carried since the last one.
const READING: Duration = Duration::from_secs(1);

/// Adds up what connections carry. The subflows of each connection come from `read`.
pub struct Watch<R> {
    read: R,
    addresses: Vec<IpAddr>,
    totals: Totals,
}

/// The counters at one moment.
struct Edge {
    at: Instant,
    paths: Vec<u64>,
    delivered: u64,
}

/// The windows of one measurement.
pub struct Watched {
    /// The windows, one after the other.
    pub windows: Vec<Window>,
    /// All windows as one.
    pub whole: Window,
    /// The rate of the slowest connection, as a part of the mean.
    pub slowest: f64,
}

impl<R: Fn() -> Result<Vec<Vec<SubflowInfo>>>> Watch<R> {
    /// Watches the connections over these links.
    pub fn new(links: &[Link], read: R) -> Self {
        Self {
            read,
            addresses: links.iter().map(|link| link.client_addr).collect(),
            totals: Totals::default(),
        }
    }

    /// Measures `count` windows of this length, starting now. `delivered` counts the
    /// bytes that the receiver has; `second` is called at the start of each second,
    /// with its number.
    pub fn windows(
        &mut self,
        count: u32,
        length: Duration,
        delivered: impl Fn() -> u64,
        second: impl Fn(u32) -> Result<()>,
    ) -> Result<Watched> {
        let (start, before) = (Instant::now(), self.reading()?.connections.clone());
        let readings = (length.as_secs() / READING.as_secs()) as u32;
        let mut edges = Vec::new();
        for number in 0..=count * readings {
            let due = start + READING * number;
            sleep(due.saturating_duration_since(Instant::now()));
            let paths = self.reading()?.paths.clone();
            if number % readings == 0 {
                edges.push(Edge {
                    at: Instant::now(),
                    paths,
                    delivered: delivered(),
                });
            }
            if number < count * readings {
                second(number)?;
            }
        }
        let (first, last) = (edges.first(), edges.last());
        let (first, last) = first.zip(last).context("no window")?;
        Ok(Watched {
            windows: edges
                .windows(2)
                .map(|pair| pair[1].since(&pair[0]))
                .collect(),
            whole: last.since(first),
            slowest: slowest(&self.totals.connections, &before),
        })
    }

    fn reading(&mut self) -> Result<&Totals> {
        self.totals.read(&(self.read)()?, &self.addresses);
        Ok(&self.totals)
    }
}

impl Edge {
    fn since(&self, earlier: &Self) -> Window {
        let pairs = self.paths.iter().zip(&earlier.paths);
        Window {
            seconds: self.at.duration_since(earlier.at).as_secs_f64(),
            acked: pairs.map(|(now, then)| now - then).collect(),
            delivered: self.delivered - earlier.delivered,
        }
    }
}

/// Returns what the slowest connection carried, as a part of the mean.
fn slowest(now: &[u64], before: &[u64]) -> f64 {
    let each = || now.iter().zip(before).map(|(now, then)| now - then);
    let mean = each().sum::<u64>() as f64 / now.len() as f64;
    each().min().unwrap_or(0) as f64 / mean
}

impl Watched {
    /// Returns the largest distance of a path's share in any window from what the
    /// weights ask for.
    pub fn worst_window(&self, weights: &[u16]) -> f64 {
        let targets = share::targets(weights);
        let off = |window: &Window| share::deviation(&window.shares(), &targets);
        self.windows.iter().map(off).fold(0.0, f64::max)
    }

    /// Returns the distance of the share of all windows together from what the
    /// weights ask for.
    pub fn off(&self, weights: &[u16]) -> f64 {
        share::deviation(&self.whole.shares(), &share::targets(weights))
    }
}

/// Returns the subflows of all connections of these crowds.
pub fn subflows(crowds: &[&Crowding]) -> Result<Vec<Vec<SubflowInfo>>> {
    let each = crowds.iter().map(|crowd| crowd.subflows());
    Ok(each.collect::<Result<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_is_compared_with_the_mean() {
        assert_eq!(slowest(&[150, 130], &[100, 100]), 0.75);
        assert!(slowest(&[], &[]).is_nan());
    }
}
