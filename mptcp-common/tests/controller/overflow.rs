//! The overflow policy against simulated paths.

use proptest::prelude::*;

use super::simulation::{Link, Load, Simulation};
use super::{MBIT, backup, link, rate, seed, shares};

/// Returns a connection under the overflow policy.
fn overflowing(links: &[Link]) -> Simulation {
    let mut simulation = Simulation::new(links, 7);
    simulation.overflows();
    simulation
}

/// Pairs of links, the preferred one first.
fn pairs() -> [[Link; 2]; 4] {
    [
        [link(40.0, 20, 2), link(20.0, 60, 1)],
        [link(100.0, 1, 2), link(50.0, 1, 1)],
        [link(15.0, 60, 2), link(50.0, 10, 1)],
        [link(20.0, 20, 2), link(10.0, 80, 1)],
    ]
}

/// Runs a load of `bytes` each `every_ms`.
fn bursts(simulation: &mut Simulation, bytes: f64, every_ms: u64, count: u64) -> Vec<u64> {
    let mut acked = vec![0; 2];
    for _ in 0..count {
        let first = simulation.run(1, Load::Rate(bytes * 1000.0));
        let rest = simulation.run(every_ms - 1, Load::Rate(0.0));
        for (sum, (one, other)) in acked.iter_mut().zip(first.iter().zip(rest)) {
            *sum += one + other;
        }
    }
    acked
}

#[test]
fn a_load_that_fits_the_preferred_path_stays_there() {
    for links in pairs() {
        for part in [0.2, 0.5, 0.7] {
            let mut simulation = overflowing(&links);
            let offered = part * links[0].rate;
            // At first the path's window is too small for the load.
            simulation.run(2000, Load::Rate(offered));
            let acked = simulation.run(20_000, Load::Rate(offered));
            assert!(shares(&acked)[1] < 0.01, "{links:?} {part}: {acked:?}");
            let carried = rate(&acked, 20_000) / offered;
            assert!(carried > 0.95, "{links:?} {part}: {carried:.3} of the load");
        }
    }
}

#[test]
fn frames_and_requests_never_touch_the_next_path() {
    for links in pairs() {
        let mut simulation = overflowing(&links);
        let acked = bursts(&mut simulation, 8192.0, 33, 300);
        assert_eq!(acked[1], 0, "frames on {links:?}");
        for size in [200.0, 8_000.0, 30_000.0] {
            let mut simulation = overflowing(&links);
            let acked = simulation.run(10_000, Load::Requests(size));
            assert_eq!(acked[1], 0, "requests of {size} on {links:?}");
            assert!(acked[0] > 0, "requests of {size} on {links:?}");
        }
    }
}

#[test]
fn bulk_fills_both_paths_within_two_seconds() {
    for links in pairs() {
        let mut simulation = overflowing(&links);
        simulation.run(2000, Load::Bulk);
        let acked = simulation.run(5000, Load::Bulk);
        let sum = links[0].rate + links[1].rate;
        let reached = rate(&acked, 5000) / sum;
        assert!(
            reached > 0.9,
            "{links:?}: {reached:.3} of the sum, {acked:?}"
        );
    }
}

#[test]
fn the_next_path_is_left_once_the_load_fits_again() {
    for links in pairs() {
        let mut simulation = overflowing(&links);
        simulation.run(4000, Load::Bulk);
        simulation.run(1000, Load::Idle);
        simulation.run(4000, Load::Rate(0.4 * links[0].rate));
        let acked = simulation.run(5000, Load::Rate(0.4 * links[0].rate));
        assert!(shares(&acked)[1] < 0.001, "{links:?}: {acked:?}");
        // And taken again.
        simulation.run(2000, Load::Bulk);
        let acked = simulation.run(2000, Load::Bulk);
        assert!(acked[1] > 0, "{links:?}: {acked:?}");
    }
}

#[test]
fn the_third_path_is_used_once_two_are_full() {
    let links = [link(20.0, 20, 3), link(20.0, 30, 2), link(20.0, 40, 1)];
    let mut simulation = overflowing(&links);
    simulation.run(2000, Load::Rate(30.0 * MBIT));
    let acked = simulation.run(5000, Load::Rate(30.0 * MBIT));
    assert!(shares(&acked)[2] < 0.01, "{acked:?}");
    simulation.run(2000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    let reached = rate(&acked, 5000) / (60.0 * MBIT);
    assert!(reached > 0.9, "{reached:.3} of the sum: {acked:?}");
}

#[test]
fn a_dead_preferred_path_lets_the_next_in_and_comes_back() {
    let links = [link(40.0, 20, 2), link(20.0, 40, 1)];
    let mut simulation = overflowing(&links);
    let load = Load::Rate(10.0 * MBIT);
    simulation.run(3000, load);
    simulation.link(0).rate = 0.0;
    simulation.run(3000, load);
    let acked = simulation.run(3000, load);
    assert!(rate(&acked, 3000) > 0.8 * 10.0 * MBIT, "{acked:?}");
    simulation.link(0).rate = links[0].rate;
    simulation.run(15_000, load);
    let acked = simulation.run(5000, load);
    assert!(shares(&acked)[1] < 0.01, "{acked:?}");
}

#[test]
fn a_backup_is_used_only_if_it_is_all_there_is() {
    let links = [backup(40.0, 20, 2), link(20.0, 40, 1)];
    let mut simulation = overflowing(&links);
    simulation.run(2000, Load::Bulk);
    let acked = simulation.run(3000, Load::Bulk);
    assert_eq!(acked[0], 0);
    assert!(rate(&acked, 3000) > 0.8 * links[1].rate, "{acked:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    /// Whatever the paths are, a load that fits all of them together is carried.
    #[test]
    fn no_load_gets_stuck(
        rates in prop::collection::vec(2.0_f64..60.0, 2..4),
        rtts in prop::collection::vec(1_u64..150, 4),
        part in 0.1_f64..0.9,
        seed in 1_u64..,
    ) {
        let links: Vec<Link> = (1..)
            .zip(rates.iter().zip(&rtts))
            .map(|(weight, (&rate, &rtt))| link(rate, rtt, weight))
            .collect();
        let mut simulation = Simulation::new(&links, seed);
        simulation.overflows();
        let sum: f64 = links.iter().map(|link| link.rate).sum();
        simulation.run(5000, Load::Rate(part * sum));
        let acked = simulation.run(5000, Load::Rate(part * sum));
        let carried = rate(&acked, 5000) / (part * sum);
        prop_assert!(carried > 0.8, "{:?} {part}: {carried:.3}, {acked:?}", links);
    }
}
