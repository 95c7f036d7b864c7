//! Many connections come and go, and nothing is left of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY_V4, Behaviour, Bulk, Churn, RequestResponse, Server};
use mptcp_lab::{Agent, Host, Lab, Path};
use nix::sys::signal::Signal;

use crate::support::{capped, require_agent, scrape_until, two_paths, upload, weighted};
use crate::{LONG, SOON};

/// Opens `count` connections, and checks that all are served.
fn churn(host: &Host, echo: &Server, to: SocketAddr, count: usize) -> Result<()> {
    let served = Churn::new(count).start(host, to).finish().all()?;
    assert_eq!(served, count as u64);
    assert_eq!(echo.connections().len(), count);
    Ok(())
}

fn is_empty(metrics: &Metrics) -> bool {
    metrics.value("mptcp_connections", &[]) == Some(0.0)
        && metrics.sum("mptcp_subflows", &[]) == 0.0
}

#[test]
fn thousands_of_short_connections_leave_nothing() -> Result<()> {
    const COUNT: usize = 3000;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = weighted(&["p1=2"]);
    let agents = [
        Agent::start(&net.client, &binary, &args)?,
        Agent::start(&net.server, &binary, &args)?,
    ];
    let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
    // Scrapes visit the sockets in all their states.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            while !done.load(Relaxed) {
                agents
                    .iter()
                    .try_for_each(|agent| agent.scrape().map(drop))?;
            }
            anyhow::Ok(())
        });
        let churned = churn(&net.client, &echo, echo.at(net.server_addr()), COUNT);
        done.store(true, Relaxed);
        scraper.join().expect("the scraper")?;
        churned
    })?;
    for agent in &agents {
        let metrics = scrape_until(agent, "nothing left", is_empty)?;
        let opened = metrics.sum("mptcp_connections_opened_total", &[]);
        assert_eq!(opened, COUNT as f64);
        assert_eq!(metrics.sum("mptcp_connections_closed_total", &[]), opened);
        let subflows = metrics.sum("mptcp_subflows_opened_total", &[]);
        assert!(subflows >= opened);
        assert_eq!(metrics.sum("mptcp_subflows_closed_total", &[]), subflows);
        assert_eq!(metrics.sum("mptcp_agent_map_full_total", &[]), 0.0);
        // Every change is counted, either as an event or as a lost event.
        let lost = metrics.value("mptcp_agent_events_lost_total", &[]);
        let lost = lost.expect("lost events are exported");
        let reported = |event| metrics.sum("mptcp_agent_events_total", &[("event", event)]);
        let (first, last) = (reported("opened"), reported("closed"));
        assert!(
            first + lost >= opened && last + lost >= opened,
            "{first} {last} {lost}"
        );
    }
    Ok(())
}

#[test]
fn more_connections_than_there_is_room_for() -> Result<()> {
    const ROOM: usize = 4;
    const CONNECTIONS: usize = 24;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut args = weighted(&["p1=2"]);
    args.extend(["--max-connections".to_owned(), ROOM.to_string()]);
    let agents = [
        Agent::start(&net.client, &binary, &args)?,
        Agent::start(&net.server, &binary, &args)?,
    ];
    let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
    let to = echo.at(net.server_addr());
    let ping = RequestResponse::new(2000, Duration::from_millis(50), 10_000);
    let exchanges: Vec<_> = (0..CONNECTIONS)
        .map(|_| ping.start(&net.client, to))
        .collect::<Result<_>>()?;
    for exchange in &exchanges {
        exchange.wait_for_subflows(2, SOON)?;
        exchange.wait_for_responses(exchange.responses() + 3, LONG)?;
    }
    for agent in &agents {
        let full = [("map", "connections")];
        let metrics = scrape_until(agent, "a full map", |metrics| {
            metrics.sum("mptcp_agent_map_full_total", &full) > 0.0
        })?;
        let tracked = metrics.value("mptcp_connections", &[]);
        assert_eq!(tracked, Some(ROOM as f64));
        assert!(metrics.sum("mptcp_subflows", &[]) >= ROOM as f64);
    }
    for exchange in exchanges {
        exchange.stop()?;
    }
    for agent in &agents {
        let metrics = scrape_until(agent, "nothing left", is_empty)?;
        let opened = metrics.sum("mptcp_subflows_opened_total", &[]);
        assert_eq!(metrics.sum("mptcp_subflows_closed_total", &[]), opened);
    }
    // There is room again.
    let exchange = ping.start(&net.client, to)?;
    exchange.wait_for_responses(2, SOON)?;
    for agent in &agents {
        scrape_until(agent, "one connection", |metrics| {
            metrics.value("mptcp_connections", &[]) == Some(1.0)
        })?;
    }
    Ok(())
}

