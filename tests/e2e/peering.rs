//! Both ends from one place: downloads follow the client's weights, because its
//! agent asks the server's agent for them.

use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Family, Host, Lab, Link, Path, TwoHosts, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::redundant_key::KeyFile;
use crate::support::{acked_by, require_agent, settle, weighted};
use crate::{SETTLE, SOON, VERY_LONG};

/// A wish ends this long after its agent was heard last. The test adds what a busy
/// machine takes.
const GONE: Duration = Duration::from_millis(3000 + 1500);

/// Two hosts, and a download by the client.
struct Scene {
    server: Agent,
    client: Agent,
    source: Server,
    transfer: Transfer,
    net: TwoHosts,
    key: KeyFile,
    _lab: Lab,
}

/// Returns the arguments of an agent that asks for these weights.
fn asks(key: &KeyFile, weights: &[&str]) -> Vec<String> {
    let mut args = weighted(weights);
    args.extend(["--ask-peer", "--redundant-key"].map(str::to_owned));
    args.push(key.path());
    args
}

/// Returns the arguments that let hosts with these prefixes ask.
fn accepts(key: &KeyFile, prefixes: &[&str]) -> Vec<String> {
    let mut args = vec!["--redundant-key".to_owned(), key.path()];
    for prefix in prefixes {
        args.extend(["--accept-peer-policy".to_owned(), (*prefix).to_owned()]);
    }
    args
}

impl Scene {
    /// Starts a download over these paths. The server's agent has the arguments
    /// that `server` returns, the client's asks for `weights`.
    fn start(
        binary: &FilePath,
        name: &str,
        paths: impl IntoIterator<Item = Path>,
        weights: &[&str],
        server: impl FnOnce(&KeyFile, &[Link]) -> Vec<String>,
    ) -> Result<Self> {
        let lab = Lab::new()?;
        let net = lab.two_hosts(paths)?;
        net.signal_other_family()?;
        let key = KeyFile::new(name, b"sixteen bytes and more\n", 0o600)?;
        let server = Agent::start(&net.server, binary, &server(&key, &net.links))?;
        let client = Agent::start(&net.client, binary, &asks(&key, weights))?;
        let source = Server::spawn(&net.server, ANY, Behaviour::Source { rate_mbit: None })?;
        let bulk = Bulk::download_for(VERY_LONG).dual_stack();
        let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
        transfer.wait_for_subflows(net.links.len(), SOON)?;
        Ok(Self {
            server,
            client,
            source,
            transfer,
            net,
            key,
            _lab: lab,
        })
    }

    /// Waits until the download has the shares that these weights ask for.
    fn settles(&self, weights: &[u16]) -> Result<()> {
        let connection = self.source.connection(0, SOON)?;
        settle(weights, || {
            let subflows = connection.subflows()?;
            Ok(acked_by(&subflows, &self.net.links, |one| one.remote.ip()))
        })
    }

    /// Waits until both ends show these states of the wish, and returns what they
    /// show.
    fn wait_for(&self, asked: &str, heard: Option<&str>) -> Result<[Value; 2]> {
        wait::try_until("the states of the wish", SOON, || {
            let both = [peering(&self.client), peering(&self.server)];
            let [Ok(client), Ok(server)] = &both else {
                return Err(format!("{both:?}"));
            };
            let state = |list: &Value| list[0]["state"].as_str().map(str::to_owned);
            let fits = state(&client["asked"]).as_deref() == Some(asked)
                && state(&server["heard"]).as_deref() == heard;
            match fits {
                true => Ok([client.clone(), server.clone()]),
                false => Err(format!("{client} {server}")),
            }
        })
    }

    fn stop(self) -> Result<()> {
        self.transfer.stop()?;
        self.client.stop()?;
        self.server.stop()
    }
}

/// Returns what `status` says about wishes.
fn peering(agent: &Agent) -> Result<Value> {
    let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"])?)?;
    Ok(status["peering"].clone())
}

