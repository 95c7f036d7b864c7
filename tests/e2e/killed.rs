//! An agent is killed while subflows are held out that have nothing to send. They
//! wake by a timer of their own, which the agent puts off as long as it lives.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Agent, Host, Lab, require, wait};

use crate::lifecycle::can_adopt;
use crate::standby::{idle, wait_until_held_out};
use crate::support::{require_agent, two_paths, weighted};
use crate::{SETTLE, SOON};

/// Longer than the timer, which runs for two seconds.
const LONGER: Duration = Duration::from_secs(8);

/// Returns how many sockets of a host have a keepalive timer.
fn timers(host: &Host) -> Result<usize> {
    Ok(host
        .run("ss --tcp --numeric --options")?
        .matches("timer:(keepalive")
        .count())
}

/// Returns how many keepalive probes a host has sent.
fn probes(host: &Host) -> Result<u64> {
    Ok(host.netstat()?.get("TcpExt", "TCPKeepAlive"))
}

/// Waits until a host has sent no keepalive probe for [`LONGER`], and returns how many
/// it has sent in all.
fn probes_at_rest(host: &Host) -> Result<u64> {
    let sent = || probes(host).map_err(|error| format!("{error:#}"));
    let sent = wait::until_steady("no more keepalive probes", 2 * LONGER, LONGER, sent);
    sent.map_err(anyhow::Error::msg)
}

#[test]
fn an_idle_subflow_that_is_held_out_wakes_when_the_agent_is_killed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let overflow = ["--policy", "overflow", "--prefer", "p1", "--prefer", "p2"];
    for options in [weighted(&["p2=0"]), overflow.map(str::to_owned).to_vec()] {
        let agent = Agent::start(&net.client, &binary, &options)?;
        let (_server, exchange) = idle(&net)?;
        wait_until_held_out(&exchange, &net, 1)?;

        // The timer never runs out while the agent lives.
        let before = probes(&net.client)?;
        assert_eq!(probes_at_rest(&net.client)?, before, "{options:?}");
        assert_eq!(timers(&net.client)?, 1, "{options:?}");
        wait_until_held_out(&exchange, &net, 1)?;

        agent.kill()?;
        wait::try_until("the standby path to be as before", SETTLE, || {
            let subflows = exchange.subflows().map_err(|error| format!("{error:#}"))?;
            let free = subflows.iter().all(|one| {
                one.max_pacing_rate_bytes_per_sec == u64::MAX && one.pacing_rate_bytes_per_sec > 0
            });
            if subflows.len() == 2 && free {
                return Ok(());
            }
            Err(format!("{subflows:#?}"))
        })?;
        // The kernel has set the timer once more, and will do nothing when it has
        // run out: the socket has no SO_KEEPALIVE any more.
        assert_eq!(probes(&net.client)?, before + 1, "{options:?}");
        exchange.finish()?;
        let cleanup = net.client.command(&binary).arg("cleanup").output()?;
        assert!(cleanup.status.success(), "{cleanup:?}");
    }
    Ok(())
}

#[test]
fn stopping_takes_the_timers_back() -> Result<()> {
    let binary = require_agent!();
    require!(can_adopt(), "adoption needs Linux 6.12");
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_server, exchange) = idle(&net)?;
    for policy in [weighted(&["p2=0"]), weighted(&["p1=0"])] {
        let agent = Agent::start(&net.client, &binary, &policy)?;
        wait::try_until("a timer", SOON, || match timers(&net.client) {
            Ok(1) => Ok(()),
            other => Err(other),
        })?;
        agent.stop()?;
        assert_eq!(timers(&net.client)?, 0, "{policy:?}");
    }
    exchange.finish()?;
    Ok(())
}

/// An application's own keepalive stays as it is, and wakes the subflow instead.
#[test]
fn an_applications_keepalive_is_left_alone() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p2=0"]))?;
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let mut request = RequestResponse::new(200, Duration::from_millis(20), 1);
    request.sockets.keepalive = true;
    let exchange = request.start(&net.client, server.at(net.server_addr()))?;
    exchange.wait_for_subflows(2, SOON)?;
    exchange.wait_for_responses(1, SOON)?;
    wait_until_held_out(&exchange, &net, 1)?;
    // No timer of the agent runs out, and none has taken the place of these.
    probes_at_rest(&net.client)?;
    let seen = net.client.run("ss --tcp --numeric --options")?;
    // Both subflows' timers run for two hours.
    assert_eq!(seen.matches("timer:(keepalive,119min").count(), 2, "{seen}");
    agent.stop()?;
    let seen = net.client.run("ss --tcp --numeric --options")?;
    assert_eq!(seen.matches("timer:(keepalive,119min").count(), 2, "{seen}");
    exchange.finish()?;
    Ok(())
}
