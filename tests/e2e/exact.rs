//! The agent's byte counts equal the kernel's, and totals outlive their subflows.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, RequestResponse, Server};
use mptcp_lab::{Agent, Direction, Family, Lab, Link, Path, TwoHosts, wait};

use crate::support::{
    require_agent, scrape_until, scrape_until_empty, two_paths, upload, weighted,
};
use crate::{LONG, SETTLE, SOON};

/// Payload bytes sent (retransmissions included), acknowledged and received on a
/// path.
type Totals = (u64, u64, u64);

fn from_agent(metrics: &Metrics, path: &str) -> Result<Totals> {
    let value = |name: &str| -> Result<u64> {
        let name = format!("mptcp_path_{name}_bytes_total");
        let value = metrics.value(&name, &[("path", path)]);
        Ok(value.with_context(|| format!("no {name} of {path}"))? as u64)
    };
    Ok((value("sent")?, value("acked")?, value("received")?))
}

/// Sums the kernel's counters of the subflows whose client end is on `link`.
fn from_kernel(
    subflows: &[SubflowInfo],
    link: &Link,
    client_end: fn(&SubflowInfo) -> IpAddr,
) -> Totals {
    let on_link = subflows
        .iter()
        .filter(|subflow| client_end(subflow) == link.client_addr);
    on_link.fold((0, 0, 0), |sum, one| {
        // TCP counts the client's SYN as an acknowledged byte. When all is
        // quiet, the payload is what was sent minus what was retransmitted.
        let payload = one.bytes_sent - one.bytes_retrans;
        let syn = one.bytes_acked - payload;
        assert!(syn <= 1, "not quiescent: {one:#?}");
        (
            sum.0 + one.bytes_sent,
            sum.1 + payload,
            sum.2 + one.bytes_received,
        )
    })
}

/// Returns an idle but open connection. It has carried data on every path, and
/// its traffic satisfies `enough`.
fn idle_exchange(
    net: &TwoHosts,
    echo: &Server,
    enough: impl Fn(&[SubflowInfo]) -> bool,
) -> Result<Exchange> {
    const BYTES: u64 = 30_000;
    let mut load = RequestResponse::new(32_000, Duration::ZERO, 100_000);
    load.sockets.dual_stack = true;
    let exchange = load.start(&net.client, echo.at(net.server_addr()))?;
    exchange.wait_for_subflows(net.links.len(), SOON)?;
    wait::until("traffic on every path", LONG, || {
        let subflows = exchange.subflows();
        let is_enough = subflows.as_ref().is_ok_and(|all| {
            let used = |link: &Link| {
                let on_link = all.iter().filter(|one| one.local.ip() == link.client_addr);
                let carried = on_link.map(|one| one.bytes_sent + one.bytes_received);
                carried.sum::<u64>() > BYTES
            };
            net.links.iter().all(used) && enough(all)
        });
        if is_enough { Ok(()) } else { Err(subflows) }
    });
    exchange.rest();
    let quiet = || exchange.subflows().map(|all| counters(&all)).ok();
    wait::until_steady(
        "the end of all traffic",
        SETTLE,
        Duration::from_secs(1),
        quiet,
    );
    Ok(exchange)
}

fn counters(subflows: &[SubflowInfo]) -> Vec<Totals> {
    subflows
        .iter()
        .map(|one| (one.bytes_sent, one.bytes_acked, one.bytes_received))
        .collect()
}

/// Compares both agents with the kernel.
fn compare(net: &TwoHosts, agents: &[Agent; 2], exchange: &Exchange, echo: &Server) -> Result<()> {
    let connection = echo.connection(0, SOON)?;
    let client = exchange.subflows()?;
    let server = connection.subflows()?;
    let scrapes = [agents[0].scrape()?, agents[1].scrape()?];
    assert_eq!(
        counters(&client),
        counters(&exchange.subflows()?),
        "not quiescent"
    );
    for link in &net.links {
        let of_client = from_kernel(&client, link, |one| one.local.ip());
        let of_server = from_kernel(&server, link, |one| one.remote.ip());
        eprintln!("{}: client {of_client:?}, server {of_server:?}", link.name);
        assert!(of_client.0 + of_client.2 > 0, "nothing on {}", link.name);
        assert_eq!(
            from_agent(&scrapes[0], &link.name)?,
            of_client,
            "client, {}",
            link.name
        );
        assert_eq!(
            from_agent(&scrapes[1], &link.name)?,
            of_server,
            "server, {}",
            link.name
        );
    }
    Ok(())
}

