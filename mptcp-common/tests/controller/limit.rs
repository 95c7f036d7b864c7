//! A ceiling for the host on one path, under every policy.
//!
//! Each case prints its figures:
//! `cargo test --release -p mptcp-common --test controller limit -- --nocapture`

use crate::simulation::{Link, Load, Outcome, Steering, World};
use crate::{MBIT, link};

const WINDOW_MS: u64 = 5000;

/// Returns the part of the limit that the second link has carried.
fn part(outcome: &Outcome, limit: f64) -> f64 {
    outcome.acked[1] as f64 * 1000.0 / WINDOW_MS as f64 / limit
}

/// How a limit is kept beside.
#[derive(Clone, Copy, Debug)]
enum Under {
    Default,
    Host,
    Connection,
    Overflow,
}

fn world(links: &[Link], under: Under) -> World {
    let steering = match under {
        Under::Default => Steering::Default,
        Under::Host | Under::Connection => Steering::Strict,
        Under::Overflow => Steering::Overflow,
    };
    let mut world = World::new(links, 7, steering);
    if matches!(under, Under::Connection) {
        world.scope_connection();
    }
    world
}

/// Runs `connections` bulk transfers with a limit of so many Mbit/s on the second
/// link. Asserts that three windows of 5 s are within 2 % of it, and that the
/// first link carries nearly all that it can.
fn bulk_keeps_the_limit(links: &[Link], under: Under, connections: usize, mbit: f64, first: f64) {
    let limit = mbit * MBIT;
    let mut world = world(links, under);
    world.limit(1, limit);
    world.add_many(connections, Load::Bulk);
    // A window takes some round trips to grow.
    world.run(3000 + 15 * links[1].rtt_ms);
    for _ in 0..3 {
        let outcome = world.run(WINDOW_MS);
        let part = part(&outcome, limit);
        let other = outcome.acked[0] as f64 / (links[0].rate * WINDOW_MS as f64 / 1000.0);
        println!(
            "{under:?}, {connections} bulk, {mbit} Mbit/s, {} ms: {part:.4} of the limit, {other:.3} \
             of the other link",
            links[1].rtt_ms
        );
        assert!((part - 1.0).abs() < 0.02, "{part:.4}");
        assert!(other > first, "{other:.3}");
    }
}

#[test]
fn one_ten_and_sixty_connections_keep_a_limit_under_every_policy() {
    let links = [link(80.0, 20, 1), link(40.0, 40, 1)];
    for under in [
        Under::Default,
        Under::Host,
        Under::Connection,
        Under::Overflow,
    ] {
        for (connections, mbit) in [(1, 10.0), (10, 10.0), (60, 35.0)] {
            bulk_keeps_the_limit(&links, under, connections, mbit, 0.85);
        }
    }
}

/// Where each subflow gets little, a chunk on the limited path holds up all that
/// comes after it, so that the other path carries less. The limit holds all the
/// same.
#[test]
fn slow_and_fast_limits_hold() {
    let links = [link(80.0, 20, 1), link(40.0, 40, 1)];
    for (connections, mbit, first) in [
        (1, 0.5, 0.6),
        (1, 2.0, 0.95),
        (1, 35.0, 0.95),
        (10, 2.0, 0.6),
        (10, 35.0, 0.95),
        (60, 10.0, 0.6),
    ] {
        bulk_keeps_the_limit(&links, Under::Default, connections, mbit, first);
    }
}

#[test]
fn a_limit_holds_over_any_round_trip() {
    for rtt_ms in [1, 10, 40, 100] {
        let links = [link(80.0, 20, 1), link(40.0, rtt_ms, 1)];
        for connections in [1, 10] {
            bulk_keeps_the_limit(&links, Under::Default, connections, 10.0, 0.5);
        }
    }
}

