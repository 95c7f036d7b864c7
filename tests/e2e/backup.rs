//! A backup path, whichever side declares it, does not count for the weights
//! while another path carries data.

use anyhow::Result;
use mptcp_lab::traffic::{ANY_V4, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Lab, Path, TwoHosts};

use crate::support::{acked_by, require_agent, settle, upload, wait_for_shares, weighted};
use crate::{SOON, VERY_LONG};

/// The id of the client's endpoint on the third path.
const THIRD: u8 = 2;

fn three_paths(lab: &Lab) -> Result<TwoHosts> {
    lab.two_hosts([
        Path::new("p1").rate_mbit(60.0),
        Path::new("p2").rate_mbit(40.0),
        Path::new("p3").rate_mbit(20.0),
    ])
}

/// Returns how often the agent left a connection alone because the scheduler gave
/// nothing to its lagging path.
fn left_alone(agent: &Agent) -> Result<f64> {
    Ok(agent.scrape()?.sum("mptcp_agent_left_alone_total", &[]))
}

#[test]
fn a_backup_endpoint_does_not_count_as_a_path_that_lags() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = three_paths(&lab)?;
    net.client.change_endpoint(THIRD, "backup")?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=4", "p2=1"]))?;
    let (_sink, transfer) = upload(&net, 3)?;
    wait_for_shares(&transfer, &net.links, &[4, 1, 0])?;
    assert_eq!(left_alone(&agent)?, 0.0);
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_path_that_becomes_a_backup_leaves_the_weights_and_comes_back() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = three_paths(&lab)?;
    let weights = weighted(&["p1=4", "p2=1", "p3=1"]);
    let agent = Agent::start(&net.client, &binary, &weights)?;
    let (_sink, transfer) = upload(&net, 3)?;
    wait_for_shares(&transfer, &net.links, &[4, 1, 1])?;
    net.client.change_endpoint(THIRD, "backup")?;
    wait_for_shares(&transfer, &net.links, &[4, 1, 0])?;
    net.client.change_endpoint(THIRD, "nobackup")?;
    wait_for_shares(&transfer, &net.links, &[4, 1, 1])?;
    assert_eq!(left_alone(&agent)?, 0.0);
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_peers_backup_flag_counts_as_the_own_does() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = three_paths(&lab)?;
    net.client.change_endpoint(THIRD, "backup")?;
    // The server sends, but the client asked for the backup.
    let agent = Agent::start(&net.server, &binary, &weighted(&["p1=4", "p2=1"]))?;
    let source = Server::spawn(&net.server, ANY_V4, Behaviour::Source { rate_mbit: None })?;
    let bulk = Bulk::download_for(VERY_LONG);
    let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
    transfer.wait_for_subflows(3, SOON)?;
    let connection = source.connection(0, SOON)?;
    settle(&[4, 1, 0], || {
        let subflows = connection.subflows()?;
        Ok(acked_by(&subflows, &net.links, |one| one.remote.ip()))
    })?;
    assert_eq!(left_alone(&agent)?, 0.0);
    transfer.stop()?;
    agent.stop()
}

/// While a standby path that is no backup exists, the kernel uses no backups,
/// even if that path is held out. So it must carry data if all weighted paths
/// are backups.
#[test]
fn a_standby_path_carries_while_all_weighted_ones_are_backups() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = three_paths(&lab)?;
    net.client.change_endpoint(1, "backup")?;
    net.client.change_endpoint(THIRD, "backup")?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=0", "p2=1", "p3=1"]))?;
    let (_sink, transfer) = upload(&net, 3)?;
    wait_for_shares(&transfer, &net.links, &[1, 0, 0])?;
    transfer.stop()?;
    agent.stop()
}
