//! IPv4, IPv6, and both in one connection: packets of each family can be wrapped
//! in packets of each.

use anyhow::Result;
use mptcp_lab::{Direction, Family, Path};

use crate::redundant_support::{STRAY_DSACKS, Stage, refused, rescued};
use crate::support::require_agent;

/// Checks that copies of each path go over the other, and replace what a cut
/// takes.
fn holds(paths: [Path; 2]) -> Result<()> {
    let binary = require_agent!();
    let scene = Stage::new(paths)?.play(&binary, &[])?;
    let before = scene.recovery()?;
    for link in &scene.links {
        link.blackhole(Direction::Both, true)?;
        scene.more_responses(200)?;
        link.blackhole(Direction::Both, false)?;
        scene.wait_for_copies()?;
    }
    let recovery = scene.recovery()? - before;
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    assert!(recovery.dsacks_sent <= STRAY_DSACKS, "{recovery:?}");
    for agent in scene.agents() {
        let metrics = agent.scrape()?;
        assert!(rescued(&metrics) > 0.0);
        for reason in ["malformed", "fragment", "not-tcp", "kernel"] {
            assert_eq!(refused(&metrics, reason), 0.0, "{reason}");
        }
    }
    scene.end()
}

fn four(name: &str) -> Path {
    Path::new(name)
}

fn six(name: &str) -> Path {
    Path::new(name).family(Family::V6)
}

#[test]
fn ipv6_in_ipv6() -> Result<()> {
    holds([six("p1"), six("p2")])
}

#[test]
fn ipv6_in_ipv4_and_back() -> Result<()> {
    holds([four("p1"), six("p2")])
}

#[test]
fn ipv4_in_ipv6_and_back() -> Result<()> {
    holds([six("p1"), four("p2")])
}

#[test]
fn both_over_tun_devices() -> Result<()> {
    holds([four("p1").delay_ms(2.0), six("p2").delay_ms(2.0)])
}

#[test]
fn a_device_with_a_link_layer_and_one_without() -> Result<()> {
    holds([four("p1"), four("p2").delay_ms(2.0)])
}