#[test]
fn events_that_find_no_room_are_counted() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
    // While the agent is stopped, nothing empties the ring buffer (1 MiB, and
    // each connection has at least three events of 112 bytes).
    agent.process().signal(Signal::SIGSTOP)?;
    let churned = churn(&net.client, &echo, echo.at(net.server_addr()), 3600);
    agent.process().signal(Signal::SIGCONT)?;
    churned?;
    let metrics = scrape_until(&agent, "nothing left", is_empty)?;
    let lost = metrics.sum("mptcp_agent_events_lost_total", &[]);
    assert!(lost > 0.0);
    let happened: f64 = [
        "mptcp_subflows_opened_total",
        "mptcp_subflows_closed_total",
        "mptcp_connections_closed_total",
    ]
    .iter()
    .map(|name| metrics.sum(name, &[]))
    .sum();
    // The agent reports every event that was not lost, sooner or later.
    scrape_until(&agent, "every event that was not lost", |metrics| {
        let reported = metrics.sum("mptcp_agent_events_total", &[]);
        reported + metrics.sum("mptcp_agent_events_lost_total", &[]) == happened
    })?;
    agent.stop()
}

#[test]
fn connections_that_are_cut_off_are_counted_as_the_kernel_does() -> Result<()> {
    const COUNT: usize = 10;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = weighted(&["p1=2"]);
    let agents = [
        Agent::start(&net.client, &binary, &args)?,
        Agent::start(&net.server, &binary, &args)?,
    ];
    let source = Server::spawn(&net.server, ANY_V4, Behaviour::Source { rate_mbit: None })?;
    for _ in 0..COUNT {
        let bulk = Bulk::download_for(LONG);
        let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
        transfer.wait_for_subflows(2, SOON)?;
        transfer.wait_for_progress(300_000, SOON)?;
        // This closes the connection while data arrives. Some subflows stay in
        // the kernel until it gives them up.
        drop(transfer);
    }
    source.stop()?;
    for (agent, host) in agents.iter().zip([&net.client, &net.server]) {
        let metrics = scrape_until(agent, "the kernel's subflows", |metrics| {
            let live = metrics.sum("mptcp_subflows", &[]);
            host.open_subflows().is_ok_and(|count| count as f64 == live)
        })?;
        let sum = |name| metrics.sum(name, &[]);
        assert_eq!(sum("mptcp_connections_opened_total"), COUNT as f64);
        assert_eq!(
            sum("mptcp_subflows_opened_total") - sum("mptcp_subflows_closed_total"),
            sum("mptcp_subflows")
        );
        assert_eq!(
            sum("mptcp_connections_opened_total") - sum("mptcp_connections_closed_total"),
            sum("mptcp_connections")
        );
    }
    Ok(())
}

#[test]
fn paths_beyond_the_eighth_are_observed() -> Result<()> {
    const PATHS: usize = 9;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let paths = (1..=PATHS).map(|number| Path::new(&format!("p{number}")).rate_mbit(5.0));
    let net = lab.two_hosts(paths)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=2"]))?;
    let (_sink, transfer) = upload(&net, PATHS)?;
    transfer.wait_for_progress(10_000_000, LONG)?;
    let metrics = agent.scrape()?;
    assert_eq!(
        metrics.value("mptcp_agent_unsteered_subflows_total", &[]),
        Some(1.0)
    );
    for link in &net.links {
        let labels = [("path", &*link.name)];
        assert_eq!(
            metrics.value("mptcp_subflows", &labels),
            Some(1.0),
            "{labels:?}"
        );
        assert!(
            metrics.value("mptcp_path_acked_bytes_total", &labels) > Some(0.0),
            "{labels:?}"
        );
    }
    let eighth = transfer.subflows()?;
    assert!(!capped(&eighth[8..]));
    transfer.stop()?;
    scrape_until(&agent, "nothing left", is_empty)?;
    agent.stop()
}
