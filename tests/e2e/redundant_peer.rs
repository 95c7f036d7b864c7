//! An agent sends copies only to a peer that has proven that it is there.

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Server};
use mptcp_lab::{Host, Path};
use nix::sys::signal::Signal;

use crate::SETTLE;
use crate::redundant_support::{
    Scene, Stage, arrived, ask, dropped, hellos, peers, redundant, sent, wait_for_proven,
    wait_for_the_last_copy,
};
use crate::support::{Watched, require_agent, scrape_until};

/// Runs an agent at one end only. The connection uses plain Multipath TCP, and
/// the agent says so.
fn alone(host: impl Fn(&Stage) -> &Host, asks: bool) -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let agent = redundant(host(&stage), &binary, &[])?;
    let echo = Server::spawn(&stage.hosts[1], ANY, Behaviour::Echo)?;
    let exchange = ask(&stage.hosts[0], &echo, &stage.links)?;
    exchange.wait_for_responses(200, SETTLE)?;
    let metrics = scrape_until(&agent, "single copies", |metrics| {
        dropped(metrics, "no-peer") > 100.0
    })?;
    assert_eq!(sent(&metrics), 0.0);
    assert_eq!(peers(&metrics, "proven"), 0.0);
    if asks {
        assert!(hellos(&metrics, "sent") > 0.0);
        wait_for_the_line_about_no_agent(&agent, &stage)?;
    } else {
        // Only the end that opened the connection sends the first hello.
        assert_eq!(hellos(&metrics, "sent"), 0.0);
    }
    assert_eq!(exchange.subflows()?.len(), 2);
    exchange.stop()?;
    agent.stop()
}

/// Waits for a line in the log that names the server and is about an agent.
fn wait_for_the_line_about_no_agent(agent: &Watched, stage: &Stage) -> Result<()> {
    let server = stage.links[0].server_addr.to_string();
    mptcp_lab::wait::try_until("a line that there is no agent", SETTLE, || {
        let log = agent.log().map_err(|error| error.to_string())?;
        let says = |line: &serde_json::Value| {
            let text = line.to_string();
            text.contains(&server) && line["level"] != "DEBUG" && text.contains("no agent")
        };
        if log.iter().any(says) {
            Ok(())
        } else {
            Err(format!("{} lines", log.len()))
        }
    })
}

#[test]
fn an_agent_at_the_client_alone_sends_single_copies_and_says_so() -> Result<()> {
    alone(|stage| &stage.hosts[0], true)
}

#[test]
fn an_agent_at_the_server_alone_sends_single_copies() -> Result<()> {
    alone(|stage| &stage.hosts[1], false)
}

/// Ends one agent. Checks that the other stops sending copies, and starts again
/// when the first returns.
fn ends_and_returns(of_client: bool, signal: Signal) -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    let Scene {
        client,
        server,
        exchange,
        hosts,
        echo: _echo,
        links: _links,
        lab: _lab,
    } = scene;
    let (gone, left, home) = if of_client {
        (client, server, &hosts[0])
    } else {
        (server, client, &hosts[1])
    };
    let responses = exchange.responses();
    gone.stop_with(signal)?;
    wait_for_the_last_copy(&left)?;
    exchange.wait_for_responses(responses + 200, SETTLE)?;
    let metrics = scrape_until(&left, "silent links", |metrics| {
        peers(metrics, "proven") == 0.0
    })?;
    let before = (sent(&metrics), dropped(&metrics, "no-peer"));
    exchange.wait_for_responses(exchange.responses() + 100, SETTLE)?;
    let metrics = left.scrape()?;
    assert_eq!(sent(&metrics), before.0);
    assert!(dropped(&metrics, "no-peer") > before.1);

    let again = redundant(home, &binary, &[])?;
    for agent in [&again, &left] {
        wait_for_proven(agent, 2)?;
        let got = arrived(&agent.scrape()?);
        scrape_until(agent, "copies again", |metrics| arrived(metrics) > got)?;
    }
    exchange.stop()?;
    again.stop()?;
    left.stop()
}

#[test]
fn the_servers_agent_stops_and_returns() -> Result<()> {
    ends_and_returns(false, Signal::SIGTERM)
}

#[test]
fn the_clients_agent_stops_and_returns() -> Result<()> {
    ends_and_returns(true, Signal::SIGTERM)
}

#[test]
fn the_servers_agent_is_killed_and_returns() -> Result<()> {
    ends_and_returns(false, Signal::SIGKILL)
}

#[test]
fn an_agent_that_hangs_gets_no_copies_and_sends_none() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    let before = scene.recovery()?;
    scene.server.process().signal(Signal::SIGSTOP)?;
    wait_for_the_last_copy(&scene.client)?;
    scene.more_responses(300)?;
    // The stopped agent's programs still run, and know that its data has expired.
    let arrivals = arrived(&scene.client.scrape()?);
    scene.more_responses(100)?;
    assert_eq!(arrived(&scene.client.scrape()?), arrivals);
    scene.server.process().signal(Signal::SIGCONT)?;
    scene.wait_for_copies()?;
    assert_eq!((scene.recovery()? - before).timeouts, 0);
    scene.end()
}

#[test]
fn connections_older_than_both_agents_get_copies() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let echo = Server::spawn(&stage.hosts[1], ANY, Behaviour::Echo)?;
    let exchange = ask(&stage.hosts[0], &echo, &stage.links)?;
    let agents = [
        redundant(&stage.hosts[0], &binary, &[])?,
        redundant(&stage.hosts[1], &binary, &[])?,
    ];
    for agent in &agents {
        wait_for_proven(agent, 2)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 0.0)?;
    }
    exchange.stop()?;
    for agent in agents {
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn links_outlive_the_last_connection_for_those_to_come() -> Result<()> {
    let binary = require_agent!();
    let Scene {
        client,
        server,
        exchange,
        hosts: _hosts,
        echo,
        links,
        lab: _lab,
    } = Scene::of_two(&binary, &[])?;
    exchange.stop()?;
    echo.stop()?;
    drop(links);
    for agent in [&client, &server] {
        scrape_until(agent, "no connection", |metrics| {
            metrics.value("mptcp_connections", &[]) == Some(0.0)
        })?;
        // Wait longer than an earlier proof stays valid.
        let verified = hellos(&agent.scrape()?, "verified");
        scrape_until(agent, "hellos without a connection", |metrics| {
            hellos(metrics, "verified") >= verified + 12.0
        })?;
        wait_for_proven(agent, 2)?;
    }
    client.stop()?;
    server.stop()
}
