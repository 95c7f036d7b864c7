//! Three paths, two of which lose packets: copies go where they arrive.

use anyhow::Result;
use mptcp_lab::{Direction, Path};

use crate::redundant_support::{Stage, late};
use crate::support::require_agent;

const REQUESTS: u64 = 1_000;

#[test]
fn copies_go_by_the_path_that_delivers_them() -> Result<()> {
    let binary = require_agent!();
    // The third path is the longest, so that nothing else speaks for it.
    let paths = [
        Path::new("p1").delay_ms(5.0),
        Path::new("p2").delay_ms(5.0),
        Path::new("p3").delay_ms(10.0),
    ];
    let scene = Stage::new(paths)?.play(&binary, &[])?;
    for link in &scene.links[..2] {
        link.set_loss(Direction::Both, 20.0)?;
    }
    // The loss has to be seen first.
    scene.more_responses(300)?;
    let from = scene.exchange.responses();
    let before = scene.recovery()?;
    scene.more_responses(REQUESTS)?;
    let late = late(&scene.exchange.latencies_from(from));
    let recovery = scene.recovery()? - before;
    eprintln!("{late} of {REQUESTS} late, {recovery:?}");
    // Copies by the shortest round trip left 14 in a thousand late. A handful
    // is what a busy machine and a fresh estimate of the loss may cost.
    assert!(late <= 5, "{late} late, {recovery:?}");
    assert!(recovery.timeouts <= 5, "{recovery:?}");
    scene.end()
}
