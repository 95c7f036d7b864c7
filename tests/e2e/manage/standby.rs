//! The endpoint of a path of weight 0 is a backup.

use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::{Agent, Direction, Lab, wait};

use super::{bare, wait_for_endpoints};
use crate::SETTLE;
use crate::support::{require_agent, two_paths, upload, wait_for_window, weighted};

/// Returns how long the standby path takes to carry data once the other is cut.
fn takes_over(more: &[&str], flags: &str) -> Result<Duration> {
    let Some(binary) = mptcp_lab::agent::binary() else {
        anyhow::bail!("no binary")
    };
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    if !more.is_empty() {
        bare(&net)?;
    }
    let mut args = weighted(&["p1=1", "p2=0"]);
    args.extend(more.iter().map(|&word| word.to_owned()));
    let agent = Agent::start(&net.client, &binary, &args)?;
    let (p1, p2) = (net.links[0].client_addr, net.links[1].client_addr);
    match more.is_empty() {
        true => wait_for_endpoints(&net.client, &[(p2, "p2", flags)])?,
        false => wait_for_endpoints(&net.client, &[(p1, "p1", "subflow"), (p2, "p2", flags)])?,
    };
    let (_sink, transfer) = upload(&net, 2)?;
    let acked = || -> Result<Vec<u64>> {
        let subflows = transfer.subflows()?;
        let on = |address| {
            let own = subflows.iter().filter(|one| one.local.ip() == address);
            own.map(|one| one.bytes_acked).sum()
        };
        Ok(vec![on(p1), on(p2)])
    };
    wait_for_window("standby to rest", acked, |shares| shares[0] > 0.98)?;
    let before = acked()?[1];
    net.links[0].blackhole(Direction::Both, true)?;
    let since = Instant::now();
    wait::until("standby to carry", SETTLE, || match acked() {
        Ok(bytes) if bytes[1] > before + 500_000 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let took = since.elapsed();
    transfer.stop()?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])?;
    Ok(took)
}

#[test]
fn a_standby_path_that_is_a_backup_takes_over() -> Result<()> {
    require_agent!();
    let plain = takes_over(&[], "subflow")?;
    let backup = takes_over(&["--manage-endpoints"], "subflow backup")?;
    eprintln!("taken over after {plain:?}; as a backup after {backup:?}");
    Ok(())
}
