//! Computes how much each path of a transfer carries, from the counters of the
//! sender's kernel, and how much it could carry at best.

mod totals;

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::kernel::SubflowInfo;
use crate::link::{Link, Path};
use crate::traffic::{Server, Transfer};

pub use totals::Totals;

/// The counters of an upload at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When the counters were read.
    pub at: Instant,
    /// Acknowledged bytes of each path's subflows, in the order of the links.
    pub acked: Vec<u64>,
    /// Bytes that the server's application has received.
    pub delivered: u64,
}

/// The difference of two samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The length of the window.
    pub seconds: f64,
    /// Acknowledged bytes of each path.
    pub acked: Vec<u64>,
    /// Bytes that the server's application has received.
    pub delivered: u64,
}

impl Sample {
    /// Reads the counters of the kernel and of the server now.
    pub fn take(transfer: &Transfer, sink: &Server, links: &[Link]) -> Result<Self> {
        let subflows = transfer.subflows()?;
        Ok(Self {
            at: Instant::now(),
            acked: acked_by_path(&subflows, links),
            delivered: sink.received(),
        })
    }

    /// Returns the difference to an earlier sample.
    ///
    /// # Errors
    /// A path has lost a subflow, and the subflow's count with it.
    pub fn since(&self, earlier: &Self) -> Result<Window> {
        let pairs = self.acked.iter().zip(&earlier.acked);
        let acked = pairs.map(|(now, then)| now.checked_sub(*then));
        Ok(Window {
            seconds: self.at.duration_since(earlier.at).as_secs_f64(),
            acked: acked
                .collect::<Option<_>>()
                .context("a path has lost a subflow")?,
            delivered: self.delivered - earlier.delivered,
        })
    }
}

impl Window {
    /// Returns each path's share of the acknowledged bytes, or zeros if there are
    /// none.
    pub fn shares(&self) -> Vec<f64> {
        let total: u64 = self.acked.iter().sum();
        let share = |&acked| acked as f64 / total.max(1) as f64;
        self.acked.iter().map(share).collect()
    }

    /// Returns the rate at which the application received, in Mbit/s.
    pub fn goodput_mbit(&self) -> f64 {
        self.delivered as f64 * 8e-6 / self.seconds
    }

    /// Returns the rate that each path carried, in Mbit/s.
    pub fn rates_mbit(&self) -> Vec<f64> {
        let rate = |&acked| acked as f64 * 8e-6 / self.seconds;
        self.acked.iter().map(rate).collect()
    }
}

/// Sums the acknowledged bytes of the client's subflows by the link through
/// which each leaves.
pub fn acked_by_path(subflows: &[SubflowInfo], links: &[Link]) -> Vec<u64> {
    let on = |link: &Link| {
        let of_link = |subflow: &&SubflowInfo| subflow.local.ip() == link.client_addr;
        let acked = subflows.iter().filter(of_link).map(|one| one.bytes_acked);
        acked.sum()
    };
    links.iter().map(on).collect()
}

/// Returns the shares that the weights ask for.
pub fn targets(weights: &[u16]) -> Vec<f64> {
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    weights.iter().map(|&w| f64::from(w) / sum).collect()
}

/// Returns the largest distance of a share from its target.
pub fn deviation(shares: &[f64], targets: &[f64]) -> f64 {
    let distances = shares.iter().zip(targets).map(|(a, b)| (a - b).abs());
    distances.fold(0.0, f64::max)
}

/// Returns the largest possible goodput, in Mbit/s, at which every path has the
/// share that its weight asks for and no path exceeds its rate.
///
/// # Errors
/// A path has no rate, so there is no bound.
pub fn bound_mbit(paths: &[Path], weights: &[u16]) -> Result<f64> {
    ensure!(paths.len() == weights.len(), "a weight for each path");
    let goodputs = goodputs_mbit(paths)?;
    let full = goodputs.iter().zip(targets(weights));
    // A path with the weight 0 does not limit the others.
    let full = full.filter(|(_, share)| *share > 0.0);
    Ok(full.fold(f64::INFINITY, |least, (goodput, share)| {
        least.min(goodput / share)
    }))
}

/// Returns the largest goodput of all paths together, in Mbit/s, for any shares.
///
/// # Errors
/// A path has no rate.
pub fn sum_mbit(paths: &[Path]) -> Result<f64> {
    Ok(goodputs_mbit(paths)?.iter().sum())
}

fn goodputs_mbit(paths: &[Path]) -> Result<Vec<f64>> {
    let each = paths.iter().map(Path::goodput_mbit);
    each.collect::<Option<_>>().context("a path without a rate")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn windows_are_differences() -> Result<()> {
        let earlier = Sample {
            at: Instant::now(),
            acked: vec![1000, 500],
            delivered: 1500,
        };
        let later = Sample {
            at: earlier.at + Duration::from_secs(2),
            acked: vec![4_001_000, 1_000_500],
            delivered: 5_001_500,
        };
        let window = later.since(&earlier)?;
        assert_eq!(window.shares(), [0.8, 0.2]);
        assert_eq!(window.rates_mbit(), [16.0, 4.0]);
        assert_eq!(window.goodput_mbit(), 20.0);
        assert!(earlier.since(&later).is_err());
        Ok(())
    }

    #[test]
    fn the_bound_is_where_the_first_path_is_full() -> Result<()> {
        let paths = [
            Path::new("p1").rate_mbit(100.0),
            Path::new("p2").rate_mbit(50.0),
        ];
        let (one, two) = (goodputs_mbit(&paths)?[0], goodputs_mbit(&paths)?[1]);
        assert_eq!(bound_mbit(&paths, &[4, 1])?, one / 0.8);
        assert_eq!(bound_mbit(&paths, &[1, 1])?, two * 2.0);
        assert_eq!(bound_mbit(&paths, &[0, 7])?, two);
        assert_eq!(sum_mbit(&paths)?, one + two);
        assert!(bound_mbit(&[Path::new("p3")], &[1]).is_err());
        Ok(())
    }

    #[test]
    fn deviations_are_the_worst_paths() {
        assert_eq!(targets(&[3, 2, 1])[2], 1.0 / 6.0);
        assert!((deviation(&[0.79, 0.21], &targets(&[4, 1])) - 0.01).abs() < 1e-9);
    }
}
