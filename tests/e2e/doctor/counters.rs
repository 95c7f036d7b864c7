//! Counters that rise while connections come and go.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Churn, Churning, Server};
use mptcp_lab::{Host, Lab, wait};

use super::Patient;
use crate::SETTLE;
use crate::support::{require_agent, two_paths};

/// Opens connections one after another, several in each second.
fn connect(client: &Host, server: SocketAddr) -> Churning {
    let churn = Churn {
        at_once: 4,
        pause: Duration::from_millis(50),
        ..Churn::new(usize::MAX)
    };
    churn.start(client, server)
}

#[test]
fn fallbacks_that_go_on() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let plain = Server::spawn_tcp(&net.server, ANY, Behaviour::Echo)?;
    let churning = connect(&net.client, plain.at(net.server_addr()));
    let seen = ["capable_fallback_synack by"];
    patient.is_told("fallbacks", "warning", &seen, "net.mptcp.enabled=1")?;
    churning.stop().all()?;
    // Follow the report's advice: let the other end speak MPTCP.
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let churning = connect(&net.client, server.at(net.server_addr()));
    patient.is_well("fallbacks")?;
    churning.stop().all().map(drop)
}

#[test]
fn a_blackhole_for_mptcp() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    mptcp_lab::require!(
        net.client.sysctl_get("net.mptcp.blackhole_timeout").is_ok(),
        "this kernel does not look for blackholes"
    );
    let drop_mptcp = "table inet box { chain arriving { type filter hook prerouting priority -300;\n\
                      tcp flags syn tcp option mptcp exists drop\n}\n}\n";
    mptcp_lab::require!(
        net.server.nft(drop_mptcp).is_ok(),
        "nftables cannot match MPTCP's option here"
    );
    let mut patient = Patient::new(&net.client, &binary)?;
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let churning = connect(&net.client, server.at(net.server_addr()));
    // First the kernel finds out, then it leaves MPTCP out.
    let check = wait::try_until("MPTCP to be left out", SETTLE, || {
        match patient.until("blackholes", "problem") {
            Ok(check) if check.seen.contains("capable_syn_tx_disabled by") => Ok(check),
            other => Err(other),
        }
    })?;
    let timeout = net.client.sysctl_get("net.mptcp.blackhole_timeout")?;
    let command = format!("\nsysctl -w net.mptcp.blackhole_timeout={timeout}");
    assert!(
        check.mend.starts_with('#') && check.mend.ends_with(&command),
        "{check:?}"
    );
    // The middlebox alone is not enough: the kernel remembers it.
    net.server.run("nft delete table inet box")?;
    patient.until("blackholes", "problem")?;
    patient.does(&check.mend)?;
    patient.is_well("blackholes")?;
    churning.stop().all().map(drop)
}

#[test]
fn joins_that_the_limits_refuse() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.server, &binary)?;
    net.server.limits(0, 0)?;
    let server = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let churning = connect(&net.client, server.at(net.server_addr()));
    patient.is_mended(
        "joins",
        "warning",
        &["join_rejected by"],
        "ip mptcp limits set subflows 8",
    )?;
    churning.stop().all().map(drop)
}
