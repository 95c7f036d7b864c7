//! The first requests of a connection, between agents that know each other.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Direction, Path};

use crate::redundant_key::KeyFile;
use crate::redundant_support::{Stage, ask, late, redundant, wait_for_proven};
use crate::support::{Watched, require_agent};

/// The number of connections, one after the other, in each of [`LANES`] lanes.
const CONNECTIONS: usize = 25;
const LANES: usize = 4;
/// The number of requests on each connection.
const REQUESTS: usize = 10;

/// Returns the latencies of the first requests of many connections, while the
/// first path loses a fifth of its packets.
fn first_requests(agents: Option<(&FilePath, &[&str])>, rp_filter: &str) -> Result<Vec<Duration>> {
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let [client, server] = &stage.hosts;
    for host in [client, server] {
        for name in ["p1", "p2"] {
            host.sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), rp_filter)?;
        }
    }
    // After three losses of a SYN the kernel falls back to TCP, which has no
    // copies. That affects one connection in twenty here, also under the default
    // scheduler. Older kernels never fall back.
    let fallback = "net.mptcp.syn_retrans_before_tcp_fallback";
    if client.sysctl_get(fallback).is_ok() {
        client.sysctl(fallback, "20")?;
    }
    let agents: Vec<Watched> = match agents {
        Some((binary, more)) => vec![
            redundant(client, binary, more)?,
            redundant(server, binary, more)?,
        ],
        None => Vec::new(),
    };
    let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
    // With this connection the agents get to know each other; then it ends.
    let exchange = ask(client, &echo, &stage.links)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
    }
    exchange.stop()?;
    stage.links[0].set_loss(Direction::Both, 20.0)?;
    let address = echo.at(stage.links[0].server_addr);
    let mut load = RequestResponse::new(200, Duration::from_millis(20), REQUESTS);
    // A connection whose handshake is lost repeatedly has failed.
    load.limit = Duration::from_secs(60);
    let samples = std::thread::scope(|scope| {
        let lane = || -> Result<Vec<Duration>> {
            let mut samples = Vec::new();
            for _ in 0..CONNECTIONS {
                samples.extend(load.run_to_end(client, address)?.samples);
            }
            Ok(samples)
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let mut samples = Vec::new();
        for lane in lanes {
            let lane = lane.join();
            samples.extend(lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, anyhow::Error>(samples)
    })?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(samples)
}

/// Checks that at least `times` as many requests are late under the default
/// scheduler.
fn agents_that_know_each_other(more: &[&str], rp_filter: &str, times: usize) -> Result<()> {
    let binary = require_agent!();
    let (with, without) = std::thread::scope(|scope| {
        let with = scope.spawn(|| first_requests(Some((&binary, more)), rp_filter));
        let without = scope.spawn(|| first_requests(None, rp_filter));
        (with.join(), without.join())
    });
    let of = |outcome: std::thread::Result<Result<Vec<Duration>>>| {
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    let (with, without) = (of(with)?, of(without)?);
    assert_eq!(with.len(), CONNECTIONS * LANES * REQUESTS);
    let (with, without) = (late(&with), late(&without));
    eprintln!("late among the first {REQUESTS}: {with}, default scheduler {without}");
    assert!(with * times <= without, "{with} late, by default {without}");
    Ok(())
}

/// Agents are meant to make a tenth as many requests late as the default
/// scheduler does, and chance changes this ratio by some hundredths. If the first
/// segments of connections get no copies, the ratio is a third.
const TIMES: usize = 5;

#[test]
fn first_requests_are_protected_where_the_agents_know_each_other() -> Result<()> {
    agents_that_know_each_other(&[], "0", TIMES)
}

#[test]
fn first_requests_are_protected_where_the_agents_share_a_key() -> Result<()> {
    let key = KeyFile::new("start", b"a key that both ends have", 0o600)?;
    agents_that_know_each_other(&["--redundant-key", &key.path()], "0", TIMES)
}

/// With these filters the kernel accepts a copy only at the device of its own
/// path. When it dropped such copies while their connection was opening, a twelfth
/// as many requests were late as under the default scheduler.
#[test]
fn first_requests_are_protected_behind_strict_reverse_path_filters() -> Result<()> {
    agents_that_know_each_other(&[], "1", 15)
}
