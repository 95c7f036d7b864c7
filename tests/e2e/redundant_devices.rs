//! The agent follows devices that come and go.

use anyhow::Result;
use mptcp_lab::{Direction, Path};

use crate::SETTLE;
use crate::redundant_support::{Scene, Stage, arrived, sent, wait_for_proven};
use crate::support::{require_agent, scrape_until};

/// Counts the copies sent over one path.
fn sent_over(metrics: &mptcp_lab::metrics::Metrics, path: &str) -> f64 {
    metrics.sum("mptcp_redundant_copies_sent_total", &[("path", path)])
}

#[test]
fn a_device_that_comes_later_carries_copies() -> Result<()> {
    let binary = require_agent!();
    let scene = Stage::new([Path::new("p1")])?;
    let [client, server] = &scene.hosts;
    let agents = [
        crate::redundant_support::redundant(client, &binary, &[])?,
        crate::redundant_support::redundant(server, &binary, &[])?,
    ];
    let echo = mptcp_lab::traffic::Server::spawn(
        server,
        mptcp_lab::traffic::ANY,
        mptcp_lab::traffic::Behaviour::Echo,
    )?;
    let exchange = crate::redundant_support::ask(client, &echo, &scene.links)?;
    for agent in &agents {
        wait_for_proven(agent, 1)?;
        assert_eq!(sent(&agent.scrape()?), 0.0);
    }

    let late = scene.lab.path(client, server, Path::new("late"))?;
    client.endpoint(late.client_addr, "late", "subflow")?;
    exchange.wait_for_subflows(2, SETTLE)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 0.0)?;
    }
    scene.links[0].blackhole(Direction::Both, true)?;
    let goal = exchange.responses() + 200;
    exchange.wait_for_responses(goal, SETTLE)?;
    for agent in &agents {
        assert!(sent_over(&agent.scrape()?, "late") > 0.0);
    }
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn a_device_that_is_deleted_and_made_again() -> Result<()> {
    let binary = require_agent!();
    let mut scene = Scene::of_two(&binary, &[])?;
    let [client, server] = scene.hosts.clone();
    client.delete_endpoint(1)?;
    client.run("ip link del dev p2")?;
    scene.more_responses(200)?;
    for agent in scene.agents() {
        wait_for_proven(agent, 1)?;
    }
    let before = sent(&scene.client.scrape()?);
    assert!(before > 0.0, "the totals outlive the device");

    let again = scene.lab.path(&client, &server, Path::new("p2"))?;
    client.endpoint(again.client_addr, "p2", "subflow")?;
    scene.exchange.wait_for_subflows(2, SETTLE)?;
    scene.links[1] = again;
    scene.wait_for_copies()?;
    assert!(sent(&scene.client.scrape()?) > before);
    scene.end()
}

#[test]
fn an_mtu_that_shrinks_drops_no_original() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    for host in &scene.hosts {
        host.run("ip link set dev p2 mtu 1300")?;
    }
    scene.more_responses(100)?;
    scene.wait_for_copies()?;
    scene.end()
}
