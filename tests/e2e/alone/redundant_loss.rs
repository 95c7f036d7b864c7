//! A path loses packets at random, and no request waits for them.

use anyhow::Result;
use mptcp_lab::{Direction, Path};

use crate::redundant_support::{STRAY_DSACKS, Stage, rescued};
use crate::support::require_agent;

/// Makes one of two paths lose every fifth packet, in both directions.
fn lossy(paths: [Path; 2], index: usize) -> Result<()> {
    const REQUESTS: u64 = 800;
    let binary = require_agent!();
    let scene = Stage::new(paths)?.play(&binary, &[])?;
    let before = scene.recovery()?;
    scene.links[index].set_loss(Direction::Both, 20.0)?;
    scene.more_responses(REQUESTS)?;
    scene.links[index].set_loss(Direction::Both, 0.0)?;
    let recovery = scene.recovery()? - before;
    let copies = rescued(&scene.client.scrape()?) + rescued(&scene.server.scrape()?);
    eprintln!("path {index}: {recovery:?}, {copies} bytes rescued");
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    // If the segments went over that path, about 300 of them were lost.
    assert!(recovery.retransmitted <= REQUESTS / 100, "{recovery:?}");
    assert!(recovery.dsacks_sent <= STRAY_DSACKS, "{recovery:?}");
    scene.end()
}

#[test]
fn on_the_first_path() -> Result<()> {
    lossy(["p1", "p2"].map(Path::new), 0)
}

#[test]
fn on_the_second_path() -> Result<()> {
    lossy(["p1", "p2"].map(Path::new), 1)
}

#[test]
fn on_a_long_path() -> Result<()> {
    lossy(["p1", "p2"].map(|name| Path::new(name).delay_ms(5.0)), 0)
}
