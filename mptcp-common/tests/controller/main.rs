//! Tests the weighted controller against simulated paths: tables of cases that
//! a user would name, and random cases that nobody thought of.

mod host;
mod limit;
mod overflow;
mod simulation;

use mptcp_common::abi::{MAX_PATHS, Policy, capability};
use mptcp_common::controller::{
    Asked, Controller, MAX_WEIGHT, NO_CAP, STEP_NS, THIN_BYTES_PER_SEC,
};
use proptest::{prelude::*, test_runner::RngSeed};
use simulation::{Link, Load, Simulation};

const MBIT: f64 = 125_000.0;

fn link(mbit: f64, rtt_ms: u64, weight: u32) -> Link {
    Link {
        rate: mbit * MBIT,
        rtt_ms,
        loss: 0.0,
        weight,
        backup: false,
    }
}

/// Returns the rate that a link carries alone, bytes per second. Under loss and
/// long round trips its congestion control decides that, not the policy.
fn alone(link: &Link, settle_ms: u64) -> f64 {
    let mut simulation = Simulation::new(std::slice::from_ref(link), 7);
    simulation.run(settle_ms, Load::Bulk);
    rate(&simulation.run(5000, Load::Bulk), 5000)
}

/// Returns the links, each with the rate that it carries alone.
fn carried(links: &[Link], settle_ms: u64) -> Vec<Link> {
    let link = |link: &Link| Link {
        rate: alone(link, settle_ms),
        ..link.clone()
    };
    links.iter().map(link).collect()
}

/// Returns the largest rate at which every path keeps its share and none
/// exceeds its link, bytes per second.
fn bound(links: &[Link]) -> f64 {
    let weights: u32 = links.iter().map(|link| link.weight).sum();
    links
        .iter()
        .filter(|link| link.weight != 0)
        .map(|link| link.rate * f64::from(weights) / f64::from(link.weight))
        .fold(f64::INFINITY, f64::min)
}

fn shares(acked: &[u64]) -> Vec<f64> {
    let sum: u64 = acked.iter().sum();
    acked
        .iter()
        .map(|bytes| *bytes as f64 / sum.max(1) as f64)
        .collect()
}

fn worst(acked: &[u64], links: &[Link]) -> f64 {
    let weights: u32 = links.iter().map(|link| link.weight).sum();
    shares(acked)
        .iter()
        .zip(links)
        .map(|(share, link)| (share - f64::from(link.weight) / f64::from(weights)).abs())
        .fold(0.0, f64::max)
}

fn rate(acked: &[u64], ms: u64) -> f64 {
    acked.iter().sum::<u64>() as f64 * 1000.0 / ms as f64
}

#[test]
fn bulk_keeps_the_ratio_at_nearly_all_of_the_rate_it_allows() {
    for links in [
        vec![link(100.0, 1, 1), link(50.0, 1, 1)],
        vec![link(100.0, 1, 4), link(50.0, 1, 1)],
        vec![link(100.0, 1, 1), link(50.0, 1, 9)],
        vec![link(50.0, 10, 1), link(15.0, 60, 1)],
        vec![link(50.0, 10, 4), link(15.0, 60, 1)],
        vec![link(60.0, 5, 3), link(30.0, 20, 2), link(20.0, 40, 1)],
        vec![link(20.0, 5, 1), link(20.0, 200, 1)],
    ] {
        let mut simulation = Simulation::new(&links, 7);
        simulation.run(4000, Load::Bulk);
        let acked = simulation.run(5000, Load::Bulk);
        assert!(
            worst(&acked, &links) < 0.02,
            "{links:?}: {:?}",
            shares(&acked)
        );
        let reached = rate(&acked, 5000) / bound(&carried(&links, 4000));
        assert!(reached > 0.75, "{links:?}: {reached:.3} of the bound");
    }
}

#[test]
fn a_load_below_the_bound_keeps_the_ratio_and_is_carried() {
    for links in [
        vec![link(100.0, 1, 4), link(50.0, 1, 1)],
        vec![link(100.0, 1, 1), link(50.0, 1, 9)],
        vec![link(50.0, 10, 4), link(15.0, 60, 1)],
    ] {
        let offered = bound(&links) * 0.4;
        let mut simulation = Simulation::new(&links, 7);
        simulation.run(4000, Load::Rate(offered));
        let acked = simulation.run(5000, Load::Rate(offered));
        assert!(
            worst(&acked, &links) < 0.03,
            "{links:?}: {:?}",
            shares(&acked)
        );
        let carried = rate(&acked, 5000) / offered;
        assert!(
            (0.97..1.05).contains(&carried),
            "{links:?}: {carried:.3} of the load"
        );
    }
}

