//! Each recipe of docs/recipes.md does what it says.

use std::fs;
use std::net::SocketAddr;
use std::path::Path as FilePath;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Host, Lab, TwoHosts, wait};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{require_agent, two_paths, upload, wait_for_shares};
use crate::{SOON, VERY_LONG};

const RECIPES: &str = include_str!("../../docs/recipes.md");

/// A recipe, in use by the client of a lab.
struct Recipe {
    agent: Agent,
    net: TwoHosts,
    _file: TempDir,
    _lab: Lab,
}

impl Recipe {
    /// Runs the configuration file below the heading, for the lab's devices and a
    /// free port.
    fn start(binary: &FilePath, heading: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let text = block(heading)?
            .replace("eth0", "p1")
            .replace("wwan0", "p2")
            .replace("listen = \"127.0.0.1:8684\"\n", "");
        let directory = TempDir::new()?;
        let file = directory.path().join("config.toml");
        fs::write(&file, text)?;
        let file = file.to_str().context("a path of UTF-8")?;
        let state = directory.path().join("state");
        let state = state.to_str().context("a path of UTF-8")?;
        let agent = Agent::start(
            &net.client,
            binary,
            &["--config", file, "--state-dir", state],
        )?;
        Ok(Self {
            agent,
            net,
            _file: directory,
            _lab: lab,
        })
    }

    fn tell(&self, args: &[&str]) -> Result<String> {
        self.agent.tell(args)
    }

    /// Ends the agent, and takes back what it made.
    fn end(self, binary: &FilePath) -> Result<()> {
        self.agent.stop()?;
        mptcp_lab::agent::tell(&self.net.client, binary, &["cleanup"]).map(drop)
    }
}

/// Returns the TOML below a heading.
fn block(heading: &str) -> Result<&'static str> {
    let (_, text) = RECIPES
        .split_once(&format!("\n## {heading}\n"))
        .with_context(|| format!("no recipe \"{heading}\""))?;
    let (_, text) = text.split_once("```toml\n").context("no file")?;
    let (text, _) = text.split_once("```").context("no end of the file")?;
    Ok(text)
}

/// Waits until the kernel has an endpoint for each address of the client.
fn wait_for_endpoints(host: &Host, net: &TwoHosts) -> Result<()> {
    wait::try_until("an endpoint for each address", SOON, || {
        let shown = host.run("ip mptcp endpoint show");
        let shown = shown.map_err(|error| format!("{error:#}"))?;
        let has = |address: String| shown.contains(&address);
        let all = net.links.iter().map(|link| link.client_addr.to_string());
        if all.clone().all(has) {
            return Ok(());
        }
        Err(shown)
    })
}

#[test]
fn every_file_has_a_test() {
    assert_eq!(RECIPES.matches("```toml").count(), 3);
}

#[test]
fn a_bonding_router_splits_bulk_and_copies_calls() -> Result<()> {
    let binary = require_agent!();
    let recipe = Recipe::start(&binary, "A router or an edge box that bonds uplinks")?;
    let (sink, transfer) = upload(&recipe.net, 2)?;
    wait_for_shares(&transfer, &recipe.net.links, &[4, 1])?;
    let shell = recipe.tell(&["rules", "test", "--dst", "10.77.1.2", "--dport", "22"])?;
    ensure!(shell.contains("calls"), "{shell}");
    let quota = recipe.tell(&["quota"])?;
    ensure!(quota.contains("p2") && quota.contains("50"), "{quota}");
    transfer.stop()?;
    drop(sink);
    recipe.end(&binary)
}

#[test]
fn a_watched_host_has_its_endpoints_and_steers_nothing() -> Result<()> {
    let binary = require_agent!();
    let recipe = Recipe::start(&binary, "One of fifty dual-homed hosts")?;
    wait_for_endpoints(&recipe.net.client, &recipe.net)?;
    let (sink, transfer) = upload(&recipe.net, 2)?;
    let metrics = recipe.agent.scrape()?;
    for path in ["p1", "p2"] {
        let up = metrics.value("mptcp_path_up", &[("path", path)]);
        ensure!(up == Some(1.0), "{path}: {up:?}");
    }
    let connections: Value = serde_json::from_str(&recipe.tell(&["connections", "--json"])?)?;
    ensure!(
        connections["connections"][0]["steered"] == false,
        "{connections}"
    );
    transfer.stop()?;
    drop(sink);
    recipe.end(&binary)
}

#[test]
fn a_lab_compares_policies_by_port() -> Result<()> {
    let binary = require_agent!();
    let recipe = Recipe::start(&binary, "A lab that compares policies")?;
    let net = &recipe.net;
    let even = Server::spawn(
        &net.server,
        SocketAddr::new(ANY.ip(), 5001),
        Behaviour::Sink,
    )?;
    let transfer = Bulk::upload_for(VERY_LONG).start(&net.client, even.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    wait_for_shares(&transfer, &net.links, &[1, 1])?;
    let connections = recipe.tell(&["connections", "--json"])?;
    let connections: Value = serde_json::from_str(&connections)?;
    let found = &connections["connections"][0];
    ensure!(found["policy"] == "even", "{connections}");
    let ordered = recipe.tell(&["rules", "test", "--dst", "10.77.1.2", "--dport", "5002"])?;
    ensure!(ordered.contains("first-only"), "{ordered}");
    transfer.stop()?;
    drop(even);
    recipe.end(&binary)
}
