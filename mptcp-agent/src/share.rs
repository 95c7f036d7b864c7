//! Which part of the traffic each path carried lately.
//!
//! Pure: samples come in, one a second; a ratio comes out.

use std::collections::VecDeque;

/// The window of `mptcp_path_share_ratio`, in samples of one second.
pub const WINDOW: usize = 10;

/// Totals of acked bytes, by path, over the last [`WINDOW`] samples.
#[derive(Debug, Default)]
pub struct ShareWindow {
    samples: VecDeque<Vec<u64>>,
}

impl ShareWindow {
    /// Adds the totals as they are now and forgets what is older than the
    /// window.
    pub fn push(&mut self, acked_bytes: Vec<u64>) {
        if self.samples.len() > WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(acked_bytes);
    }

    /// The share of each path, by index, 0 to 1; `None` without traffic.
    pub fn shares(&self) -> Option<Vec<f64>> {
        let (first, last) = self.samples.front().zip(self.samples.back())?;
        let fresh: Vec<u64> = last
            .iter()
            .zip(first)
            .map(|(last, first)| last.saturating_sub(*first))
            .collect();
        let total: u64 = fresh.iter().sum();
        (total != 0).then(|| {
            fresh
                .iter()
                .map(|&bytes| bytes as f64 / total as f64)
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absent_without_two_samples_or_without_traffic() {
        let mut window = ShareWindow::default();
        assert_eq!(window.shares(), None);
        window.push(vec![5, 5]);
        assert_eq!(window.shares(), None);
        window.push(vec![5, 5]);
        assert_eq!(window.shares(), None);
        window.push(vec![8, 6]);
        assert_eq!(window.shares(), Some(vec![0.75, 0.25]));
    }

    #[test]
    fn only_the_last_ten_seconds_count() {
        let mut window = ShareWindow::default();
        window.push(vec![0, 0]);
        window.push(vec![1000, 0]);
        for second in 1..=9_u64 {
            window.push(vec![1000, second]);
        }
        // Ten seconds back is the first sample.
        assert_eq!(window.shares(), Some(vec![1000.0 / 1009.0, 9.0 / 1009.0]));
        window.push(vec![1000, 10]);
        assert_eq!(window.shares(), Some(vec![0.0, 1.0]));
        for _ in 0..WINDOW {
            window.push(vec![1000, 10]);
        }
        assert_eq!(window.shares(), None);
    }

    proptest! {
        #[test]
        fn shares_are_ratios_that_add_up_to_one(
            steps in prop::collection::vec(prop::collection::vec(0_u64..1 << 40, 3), 0..30)
        ) {
            let mut window = ShareWindow::default();
            let mut totals = vec![0_u64; 3];
            for step in steps {
                for (total, bytes) in totals.iter_mut().zip(step) {
                    *total += bytes;
                }
                window.push(totals.clone());
                if let Some(shares) = window.shares() {
                    prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
                    prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                }
            }
        }
    }
}