/// Returns the number of rules and policies that an agent has.
fn rules_of(agent: &Agent) -> Result<usize> {
    let shown: Value = serde_json::from_str(&agent.tell(&["rules", "--json"])?)?;
    Ok(shown["rules"].as_array().context("no rules")?.len())
}

/// Waits until an agent carries out no wish any more.
fn no_rules(agent: &Agent) -> Result<()> {
    wait::try_until("the wish to end", SETTLE, || match rules_of(agent) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

/// Fails if an agent has put something into the way of packets.
fn nothing_is_attached(host: &Host, links: &[Link]) -> Result<()> {
    for device in links.iter().map(|link| &link.name) {
        let shown = host.run(&format!("tc qdisc show dev {device}"))?;
        let filters = host.run(&format!("tc filter show dev {device} egress"))?;
        ensure!(!filters.contains("redundant"), "{shown}{filters}");
    }
    Ok(())
}

fn two(family: Family) -> [Path; 2] {
    [("p1", 40.0), ("p2", 30.0)].map(|(name, rate)| Path::new(name).rate_mbit(rate).family(family))
}

#[test]
fn downloads_follow_the_clients_weights_until_its_agent_dies() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::start(
        &binary,
        "peering",
        two(Family::V4),
        &["p1=1", "p2=3"],
        |key, _| {
            let equal = weighted(&["p1=1", "p2=1"]);
            [equal, accepts(key, &["10.77.0.0/16"])].concat()
        },
    )?;
    let [_, server] = scene.wait_for("in-force", Some("in-force"))?;
    let weights: Vec<Value> = scene
        .net
        .links
        .iter()
        .zip([1, 3])
        .map(|(link, weight)| {
            let address = link.client_addr.to_string();
            json!({"address": address, "weight": weight, "proven": true})
        })
        .collect();
    ensure!(server["heard"][0]["weights"] == json!(weights), "{server}");
    scene.settles(&[1, 3])?;
    for (agent, host) in [
        (&scene.client, &scene.net.client),
        (&scene.server, &scene.net.server),
    ] {
        nothing_is_attached(host, &scene.net.links)?;
        ensure!(!agent.get("/metrics")?.contains("mptcp_redundant"));
    }
    // A change of the client's policy changes both directions.
    scene.client.tell(&[
        "policy", "set", "weighted", "--weight", "p1=3", "--weight", "p2=1",
    ])?;
    scene.settles(&[3, 1])?;
    let said = scene.client.tell(&["status"])?;
    ensure!(
        said.contains("asks peer") && said.contains("in force"),
        "{said}"
    );
    let said = scene.server.tell(&["status"])?;
    ensure!(said.contains("peer asks") && said.contains("=3"), "{said}");
    let labels = |direction| [("direction", direction), ("state", "in-force")];
    for (agent, direction) in [(&scene.client, "made"), (&scene.server, "heard")] {
        let count = agent
            .scrape()?
            .value("mptcp_peer_wishes", &labels(direction));
        ensure!(count == Some(1.0), "{direction}: {count:?}");
    }
    // The server's own policy holds again once the client's agent is silent.
    let Scene {
        server,
        client,
        source,
        transfer,
        net,
        ..
    } = scene;
    let start = Instant::now();
    client.stop_with(Signal::SIGKILL)?;
    no_rules(&server)?;
    let took = start.elapsed();
    ensure!(took < GONE, "{took:?}");
    let connection = source.connection(0, SOON)?;
    settle(&[1, 1], || {
        Ok(acked_by(&connection.subflows()?, &net.links, |one| {
            one.remote.ip()
        }))
    })?;
    transfer.stop()?;
    server.stop()
}

#[test]
fn over_ipv6_and_withdrawn_with_the_policy() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::start(
        &binary,
        "peering6",
        two(Family::V6),
        &["p1=1", "p2=3"],
        |key, _| accepts(key, &["fd77::/16"]),
    )?;
    scene.wait_for("in-force", Some("in-force"))?;
    scene.settles(&[1, 3])?;
    scene.client.tell(&["policy", "set", "default"])?;
    no_rules(&scene.server)?;
    scene.stop()
}

