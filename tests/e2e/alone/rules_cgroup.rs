//! A rule names a cgroup, which may come after the rule.

use std::fs;

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::{ANY, Behaviour, Server};
use mptcp_lab::{Agent, Cgroup, Lab};
use serde_json::json;

use crate::rules::{set_rules, shown, upload};
use crate::support::{require_agent, two_paths, wait_for_shares, weighted};

#[test]
fn connections_of_a_cgroup_have_their_policy() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=3", "p2=1"]))?;
    let cgroup = Cgroup::create()?;
    let name = cgroup.path().file_name().context("no name")?;
    let name = name.to_string_lossy().into_owned();
    // The cgroup is another one from here on.
    fs::remove_dir(cgroup.path())?;
    let rules = json!({
        "policies": {"other": {"name": "weighted", "weights": ["p1=1", "p2=3"]}},
        "rules": [
            {"name": "in", "policy": "other", "cgroup": format!("/{name}")},
            {"name": "root", "policy": "default", "cgroup": "/"},
        ],
    });
    let view = set_rules(&agent, &rules)?;
    assert_eq!(view["rules"][0]["cgroup_missing"], true);
    let sinks = [
        Server::spawn(&net.server, ANY, Behaviour::Sink)?,
        Server::spawn(&net.server, ANY, Behaviour::Sink)?,
    ];
    let outside = upload(&net.client, &sinks[0], &net.links)?;
    fs::create_dir(cgroup.path())?;
    cgroup.enter()?;
    let inside = upload(&net.client, &sinks[1], &net.links)?;
    wait_for_shares(&inside, &net.links, &[1, 3])?;
    wait_for_shares(&outside, &net.links, &[3, 1])?;
    let view = shown(&agent)?;
    let counted = |place: usize| view["rules"][place]["connections"].as_u64();
    assert_eq!((counted(0), counted(1)), (Some(1), Some(1)), "{view}");
    inside.stop()?;
    outside.stop()?;
    agent.stop()
}
