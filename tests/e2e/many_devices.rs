//! Hosts with more devices than there can be paths; most devices carry nothing.

use anyhow::Result;
use mptcp_lab::{Agent, Host, Lab, Path};

use crate::SOON;
use crate::support::{Watched, require_agent, scrape_until, two_paths, upload};

/// Adds `2 * pairs` devices, as containers do, each with or without an address.
fn crowd(host: &Host, pairs: u32, addressed: bool) -> Result<()> {
    for pair in 1..=pairs {
        host.run(&format!("ip link add c{pair} type veth peer name d{pair}"))?;
        if addressed {
            host.run(&format!("ip addr add 10.99.{pair}.1/24 dev c{pair}"))?;
            host.run(&format!("ip addr add 10.98.{pair}.1/24 dev d{pair}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_device_that_carries_subflows_has_its_name() -> Result<()> {
    let binary = require_agent!();
    for addressed in [false, true] {
        let lab = Lab::new()?;
        let (client, server) = (lab.host("client")?, lab.host("server")?);
        crowd(&client, 35, addressed)?;
        let link = lab.path(&client, &server, Path::new("wan0").rate_mbit(40.0))?;
        let net = mptcp_lab::TwoHosts {
            client,
            server,
            links: vec![link],
        };
        let agent = Agent::start(&net.client, &binary, &[] as &[&str])?;
        let (_sink, transfer) = upload(&net, 1)?;
        scrape_until(&agent, "a subflow on wan0", |metrics| {
            metrics.value("mptcp_subflows", &[("path", "wan0")]) == Some(1.0)
                && metrics.sum("mptcp_subflows", &[("path", "unknown")]) == 0.0
        })?;
        transfer.stop()?;
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn devices_that_carry_nothing_cause_no_sweep() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &[] as &[&str])?;
    let (_sink, transfer) = upload(&net, 2)?;
    transfer.wait_for_progress(1_000_000, SOON)?;
    let count = |message: &str| -> Result<usize> {
        let log = agent.log()?;
        let applied = |line: &&serde_json::Value| line["message"] == message && line["what"] != 0;
        Ok(log.iter().filter(applied).count())
    };
    let before = count("swept")?;
    crowd(&net.client, 15, false)?;
    mptcp_lab::wait::try_until("the devices to be known", SOON, || {
        match count("network devices changed") {
            Ok(changes) if changes >= 2 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let after = count("swept")?;
    assert_eq!(after - before, 0, "sweeps of all sockets");
    transfer.stop()?;
    agent.stop()
}
