//! Weights that hold for the host: many connections together keep the ratio.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::share::Totals;
use mptcp_lab::traffic::{ANY, Crowd, Crowding, PollServer, Service, Sockets};
use mptcp_lab::{Agent, Direction, Lab, Path, TwoHosts, agent, wait};

use crate::SOON;
use crate::support::{require_agent, wait_for_window};

/// Enough that each gets less than 64 kB/s on a path.
const CONNECTIONS: usize = 60;

/// How far the host's share may be off.
const ERROR_MAX: f64 = 0.03;

/// Makes two paths whose queues are in modems, where many connections lose packets as
/// they would on real uplinks.
fn two_paths(lab: &Lab) -> Result<TwoHosts> {
    let path = |name, rate_mbit| Path::new(name).rate_mbit(rate_mbit).modem();
    lab.two_hosts([path("p1", 40.0), path("p2", 20.0)])
}

/// Waits for a window in which the host's share on the first path is `asked`.
fn wait_for_share(crowd: &Crowding, net: &TwoHosts, asked: f64) -> Result<()> {
    let addresses: Vec<_> = net.links.iter().map(|link| link.client_addr).collect();
    let mut totals = Totals::default();
    let acked = || {
        totals.read(&crowd.subflows()?, &addresses);
        Ok(totals.paths.clone())
    };
    let fits = |shares: &[f64]| (shares[0] - asked).abs() < ERROR_MAX;
    wait_for_window(
        &format!("a share of {asked} on the first path"),
        acked,
        fits,
    )
}

#[test]
fn many_slow_connections_keep_the_ratio_together() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(
        &net.client,
        &binary,
        &agent::weighted_args(&[("p1", 1), ("p2", 1)]),
    )?;
    let sink = PollServer::spawn(&net.server, ANY, Service::Sink, &Sockets::default())?;
    let crowd = Crowd::uploads(CONNECTIONS).start(&net.client, sink.at(net.server_addr()))?;
    crowd.wait_for_joins(2, SOON)?;
    // Under the default scheduler the first path has two thirds.
    wait_for_share(&crowd, &net, 0.5)?;
    crowd.stop()?;
    sink.stop()?;
    agent.stop()
}

#[test]
fn thin_connections_that_are_placed_keep_the_ratio_and_leave_a_dead_path() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut args = agent::weighted_args(&[("p1", 1), ("p2", 1)]);
    args.extend(["--thin", "place"].map(str::to_owned));
    let agent = Agent::start(&net.client, &binary, &args)?;
    let echo = PollServer::spawn(&net.server, ANY, Service::Echo, &Sockets::default())?;
    let requests = Crowd::requests(40, 1_000, Duration::from_millis(100));
    let crowd = requests.start(&net.client, echo.at(net.server_addr()))?;
    crowd.wait_for_joins(2, SOON)?;
    // The default scheduler sends all of it over one path.
    wait_for_share(&crowd, &net, 0.5)?;

    net.links[0].blackhole(Direction::Both, true)?;
    // The second path then carries what new requests there are.
    wait_for_share(&crowd, &net, 0.0)?;
    let goal = crowd.responses() + 1_000;
    wait::until_true("responses over the other path", 2 * SOON, || {
        crowd.responses() > goal
    });
    net.links[0].blackhole(Direction::Both, false)?;
    crowd.stop()?;
    echo.stop()?;
    agent.stop()
}
