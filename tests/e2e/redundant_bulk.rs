//! Copies of bulk transfers yield to the paths' own traffic. (`cargo xtask bench
//! redundant` measures how fast the transfers are.)

use anyhow::Result;
use mptcp_lab::Path;
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};

use crate::redundant_support::{Stage, dropped, redundant, sent, wait_for_proven};
use crate::support::{require_agent, scrape_until};
use crate::{SETTLE, VERY_LONG};

const BYTES: u64 = 40_000_000;

fn paths() -> [Path; 2] {
    [
        Path::new("p1").rate_mbit(80.0),
        Path::new("p2").rate_mbit(40.0),
    ]
}

/// Checks that a transfer over unequal paths arrives in full, with agents with
/// these arguments.
fn arrives(paths: [Path; 2], upload: bool, more: &[&str], yields: &str) -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(paths)?;
    let [client, server] = &stage.hosts;
    let agents = [
        redundant(client, &binary, more)?,
        redundant(server, &binary, more)?,
    ];
    let behaviour = if upload {
        Behaviour::Sink
    } else {
        Behaviour::Source { rate_mbit: None }
    };
    let peer = Server::spawn(server, ANY, behaviour)?;
    let bulk = if upload {
        Bulk::upload_bytes(BYTES)
    } else {
        Bulk::download_bytes(BYTES)
    };
    let transfer = bulk
        .limit(VERY_LONG)
        .start(client, peer.at(stage.links[0].server_addr))?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
    }
    let sender = if upload { &agents[0] } else { &agents[1] };
    scrape_until(sender, "copies that yield", |metrics| {
        dropped(metrics, yields) > 0.0
    })?;
    let report = transfer.finish()?;
    assert!(report.bytes >= BYTES);
    if upload {
        assert!(report.confirmed);
        assert_eq!(peer.received(), report.bytes);
    }
    let recovery = Recovery::of_hosts(&[client, server])?;
    let metrics = sender.scrape()?;
    eprintln!(
        "{:.1} Mbit/s, {} copies, {recovery:?}",
        report.rate_mbit(),
        sent(&metrics)
    );
    assert_eq!(dropped(&metrics, "mtu"), 0.0);
    Ok(())
}

#[test]
fn an_upload_arrives() -> Result<()> {
    arrives(paths(), true, &[], "busy")
}

#[test]
fn a_download_arrives() -> Result<()> {
    arrives(paths(), false, &[], "busy")
}

#[test]
fn an_upload_without_offloads_arrives() -> Result<()> {
    arrives(paths().map(Path::no_gso), true, &[], "busy")
}

#[test]
fn a_budget_is_kept() -> Result<()> {
    arrives(paths(), true, &["--redundant-budget", "2mbit"], "budget")
}

#[test]
fn a_budget_bounds_the_bytes_of_copies() -> Result<()> {
    const BUDGET_BYTES_PER_SEC: f64 = 250_000.0;
    let binary = require_agent!();
    let stage = Stage::new(paths())?;
    let [client, server] = &stage.hosts;
    let budget = ["--redundant-budget", "2mbit"];
    let agents = [
        redundant(client, &binary, &budget)?,
        redundant(server, &binary, &budget)?,
    ];
    let sink = Server::spawn(server, ANY, Behaviour::Sink)?;
    let started = std::time::Instant::now();
    let bulk = Bulk::upload_for(VERY_LONG);
    let transfer = bulk.start(client, sink.at(stage.links[0].server_addr))?;
    wait_for_proven(&agents[0], 2)?;
    transfer.wait_for_progress(20_000_000, SETTLE)?;
    let name = "mptcp_redundant_copies_sent_bytes_total";
    let metrics = agents[0].scrape()?;
    // One more second is more than the bucket itself can hold.
    let most = BUDGET_BYTES_PER_SEC * (started.elapsed().as_secs_f64() + 1.0);
    for path in ["p1", "p2"] {
        let bytes = metrics.sum(name, &[("path", path)]);
        assert!(bytes <= most, "{bytes} of {most} bytes over {path}");
    }
    assert!(sent(&metrics) > 0.0);
    transfer.stop()?;
    Ok(())
}