#[test]
fn thin_connections_count() {
    let links = [link(80.0, 20, 1), link(40.0, 1, 1)];
    for under in [Under::Default, Under::Connection] {
        let limit = 4.0 * MBIT;
        let mut world = world(&links[1..], under);
        world.limit(0, limit);
        world.add_many(30, Load::Rate(30_000.0));
        // Subflows that are so slow learn of another level a second later.
        world.run(15_000);
        for _ in 0..3 {
            let outcome = world.run(WINDOW_MS);
            let part = outcome.acked[0] as f64 * 1000.0 / WINDOW_MS as f64 / limit;
            println!("{under:?}, 30 thin: {part:.4}");
            assert!((part - 1.0).abs() < 0.02, "{part:.4}");
        }
    }
}

#[test]
fn a_limit_that_is_not_reached_limits_nothing() {
    let links = [link(40.0, 20, 1), link(20.0, 20, 1)];
    let run = |limit| {
        let mut world = world(&links, Under::Default);
        world.limit(1, limit);
        world.add_many(5, Load::Bulk);
        world.run(3000);
        world.run(WINDOW_MS).bytes() as f64
    };
    let (with, without) = (run(30.0 * MBIT), run(0.0));
    assert!(with > 0.97 * without, "{with} of {without}");
}

#[test]
fn a_limit_changes_and_goes_while_bulk_runs() {
    let links = [link(80.0, 20, 1), link(40.0, 40, 1)];
    for connections in [1, 10] {
        let mut world = world(&links, Under::Default);
        world.add_many(connections, Load::Bulk);
        world.run(3000);
        for mbit in [10.0, 2.0, 30.0, 5.0] {
            let limit = mbit * MBIT;
            world.limit(1, limit);
            world.run(3000);
            let part = part(&world.run(WINDOW_MS), limit);
            println!("{connections} bulk, changed to {mbit}: {part:.4}");
            assert!((part - 1.0).abs() < 0.02, "{mbit}: {part:.4}");
        }
        world.limit(1, 0.0);
        world.run(2000);
        let free = world.run(WINDOW_MS).of_capacity();
        assert!(free > 0.9, "{free:.3} of the links once the limit is gone");
    }
}

/// Others than the limited path keep their ratio among themselves.
#[test]
fn weights_hold_beside_a_limit() {
    let links = [link(30.0, 10, 3), link(40.0, 20, 3), link(30.0, 20, 1)];
    for under in [Under::Host, Under::Connection] {
        for connections in [1, 10] {
            let limit = 4.0 * MBIT;
            let mut world = world(&links, under);
            world.limit(1, limit);
            world.add_many(connections, Load::Bulk);
            world.run(4000);
            let outcome = world.run(WINDOW_MS);
            let part = part(&outcome, limit);
            let ratio = outcome.acked[0] as f64 / outcome.acked[2] as f64;
            let other = outcome.acked[0] as f64 / (links[0].rate * WINDOW_MS as f64 / 1000.0);
            println!(
                "{under:?}, {connections} bulk: {part:.4} of the limit, {ratio:.2} to 1, \
                 {other:.3}"
            );
            assert!((part - 1.0).abs() < 0.02, "{part:.4}");
            assert!((ratio - 3.0).abs() < 0.2, "{ratio:.2}");
            assert!(other > 0.85, "{other:.3}");
        }
    }
}

/// A limit above the path's share changes nothing about the ratio.
#[test]
fn a_limit_above_the_share_leaves_the_ratio_alone() {
    let links = [link(40.0, 10, 4), link(40.0, 20, 1)];
    for under in [Under::Host, Under::Connection] {
        for mbit in [12.0, 20.0] {
            for connections in [1, 10] {
                let mut world = world(&links, under);
                world.limit(1, mbit * MBIT);
                world.add_many(connections, Load::Bulk);
                world.run(4000);
                let outcome = world.run(WINDOW_MS);
                let share = outcome.acked[1] as f64 / outcome.bytes() as f64;
                println!("{under:?}, {connections} bulk, {mbit} Mbit/s: {share:.4}");
                assert!((share - 0.2).abs() < 0.02, "{share:.4}");
                assert!(outcome.of_bound() > 0.85, "{:.3}", outcome.of_bound());
            }
        }
    }
}