#[test]
fn a_thin_connection_is_left_alone() {
    let links = [link(100.0, 1, 1), link(50.0, 1, 9)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(5000, Load::Rate(10_000.0));
    for slot in &simulation.controller().slots[..2] {
        assert_eq!(slot.cap.get(), u64::from(u32::MAX));
    }
}

#[test]
fn a_connection_that_is_thin_on_each_path_alone_is_steered() {
    let links = [link(100.0, 1, 1), link(50.0, 1, 1)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(5000, Load::Rate(100_000.0));
    let slots = &simulation.controller().slots[..2];
    assert!(
        slots
            .iter()
            .all(|slot| slot.rate.get() < THIN_BYTES_PER_SEC)
    );
    assert!(slots.iter().any(|slot| slot.cap.get() < u64::from(NO_CAP)));
}

#[test]
fn who_asks_and_waits_is_not_held_back() {
    let links = [link(40.0, 1, 1), link(20.0, 1, 1)];
    let requests = Load::Requests(32_000.0);
    let mut stock = Simulation::new(&links[..1], 7);
    stock.run(10_000, requests);
    let stock = rate(&stock.run(10_000, requests), 10_000);
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(10_000, requests);
    let reached = rate(&simulation.run(10_000, requests), 10_000) / stock;
    assert!(reached > 0.9, "{reached:.3} of the rate without a policy");
}

#[test]
fn a_dead_path_is_left_out_and_taken_back() {
    let links = [link(50.0, 10, 1), link(40.0, 20, 1)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(3000, Load::Bulk);
    simulation.link(1).rate = 0.0;
    simulation.run(3000, Load::Bulk);
    let acked = simulation.run(2000, Load::Bulk);
    let dead = &simulation.controller().slots[1];
    assert_eq!(dead.dead.get(), 1);
    // Without a cap the kernel would fill the path's queue, because the path was fast
    // until it died.
    assert!(dead.cap.get() < u64::from(NO_CAP));
    assert!(rate(&acked, 2000) > 0.8 * links[0].rate, "{acked:?}");
    simulation.link(1).rate = links[1].rate;
    // The path's own retransmission timer, which is long by now, has to fire
    // first.
    simulation.run(9000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    assert!(worst(&acked, &links) < 0.03, "{:?}", shares(&acked));
}

#[test]
fn standby_carries_nothing_until_it_is_needed() {
    let links = [link(50.0, 10, 1), link(40.0, 20, 0)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(2000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    assert!(shares(&acked)[1] < 0.001, "{acked:?}");
    assert!(rate(&acked, 5000) > 0.85 * links[0].rate, "{acked:?}");
    simulation.link(0).rate = 0.0;
    simulation.run(3000, Load::Bulk);
    let acked = simulation.run(3000, Load::Bulk);
    assert!(rate(&acked, 3000) > 0.8 * links[1].rate, "{acked:?}");
}

fn backup(mbit: f64, rtt_ms: u64, weight: u32) -> Link {
    Link {
        backup: true,
        ..link(mbit, rtt_ms, weight)
    }
}

#[test]
fn a_backup_is_left_out_of_the_ratio_until_it_is_all_there_is() {
    let links = [link(60.0, 5, 4), link(40.0, 5, 1), backup(20.0, 200, 1)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(4000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    assert!(worst(&acked[..2], &links[..2]) < 0.02, "{acked:?}");
    assert_eq!(acked[2], 0);
    let reached = rate(&acked, 5000) / bound(&carried(&links[..2], 4000));
    assert!(reached > 0.75, "{reached:.3} of the bound");

    // The backup becomes an ordinary path, and then a backup again.
    simulation.link(2).backup = false;
    simulation.run(6000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    assert!(worst(&acked, &links) < 0.03, "{:?}", shares(&acked));
    simulation.link(2).backup = true;
    simulation.run(4000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    assert!(worst(&acked[..2], &links[..2]) < 0.02, "{acked:?}");

    simulation.link(0).rate = 0.0;
    simulation.link(1).rate = 0.0;
    simulation.run(6000, Load::Bulk);
    let acked = simulation.run(3000, Load::Bulk);
    // The backup's window was small, and grows by one segment per round trip of
    // 200 ms.
    assert!(rate(&acked, 3000) > 0.5 * links[2].rate, "{acked:?}");
}

/// The kernel uses no backup while there is a path that is none, even if that
/// path is held out.
#[test]
fn standby_yields_to_no_backup() {
    let links = [link(50.0, 5, 0), backup(50.0, 5, 1), backup(50.0, 5, 0)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.run(2000, Load::Bulk);
    let acked = simulation.run(3000, Load::Bulk);
    assert!(rate(&acked, 3000) > 0.8 * links[0].rate, "{acked:?}");
    assert!(shares(&acked)[0] > 0.99, "{acked:?}");
    simulation.link(0).rate = 0.0;
    simulation.run(6000, Load::Bulk);
    let acked = simulation.run(3000, Load::Bulk);
    // Data that the dead path times out on goes to an idle path, even if that
    // path is held out.
    assert!(shares(&acked)[1] > 0.95, "{acked:?}");
}

#[test]
fn spill_fills_the_links_and_keeps_the_ratio_below_that() {
    let links = [link(50.0, 5, 4), link(50.0, 5, 1)];
    let mut simulation = Simulation::new(&links, 7);
    simulation.spill = true;
    simulation.run(5000, Load::Bulk);
    let acked = simulation.run(5000, Load::Bulk);
    let sum: f64 = links.iter().map(|link| link.rate).sum();
    assert!(
        rate(&acked, 5000) > 0.85 * sum,
        "{:.1}",
        rate(&acked, 5000) / MBIT
    );
    let offered = bound(&links) * 0.5;
    simulation.run(4000, Load::Rate(offered));
    let acked = simulation.run(5000, Load::Rate(offered));
    assert!(worst(&acked, &links) < 0.05, "{:?}", shares(&acked));
}

/// Two connections run at the same time, each with half of the links' rates and
/// its own policy of the table.
#[test]
fn two_connections_follow_two_policies() {
    let policy = |capabilities, weights: [u32; 2]| {
        let mut policy = Policy {
            capabilities,
            weights: [1; MAX_PATHS],
            ..Policy::default()
        };
        policy.weights[..2].copy_from_slice(&weights);
        policy
    };
    let policies = [
        policy(capability::CAPS, [3, 1]),
        policy(capability::CAPS, [1, 3]),
        policy(capability::CAPS | capability::SPILLS, [1, 3]),
    ];
    let links = [link(25.0, 5, 1), link(25.0, 5, 1)];
    let mut connections = [0, 1, 2].map(|index| {
        let mut connection = Simulation::new(&links, 7);
        connection.obey(&policies[index]);
        connection
    });
    let mut acked = [[0; 2]; 3];
    for ms in 0..10_000 {
        for (connection, acked) in connections.iter_mut().zip(&mut acked) {
            let fresh = connection.run(1, Load::Bulk);
            if ms >= 5000 {
                acked[0] += fresh[0];
                acked[1] += fresh[1];
            }
        }
    }
    let [first, second, spilling] = acked.map(|acked| shares(&acked)[0]);
    assert!((first - 0.75).abs() < 0.02, "{first}");
    assert!((second - 0.25).abs() < 0.02, "{second}");
    // Both links are full, so the one that spills fills them.
    assert!((spilling - 0.5).abs() < 0.1, "{spilling}");
}

fn seed() -> RngSeed {
    let chosen = std::env::var("PROPTEST_RNG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    RngSeed::Fixed(chosen.unwrap_or(1))
}

prop_compose! {
    fn any_link()(mbit in 2.0..100.0_f64, rtt_ms in 1..200_u64, loss in 0.0..0.0002_f64, weight in 1..=9_u32) -> Link {
        Link { loss, ..link(mbit, rtt_ms, weight) }
    }
}

// The seed is fixed, because CI is no place to look for new cases, although
// these bounds are far from both a normal run and a collapse, which is a factor
// of ten. Set PROPTEST_RNG_SEED to look for new cases.
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 40, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    /// Whatever the paths are, the rate does not collapse and no path starves.
    #[test]
    fn bulk_never_collapses(links in prop::collection::vec(any_link(), 2..=4), seed: u64) {
        let mut simulation = Simulation::new(&links, seed);
        simulation.run(10_000, Load::Bulk);
        let acked = simulation.run(5000, Load::Bulk);
        let reached = rate(&acked, 5000) / bound(&carried(&links, 10_000));
        prop_assert!(reached > 0.4, "{reached:.3} of the bound, {:?}", shares(&acked));
        for (share, link) in shares(&acked).iter().zip(&links) {
            let weights: u32 = links.iter().map(|link| link.weight).sum();
            let asked = f64::from(link.weight) / f64::from(weights);
            prop_assert!(*share > asked / 4.0, "starved: {share:.3} of {asked:.3}");
        }
    }

    /// The connection recovers from loads that start and stop, and from paths
    /// that die and return.
    #[test]
    fn it_recovers_from_anything(
        links in prop::collection::vec(any_link(), 2..=3),
        seed: u64,
        dead in 0..2_usize,
        pause_ms in 100..3000_u64,
    ) {
        let mut simulation = Simulation::new(&links, seed);
        simulation.run(2000, Load::Bulk);
        simulation.run(pause_ms, Load::Idle);
        simulation.run(1000, Load::Bulk);
        let rate_before = links[dead].rate;
        simulation.link(dead).rate = 0.0;
        simulation.run(4000, Load::Bulk);
        let while_dead = simulation.run(2000, Load::Bulk);
        prop_assert!(while_dead.iter().sum::<u64>() > 0, "stalled while a path is dead");
        simulation.link(dead).rate = rate_before;
        simulation.run(15_000, Load::Bulk);
        let acked = simulation.run(4000, Load::Bulk);
        let reached = rate(&acked, 4000) / bound(&carried(&links, 6000));
        prop_assert!(reached > 0.3, "{reached:.3} of the bound after all came back");
    }

    /// No input makes the arithmetic overflow or panic.
    #[test]
    fn any_weight_and_rate_is_survived(
        weights in prop::collection::vec(0..=MAX_WEIGHT, 8),
        acked in prop::collection::vec(0..(u64::MAX >> 24), 8),
        steps in prop::collection::vec((1_u64..10_000_000_000, any::<bool>()), 1..20),
    ) {
        let mut controller = Controller::default();
        let mut now = 0;
        for (elapsed, flag) in steps {
            now += elapsed;
            for (index, slot) in controller.slots.iter_mut().enumerate() {
                slot.path.set(index as u64 + 1);
                slot.subflows.set(1);
                slot.weight.set(u64::from(weights[index]));
                slot.progress(acked[index] / 64, 1000, acked[index], now);
            }
            controller.backlogged.set(u64::from(flag));
            let asked = Asked {
                spill: flag,
                place: flag,
                revives: flag,
            };
            controller.step(now, elapsed.max(1), asked, None);
            for slot in &controller.slots {
                let limits = controller.limits(slot, acked[0]);
                prop_assert!(limits.cap == NO_CAP || limits.lowat > 0);
            }
        }
    }
}

/// The ratio holds although the application pauses: a pause is not a path's
/// fault.
#[test]
fn an_application_that_pauses_keeps_the_ratio() {
    for (links, pause_ms) in [
        (vec![link(40.0, 1, 4), link(20.0, 1, 1)], 120),
        (vec![link(40.0, 1, 4), link(20.0, 1, 1)], 300),
        (vec![link(40.0, 1, 4), link(20.0, 1, 1)], 500),
        (vec![link(100.0, 1, 4), link(50.0, 1, 1)], 250),
        (vec![link(50.0, 10, 4), link(15.0, 60, 1)], 400),
        (vec![link(50.0, 10, 4), link(15.0, 60, 1)], 1000),
    ] {
        let rate = bound(&links) * 0.4;
        let mut simulation = Simulation::new(&links, 7);
        simulation.run(4000, Load::Rate(rate));
        let mut acked = vec![0; links.len()];
        for _ in 0..6 {
            for (ms, load) in [(pause_ms, Load::Idle), (1000, Load::Rate(rate))] {
                let part = simulation.run(ms, load);
                acked
                    .iter_mut()
                    .zip(part)
                    .for_each(|(sum, part)| *sum += part);
            }
        }
        assert!(
            worst(&acked, &links) < 0.03,
            "{links:?}, {pause_ms} ms: {:?}",
            shares(&acked)
        );
    }
}

/// A host that stands still for a moment says nothing about its paths.
#[test]
fn a_host_that_stands_still_keeps_the_ratio() {
    for links in [
        vec![link(100.0, 1, 1), link(50.0, 1, 1)],
        vec![link(100.0, 1, 4), link(50.0, 1, 1)],
        vec![link(50.0, 10, 1), link(15.0, 60, 1)],
    ] {
        let rate = bound(&links) * 0.4;
        let mut simulation = Simulation::new(&links, 7);
        simulation.run(4000, Load::Rate(rate));
        let mut acked = vec![0; links.len()];
        for still_ms in [110, 130, 150, 170, 190, 210, 250, 300, 400, 500] {
            simulation.stand_still(still_ms, rate);
            let part = simulation.run(500, Load::Rate(rate));
            acked
                .iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
        assert!(
            // A moment in which the host stands still looks like a pause, after
            // which traffic is not capped at first.
            worst(&acked, &links) < 0.015,
            "{links:?}: {:?}",
            shares(&acked)
        );
    }
}

/// A callback on another CPU may come with a time that is already past. If a
/// step took it for a long time that went by, every rate would become zero.
#[test]
fn a_step_is_not_claimed_with_a_time_that_is_past() {
    let controller = Controller::default();
    let now_ns = 1_000 * STEP_NS;
    assert_eq!(controller.claim_step(now_ns), Some(now_ns));
    assert_eq!(controller.claim_step(now_ns - 1), None);
    assert_eq!(controller.claim_step(now_ns), None);
    assert_eq!(controller.claim_step(now_ns + STEP_NS - 1), None);
    assert_eq!(controller.claim_step(now_ns + STEP_NS), Some(STEP_NS));
}
