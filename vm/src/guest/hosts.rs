//! Two hosts of the lab in the guest, over devices that some kernels lack: VLAN,
//! VRF, netem.

use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY_V4, Behaviour, Exchange, RequestResponse, Server};
use mptcp_lab::{Agent, Host, Lab, Link, Over, Path, agent, wait};

use super::AGENT;
use super::agent::READY;
use super::checks::check;
use super::traffic::SOON;

/// The time from one request to the next: long, since processors are emulated.
const INTERVAL: Duration = Duration::from_millis(40);
/// A number of requests that no check reaches.
const MANY: usize = 100_000;
/// The number of responses in a measurement.
const RESPONSES: u64 = 100;
/// This many copies of a packet on average are too many.
const TWICE: f64 = 1.5;

/// Both hosts with a redundant agent each, and a connection between them.
struct Scene {
    agents: [Agent; 2],
    exchange: Exchange,
    hosts: [Host; 2],
    /// The VLAN, the link below it, and another link.
    links: [Link; 3],
    _echo: Server,
    _lab: Lab,
}

/// Makes all checks that need two hosts.
pub fn all() -> Result<()> {
    let mut scene = None;
    check("copies over a VLAN", || {
        let made = Scene::new()?;
        let seen = made.copied_once();
        scene = Some(made);
        seen
    });
    if let Some(scene) = scene {
        check("netem's loss", || scene.loss());
        check("copies end", || scene.end());
    }
    check("devices in a VRF", vrf);
    Ok(())
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let (client, server) = (lab.host("client")?, lab.host("server")?);
        let below = lab.path(&client, &server, Path::new("p1"))?;
        let vlan = lab.path_over(&below, Over::Vlan(7), Path::new("v7"))?;
        let other = lab.path(&client, &server, Path::new("p2"))?;
        for host in [&client, &server] {
            host.limits(2, 2)?;
        }
        client.endpoint(other.client_addr, &other.name, "subflow")?;
        let start = |host: &Host| start(host, &agent::redundant_args(&[]));
        let agents = [start(&client)?, start(&server)?];
        let echo = Server::spawn(&server, ANY_V4, Behaviour::Echo)?;
        let load = RequestResponse::new(200, INTERVAL, MANY);
        let exchange = load.start(&client, echo.at(vlan.server_addr))?;
        for agent in &agents {
            until(agent, "two proven links and copies", |metrics| {
                metrics.sum("mptcp_redundant_peers", &[("state", "proven")]) >= 2.0
                    && arrived(metrics) > 0.0
            })?;
        }
        Ok(Self {
            agents,
            exchange,
            hosts: [client, server],
            links: [vlan, below, other],
            _echo: echo,
            _lab: lab,
        })
    }

    /// Checks that the client's packets, which pass two devices, are copied on only
    /// one.
    fn copied_once(&self) -> Result<String> {
        let client = &self.agents[0];
        let packets =
            || -> Result<f64> { Ok(self.hosts[0].netstat()?.get("Tcp", "OutSegs") as f64) };
        let before = (sent(&client.scrape()?), packets()?);
        self.responses(RESPONSES)?;
        let copies = sent(&client.scrape()?) - before.0;
        // This includes the packets of the two scrapes over loopback.
        let packets = packets()? - before.1;
        let seen = format!("{copies} copies of {packets} packets");
        ensure!(
            copies > RESPONSES as f64 / 2.0 && copies < TWICE * packets,
            "{seen}"
        );
        Ok(seen)
    }

    /// Checks that copies replace packets when one path loses half of them.
    fn loss(&self) -> Result<String> {
        let below = &self.links[1].name;
        let rescued = || -> Result<f64> {
            let of = |agent: &Agent| -> Result<f64> {
                Ok(agent
                    .scrape()?
                    .sum("mptcp_redundant_rescued_bytes_total", &[]))
            };
            Ok(of(&self.agents[0])? + of(&self.agents[1])?)
        };
        let before = rescued()?;
        for host in &self.hosts {
            host.run(&format!("tc qdisc add dev {below} root netem loss 50%"))?;
        }
        self.responses(RESPONSES)?;
        for host in &self.hosts {
            host.run(&format!("tc qdisc del dev {below} root"))?;
        }
        let bytes = rescued()? - before;
        ensure!(bytes > 0.0, "nothing rescued");
        Ok(format!("copies brought {bytes} bytes"))
    }

    fn responses(&self, count: u64) -> Result<()> {
        let goal = self.exchange.responses() + count;
        self.exchange.wait_for_responses(goal, 3 * SOON)
    }

    fn end(self) -> Result<String> {
        self.exchange.stop()?;
        for agent in self.agents {
            agent.stop()?;
        }
        Ok("both agents have ended well".to_owned())
    }
}

/// Checks that a device in a VRF keeps its name as a path, for a connection that
/// is bound to the VRF.
fn vrf() -> Result<String> {
    let lab = Lab::new()?;
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    let link = lab.path(&client, &server, Path::new("p1"))?;
    for line in [
        "ip link add red type vrf table 500",
        "ip link set red up",
        "ip link set p1 master red",
    ] {
        client.run(line)?;
    }
    let agent = start(&client, &["--policy", "default"])?;
    let echo = Server::spawn(&server, ANY_V4, Behaviour::Echo)?;
    let mut load = RequestResponse::new(200, INTERVAL, MANY);
    load.sockets.device = Some("red".to_owned());
    let exchange = load.start(&client, echo.at(link.server_addr))?;
    exchange.wait_for_responses(10, SOON)?;
    let carried = |metrics: &Metrics, path: &str| {
        metrics.sum("mptcp_path_sent_bytes_total", &[("path", path)])
    };
    let metrics = until(&agent, "a path with data", |metrics| {
        metrics.sum("mptcp_path_sent_bytes_total", &[]) > 0.0
    })?;
    let bytes = carried(&metrics, "p1");
    let names: Vec<_> = metrics
        .samples
        .iter()
        .filter(|sample| sample.name == "mptcp_path_sent_bytes_total" && sample.value > 0.0)
        .map(|sample| format!("{:?}", sample.labels))
        .collect();
    exchange.stop()?;
    agent.stop()?;
    ensure!(bytes > 0.0, "p1 carried nothing, but {}", names.join(", "));
    Ok(format!("p1 carried {bytes} bytes"))
}

fn start(host: &Host, args: &[impl AsRef<str>]) -> Result<Agent> {
    let mut command = host.command(FilePath::new(AGENT));
    command
        .args(["run", "--listen", "127.0.0.1:0", "--log-format", "text"])
        .args(args.iter().map(AsRef::as_ref));
    Agent::launch_within(host, command, READY).context("start an agent")
}

/// Waits until `fits` accepts a scrape, and returns that scrape.
fn until(agent: &Agent, what: &str, fits: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
    wait::try_until(what, 2 * SOON, || match agent.scrape() {
        Ok(metrics) if fits(&metrics) => Ok(metrics),
        Ok(_) => Err(Ok(())),
        Err(error) => Err(Err(error)),
    })
}

fn sent(metrics: &Metrics) -> f64 {
    metrics.sum("mptcp_redundant_copies_sent_total", &[])
}

fn arrived(metrics: &Metrics) -> f64 {
    metrics.sum("mptcp_redundant_copies_received_total", &[])
}