fn exact_over(paths: impl IntoIterator<Item = Path>, loss_percent: f64) -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts(paths)?;
    let family = |link: &Link| link.client_addr.is_ipv6();
    for link in &net.links {
        if family(link) != family(&net.links[0]) {
            net.server
                .endpoint(link.server_addr, &link.name, "signal")?;
        }
    }
    // Set weights, so that every path carries something.
    let args = weighted(&["default=1"]);
    let agents = [
        Agent::start(&net.client, &binary, &args)?,
        Agent::start(&net.server, &binary, &args)?,
    ];
    if loss_percent > 0.0 {
        for link in &net.links {
            link.set_loss(Direction::Both, loss_percent)?;
        }
    }
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let lossy = |subflows: &[SubflowInfo]| subflows.iter().any(|one| one.retransmissions > 0);
    let enough = |subflows: &[SubflowInfo]| loss_percent == 0.0 || lossy(subflows);
    let exchange = idle_exchange(&net, &echo, enough)?;
    let subflows = exchange.subflows()?;
    let retransmitted: u32 = subflows.iter().map(|one| one.retransmissions).sum();
    let metrics = agents[0].scrape()?;
    let counted = metrics.sum("mptcp_path_retransmitted_segments_total", &[]);
    assert_eq!(counted, f64::from(retransmitted));
    compare(&net, &agents, &exchange, &echo)
}

#[test]
fn bytes_agree_with_the_kernel_over_ipv4() -> Result<()> {
    let path = |name| Path::new(name).rate_mbit(40.0);
    exact_over([path("p1"), path("p2")], 0.0)
}

#[test]
fn bytes_agree_with_the_kernel_over_ipv6() -> Result<()> {
    let path = |name| Path::new(name).rate_mbit(40.0).family(Family::V6);
    exact_over([path("p1"), path("p2")], 0.0)
}

#[test]
fn bytes_agree_with_the_kernel_over_both_families() -> Result<()> {
    let path = |name| Path::new(name).rate_mbit(40.0);
    exact_over([path("p1"), path("p2").family(Family::V6)], 0.0)
}

#[test]
fn bytes_agree_with_the_kernel_under_loss() -> Result<()> {
    let path = |name| Path::new(name).rate_mbit(40.0).no_gso();
    exact_over([path("p1"), path("p2")], 1.0)
}

#[test]
fn totals_survive_the_close_of_a_subflow_and_of_the_connection() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agents = [
        Agent::start(&net.client, &binary, &weighted(&["default=1"]))?,
        Agent::start(&net.server, &binary, &weighted(&["default=1"]))?,
    ];
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let exchange = idle_exchange(&net, &echo, |_| true)?;
    compare(&net, &agents, &exchange, &echo)?;
    let before = [agents[0].scrape()?, agents[1].scrape()?];

    net.client.delete_endpoint(1)?;
    for agent in &agents {
        let metrics = scrape_until(agent, "one subflow", |metrics| {
            metrics.sum("mptcp_subflows", &[]) == 1.0
        })?;
        assert_eq!(
            metrics.value("mptcp_subflows", &[("path", "p2")]),
            Some(0.0)
        );
        assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
        assert_eq!(
            metrics.sum("mptcp_subflows_closed_total", &[("path", "p2")]),
            1.0
        );
    }
    agree(&agents, &before, "p2")?;
    agree(&agents, &before, "p1")?;
    exchange.stop()?;
    for agent in &agents {
        scrape_until_empty(agent)?;
    }
    agree(&agents, &before, "p1")?;
    agree(&agents, &before, "p2")
}

/// Checks that no bytes were added since `before`, except for a FIN, which TCP
/// counts as one byte acknowledged and received.
fn agree(agents: &[Agent; 2], before: &[Metrics; 2], path: &str) -> Result<()> {
    for (agent, before) in agents.iter().zip(before) {
        let (before, now) = (
            from_agent(before, path)?,
            from_agent(&agent.scrape()?, path)?,
        );
        eprintln!("{path}: before {before:?}, now {now:?}");
        assert_eq!(before.0, now.0);
        assert!((before.1..=before.1 + 1).contains(&now.1));
        assert!((before.2..=before.2 + 1).contains(&now.2));
    }
    Ok(())
}

#[test]
fn subflows_close_with_a_reason() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agents = [
        Agent::start(&net.client, &binary, &weighted(&["default=1"]))?,
        Agent::start(&net.server, &binary, &weighted(&["default=1"]))?,
    ];
    let closed = |agent: &Agent, path: &str, reason: &str| {
        let labels = [("path", path), ("reason", reason)];
        scrape_until(agent, &format!("a subflow closed by {reason}"), |metrics| {
            metrics.value("mptcp_subflows_closed_total", &labels) == Some(1.0)
        })
    };

    // The server's host answers packets on the second path with a reset.
    let (sink, transfer) = upload(&net, 2)?;
    let addr = net.links[1].client_addr;
    net.server.nft(&format!(
        "table inet resetting {{ chain arriving {{ type filter hook input priority 0;\n\
         ip saddr {addr} meta l4proto tcp reject with tcp reset\n}}\n}}\n"
    ))?;
    closed(&agents[0], "p2", "reset")?;
    transfer.wait_for_progress(500_000, SOON)?;

    // The ordinary end of a connection.
    transfer.stop()?;
    closed(&agents[0], "p1", "fin")?;
    closed(&agents[1], "p1", "fin")?;
    sink.stop()
}
