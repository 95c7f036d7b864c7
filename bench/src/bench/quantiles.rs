//! The quantiles of latencies that are kept for plots: close together where the
//! slowest requests are.

use mptcp_lab::traffic::Latencies;

/// How many quantiles there are for each further nine.
const PER_NINE: u32 = 20;
/// How many nines there are, so the last quantile but one is 0.999.
const NINES: u32 = 3;

/// Returns the part of the samples that each quantile covers, from 0 to 1: the
/// least sample, then 1 - 10^(-n/20), and in the end the largest sample.
pub fn parts() -> impl Iterator<Item = f64> {
    let part = |step: u32| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(PER_NINE));
    (0..=PER_NINE * NINES).map(part).chain([1.0])
}

/// Returns the latency of each of [`parts`] in milliseconds.
pub fn milliseconds(all: &Latencies) -> Vec<f64> {
    let of = |part: f64| all.percentile(part * 100.0).as_secs_f64() * 1e3;
    parts().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn quantiles_go_from_the_least_to_the_largest() {
        let samples = (1..=1000).map(Duration::from_millis).collect();
        let all = milliseconds(&Latencies::new(samples));
        assert_eq!(all.len(), parts().count());
        assert_eq!((all[0], all[20], all[40]), (1.0, 900.0, 990.0));
        assert_eq!((all[60], all[61]), (999.0, 1000.0));
    }
}
