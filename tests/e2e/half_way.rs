//! A change of policy that the kernel refuses half-way.

use anyhow::{Context as _, Result};
use mptcp_lab::kernel::freeze;
use mptcp_lab::{Agent, Lab};

use crate::support::{require_agent, two_paths, upload, wait_for_cap, wait_for_shares, weighted};

#[test]
fn a_change_that_fails_half_way_is_taken_back() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    let before = agent.tell(&["policy", "show"])?;

    // The agent writes this map after the weights, and before they take effect.
    let pins = net.client.pins()?;
    let ids = pins.iter().find(|path| path.ends_with("SELECT_ID"));
    freeze(ids.context("no map SELECT_ID")?)?;
    let mut command = net.client.command(&binary);
    let policy = "policy set weighted --weight p1=3 --weight p2=1 --weight id:9=1";
    let output = command.args(policy.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("taken back"), "{said}");
    assert!(
        said.contains("policy weighted (strict) is in force"),
        "{said}"
    );

    assert_eq!(agent.tell(&["policy", "show"])?, before);
    // The old policy applies to old and to new subflows.
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;

    // Policies that do not need this map still work.
    agent.tell(&["policy", "set", "weighted", "--weight", "p1=3"])?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[3, 1])?;
    transfer.stop()?;
    agent.stop()
}
