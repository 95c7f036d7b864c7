//! After a burst, a connection is thin again, and protected as before.

use anyhow::Result;
use mptcp_lab::{Direction, Path};

use crate::SETTLE;
use crate::redundant_support::{Scene, Stage, dropped, late};
use crate::support::{require_agent, scrape_until};

const BURST: usize = 1_000_000;
const REQUESTS: u64 = 300;

fn busy(scene: &Scene) -> Result<f64> {
    let [client, server] = scene.agents().map(|agent| agent.scrape());
    Ok(dropped(&client?, "busy") + dropped(&server?, "busy"))
}

fn heals(paths: [Path; 2]) -> Result<()> {
    let binary = require_agent!();
    let scene = Stage::new(paths)?.play(&binary, &[])?;
    scene.exchange.burst(BURST);
    scrape_until(&scene.client, "a path that is busy", |metrics| {
        dropped(metrics, "busy") > 0.0
    })?;
    // Wait for the burst, its answer, and half a second of thin requests.
    scene.more_responses(50)?;

    let before = busy(&scene)?;
    scene.links[0].set_loss(Direction::Both, 20.0)?;
    let (from, recovery) = (scene.exchange.responses(), scene.recovery()?);
    scene.more_responses(REQUESTS)?;
    let late_in_loss = late(&scene.exchange.latencies_from(from));
    scene.links[0].set_loss(Direction::Both, 0.0)?;

    let from = scene.exchange.responses();
    scene.links[0].blackhole(Direction::Both, true)?;
    scene.more_responses(50)?;
    let late_in_cut = late(&scene.exchange.latencies_from(from));
    scene.links[0].blackhole(Direction::Both, false)?;

    let (skipped, recovery) = (busy(&scene)? - before, scene.recovery()? - recovery);
    eprintln!("late: {late_in_loss} in loss, {late_in_cut} in a cut; {skipped} skipped");
    assert_eq!(
        skipped, 0.0,
        "{late_in_loss} late, {late_in_cut} in the cut"
    );
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    assert!(late_in_loss <= REQUESTS as usize / 100, "{late_in_loss}");
    scene.exchange.wait_for_responses(from, SETTLE)?;
    scene.end()
}

fn paths(delay_ms: f64) -> [Path; 2] {
    [
        Path::new("p1").rate_mbit(20.0).delay_ms(delay_ms),
        Path::new("p2").rate_mbit(10.0).delay_ms(delay_ms),
    ]
}

#[test]
fn on_long_paths() -> Result<()> {
    heals(paths(15.0))
}

#[test]
fn on_short_paths() -> Result<()> {
    heals(paths(0.0).map(Path::no_gso))
}