#[test]
fn three_paths_of_both_families_and_one_on_standby() -> Result<()> {
    let binary = require_agent!();
    let paths = [
        Path::new("p1").rate_mbit(30.0),
        Path::new("p2").rate_mbit(30.0),
        Path::new("p6").rate_mbit(30.0).family(Family::V6),
    ];
    let scene = Scene::start(
        &binary,
        "peering3",
        paths,
        &["p1=0", "p2=1", "p6=3"],
        |key, _| accepts(key, &["10.77.0.0/16", "fd77::/16"]),
    )?;
    scene.wait_for("in-force", Some("in-force"))?;
    scene.settles(&[0, 1, 3])?;
    scene.stop()
}

#[test]
fn a_server_that_accepts_nothing_goes_on_as_before() -> Result<()> {
    let binary = require_agent!();
    // This one speaks with peers, but takes no wishes.
    let scene = Scene::start(
        &binary,
        "peering-not",
        two(Family::V4),
        &["p1=1", "p2=3"],
        |key, _| asks(key, &["p1=3", "p2=1"]),
    )?;
    scene.wait_for("not-accepted", None)?;
    scene.settles(&[3, 1])?;
    ensure!(rules_of(&scene.server)? == 0);
    let said = scene.client.tell(&["status"])?;
    ensure!(said.contains("--accept-peer-policy"), "{said}");
    // So does the status if no agent answers at all.
    let Scene {
        server,
        client,
        net,
        key,
        transfer,
        source,
        ..
    } = scene;
    server.stop()?;
    client.stop()?;
    let server = Agent::start(&net.server, &binary, &["--policy", "redundant"])?;
    let client = Agent::start(&net.client, &binary, &asks(&key, &["p1=1"]))?;
    wait::try_until("the status", SOON, || {
        let shown = peering(&client).map_err(|error| format!("{error:#}"))?;
        match shown["unanswered"].as_array() {
            Some(remotes) if !remotes.is_empty() && shown["asked"] == json!([]) => Ok(()),
            _ => Err(shown.to_string()),
        }
    })?;
    drop((source, transfer));
    client.stop()?;
    server.stop()
}

#[test]
fn what_cannot_be_carried_out_is_refused_at_both_ends() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::start(
        &binary,
        "peering-bad",
        two(Family::V4),
        &["p1=1", "p2=3"],
        |key, links| {
            let only = links[0].client_addr.to_string();
            accepts(key, &[&only])
        },
    )?;
    let both = scene.wait_for("refused", Some("refused"))?;
    let foreign = scene.net.links[1].client_addr.to_string();
    for reason in [
        &both[0]["asked"][0]["reason"],
        &both[1]["heard"][0]["reason"],
    ] {
        let reason = reason.as_str().unwrap_or_default();
        ensure!(
            reason.contains(&foreign) && reason.contains("accept-peer-policy"),
            "{both:?}"
        );
    }
    // The first subflow's address was accepted, until the second one joined.
    no_rules(&scene.server)?;
    let lines = scene.server.stderr();
    let lines = lines
        .lines()
        .filter(|line| line.contains("is refused"))
        .count();
    ensure!(
        (1..=3).contains(&lines),
        "{lines} lines\n{}",
        scene.server.stderr()
    );
    scene.stop()?;

    let scene = Scene::start(
        &binary,
        "peering-limit",
        two(Family::V4),
        &["p1=1", "p2=3"],
        |key, _| {
            let mut args = accepts(key, &["10.77.0.0/16"]);
            args.extend(["--limit", "p1=20mbit"].map(str::to_owned));
            args
        },
    )?;
    let both = scene.wait_for("refused", Some("refused"))?;
    ensure!(both[0].to_string().contains("limits"), "{both:?}");
    // Once the reason is gone, the wish is carried out.
    scene.server.tell(&["policy", "set", "default"])?;
    scene.wait_for("in-force", Some("in-force"))?;
    scene.stop()
}
