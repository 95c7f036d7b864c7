//! Agents keep to their own network namespace.

use anyhow::Result;
use mptcp_lab::{Agent, Lab, TwoHosts, wait};

use crate::SETTLE;
use crate::support::{
    capped, failure_of, require_agent, scrape_until_empty, two_paths, upload, wait_for_cap,
    wait_for_shares, weighted,
};

#[test]
fn two_agents_in_two_namespaces_do_not_disturb_each_other() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let client = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let server = Agent::start(&net.server, &binary, &["--policy", "default"])?;
    let (sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    let connection = sink.connection(0, SETTLE)?;
    for (agent, side, policy) in [
        (&client, "client", "weighted"),
        (&server, "server", "default"),
    ] {
        let metrics = agent.scrape()?;
        let opened = metrics.value("mptcp_connections_opened_total", &[("side", side)]);
        assert_eq!(opened, Some(1.0));
        assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 1.0);
        assert_eq!(
            metrics.value("mptcp_policy_info", &[("policy", policy)]),
            Some(1.0)
        );
        assert_eq!(metrics.sum("mptcp_subflows", &[]), 2.0);
    }
    assert!(
        !capped(&connection.subflows()?),
        "the server's agent only observes"
    );

    // When one agent ends, the other stays in force.
    server.stop()?;
    wait_for_cap(&transfer)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    assert_eq!(client.scrape()?.sum("mptcp_subflows", &[]), 2.0);
    transfer.stop()?;
    client.stop()
}

#[test]
fn connections_of_another_namespace_are_left_alone() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let (net, other): (TwoHosts, TwoHosts) = (two_paths(&lab)?, two_paths(&lab)?);
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, foreign) = upload(&other, 2)?;
    let (_own_sink, own) = upload(&net, 2)?;
    wait_for_cap(&own)?;
    let goal = foreign.bytes() + 20_000_000;
    while foreign.bytes() < goal {
        assert!(!capped(&foreign.subflows()?));
        foreign.wait_for_progress(100_000, SETTLE)?;
    }
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
    assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 1.0);
    assert_eq!(metrics.sum("mptcp_subflows_opened_total", &[]), 2.0);
    own.stop()?;
    foreign.stop()?;
    scrape_until_empty(&agent)?;
    agent.stop()
}

#[test]
fn a_second_agent_in_the_same_namespace_is_refused() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let first = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;

    let mut command = net.client.command(&binary);
    command.args(["run", "--listen", "127.0.0.1:0"]);
    let line = failure_of(&net.client, &mut command)?;
    assert!(line.contains("another mptcp-agent"), "{line}");

    // The second agent lifted nothing when it failed.
    wait_for_cap(&transfer)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    assert_eq!(first.scrape()?.sum("mptcp_subflows", &[]), 2.0);
    transfer.stop()?;
    first.stop()?;
    wait::until("an agent to start after the first", SETTLE, || {
        Agent::start(&net.client, &binary, &[] as &[&str])?.stop()
    });
    Ok(())
}
