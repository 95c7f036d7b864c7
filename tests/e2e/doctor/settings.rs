//! Sysctls of the namespace.

use anyhow::Result;
use mptcp_lab::Lab;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};

use super::Patient;
use crate::support::{require_agent, two_paths};
use crate::{LONG, SOON};

#[test]
fn mptcp_ipv6_and_timestamps_that_are_off() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    for (check, key, off, on, result) in [
        ("mptcp-enabled", "net.mptcp.enabled", "0", "1", "problem"),
        ("timestamps", "net.ipv4.tcp_timestamps", "0", "1", "warning"),
        (
            "ipv6",
            "net.ipv6.conf.all.disable_ipv6",
            "1",
            "0",
            "warning",
        ),
    ] {
        patient.is_well(check)?;
        net.client.sysctl(key, off)?;
        patient.is_mended(check, result, &[key], &format!("sysctl -w {key}={on}"))?;
        assert_eq!(net.client.sysctl_get(key)?, on);
    }
    Ok(())
}

#[test]
fn connection_tracking_that_is_strict() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    net.client.nft(
        "table inet doctor { chain in { type filter hook input priority 0;\n\
         ct state established accept\n}\n}\n",
    )?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.is_well("conntrack-liberal")?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(LONG);
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_progress(100_000, SOON)?;
    patient.is_mended(
        "conntrack-liberal",
        "warning",
        &["are tracked"],
        "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1",
    )?;
    transfer.stop().map(drop)
}

#[test]
fn a_scheduler_that_is_not_the_default_one() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    mptcp_lab::require!(
        host.sysctl_get("net.mptcp.scheduler").is_ok(),
        "this kernel has one scheduler"
    );
    let mut patient = Patient::contained(&host, &binary)?;
    patient.is_well("mptcp-scheduler")?;
    // The kernel has no other one as a rule, so a file stands in for the setting.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("scheduler");
    std::fs::write(&file, "bpf_red\n")?;
    patient.does(&format!(
        "mount --bind {} /proc/sys/net/mptcp/scheduler",
        file.display()
    ))?;
    patient.is_mended(
        "mptcp-scheduler",
        "problem",
        &["bpf_red"],
        "sysctl -w net.mptcp.scheduler=default",
    )
}
