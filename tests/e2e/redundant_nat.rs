//! A NAT in front of the client rewrites source addresses and ports of all
//! packets, so the client has to send first.

use anyhow::Result;
use mptcp_lab::kernel::Recovery;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, RequestResponse, Server};
use mptcp_lab::{Direction, Family, Host, Lab, Link, NatPath, Path};

use crate::redundant_support::{
    INTERVAL, MANY, STRAY_DSACKS, arrived, redundant, refused, rescued, wait_for_proven,
};
use crate::support::{Watched, require_agent, scrape_until};
use crate::{SETTLE, SOON};

/// A client and a server with an agent each, and NATs between them.
struct Scene {
    agents: [Watched; 2],
    exchange: Exchange,
    _echo: Server,
    hosts: [Host; 2],
    paths: Vec<NatPath>,
    _plain: Vec<Link>,
    _lab: Lab,
}

impl Scene {
    /// Makes the paths with a NAT, then those without.
    fn new(translated: Vec<Path>, plain: Vec<Path>) -> Result<Self> {
        let binary = mptcp_lab::agent::binary().unwrap_or_default();
        let lab = Lab::new()?;
        let hosts = [lab.host("client")?, lab.host("server")?];
        let [client, server] = &hosts;
        for host in &hosts {
            host.limits(8, 8)?;
        }
        let paths = translated.into_iter();
        let paths: Vec<NatPath> = paths
            .map(|path| lab.nat_path(client, server, path))
            .collect::<Result<_>>()?;
        let plain = plain.into_iter();
        let plain: Vec<Link> = plain
            .map(|path| lab.path(client, server, path))
            .collect::<Result<_>>()?;
        let links = paths.iter().map(|path| &path.inside).chain(&plain);
        for link in links.skip(1) {
            client.endpoint(link.client_addr, &link.name, "subflow")?;
        }
        let agents = [
            redundant(client, &binary, &[])?,
            redundant(server, &binary, &[])?,
        ];
        let echo = Server::spawn(server, ANY, Behaviour::Echo)?;
        let load = RequestResponse::new(200, INTERVAL, MANY);
        let exchange = load.start(client, echo.at(paths[0].outside.server_addr))?;
        exchange.wait_for_subflows(paths.len() + plain.len(), SOON)?;
        let scene = Self {
            agents,
            exchange,
            _echo: echo,
            hosts,
            paths,
            _plain: plain,
            _lab: lab,
        };
        scene.wait_for_copies()?;
        Ok(scene)
    }

    fn wait_for_copies(&self) -> Result<()> {
        let count = self.paths.len() + self._plain.len();
        for agent in &self.agents {
            wait_for_proven(agent, count)?;
            let before = arrived(&agent.scrape()?);
            scrape_until(agent, "copies", |metrics| arrived(metrics) > before)?;
        }
        Ok(())
    }

    fn more_responses(&self, count: u64) -> Result<()> {
        let goal = self.exchange.responses() + count;
        self.exchange.wait_for_responses(goal, SETTLE)
    }

    /// Counts the refused copies of the client and of the server, by reason.
    fn refusals(&self) -> Result<Refusals> {
        let both = [self.agents[0].scrape()?, self.agents[1].scrape()?];
        let reasons = [
            "unproven",
            "malformed",
            "fragment",
            "not-tcp",
            "foreign",
            "kernel",
        ];
        let count = |reason| (reason, refused(&both[0], reason), refused(&both[1], reason));
        Ok(reasons.map(count).into())
    }

    /// Lets the NATs forward TCP segments with unexpected sequence numbers.
    fn be_liberal(&self) -> Result<()> {
        for path in &self.paths {
            let name = "net.netfilter.nf_conntrack_tcp_be_liberal";
            path.nat.sysctl(name, "1")?;
        }
        Ok(())
    }

    /// Checks that both ends understand copies, and that copies replace the packets
    /// lost in cuts of this many requests.
    fn holds(&self, requests: u64) -> Result<()> {
        let [client, server] = &self.hosts;
        let before = (Recovery::of_hosts(&[client, server])?, self.refusals()?);
        self.more_responses(100)?;
        assert_eq!(self.refusals()?, before.1);
        for path in &self.paths {
            path.outside.blackhole(Direction::Both, true)?;
            self.more_responses(requests)?;
            path.outside.blackhole(Direction::Both, false)?;
            self.wait_for_copies()?;
        }
        self.more_responses(100)?;
        // The lab opens one direction of a path after the other. If the server's
        // answer to a hello is lost in between, the client understands copies
        // only after its next hello.
        let refusals = |mut counts: Refusals| {
            counts.retain(|(reason, ..)| *reason != "unproven");
            counts
        };
        assert_eq!(refusals(self.refusals()?), refusals(before.1));
        let recovery = Recovery::of_hosts(&[client, server])? - before.0;
        eprintln!("{recovery:?}");
        assert_eq!(recovery.timeouts, 0, "{recovery:?}");
        assert!(recovery.dsacks_sent <= STRAY_DSACKS, "{recovery:?}");
        let rescues = [self.agents[0].scrape()?, self.agents[1].scrape()?];
        assert!(rescues.iter().all(|metrics| rescued(metrics) > 0.0));
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.exchange.stop()?;
        for agent in self.agents {
            agent.stop()?;
        }
        Ok(())
    }
}

/// A reason, and how many copies the client and the server have refused for it.
type Refusals = Vec<(&'static str, f64, f64)>;

/// The requests of a cut that is longer than an agent waits for a silent peer.
const LONG_CUT: u64 = 400;

#[test]
fn the_server_sees_other_addresses_and_ports() -> Result<()> {
    mptcp_lab::require_lab!();
    let lab = Lab::new()?;
    let hosts = [lab.host("client")?, lab.host("server")?];
    let path = lab.nat_path(&hosts[0], &hosts[1], Path::new("p1"))?;
    let echo = Server::spawn(&hosts[1], ANY, Behaviour::Echo)?;
    let ping = RequestResponse::new(1, INTERVAL, 3);
    let exchange = ping.start(&hosts[0], echo.at(path.outside.server_addr))?;
    let here = exchange.subflows()?[0].local;
    let there = echo.connection(0, SOON)?.peer;
    assert_eq!(here.ip(), path.inside.client_addr);
    assert_eq!(there.ip().to_canonical(), path.outside.client_addr);
    assert!((20_000..30_000).contains(&there.port()), "{there}");
    exchange.finish()?;
    Ok(())
}

#[test]
fn on_every_path() -> Result<()> {
    let _ = require_agent!();
    let scene = Scene::new(["p1", "p2"].map(Path::new).into(), Vec::new())?;
    scene.be_liberal()?;
    scene.holds(LONG_CUT)?;
    scene.end()
}

/// Unless Linux's own NAT is set to be liberal, it treats a segment as invalid if
/// it acknowledges data that the NAT has not seen (a copy went another way), and
/// may reset the subflow. The connection must survive that.
fn strict(delays_ms: [f64; 2], cut: bool) -> Result<()> {
    let paths = [("p1", delays_ms[0]), ("p2", delays_ms[1])];
    let paths = paths.map(|(name, delay)| Path::new(name).delay_ms(delay));
    let scene = Scene::new(paths.into(), Vec::new())?;
    scene.more_responses(LONG_CUT)?;
    if cut {
        let path = &scene.paths[0].outside;
        path.blackhole(Direction::Both, true)?;
        scene.more_responses(LONG_CUT)?;
        path.blackhole(Direction::Both, false)?;
        scene.more_responses(LONG_CUT)?;
    }
    let recovery = Recovery::of_hosts(&[&scene.hosts[0], &scene.hosts[1]])?;
    let subflows = scene.exchange.subflows()?.len();
    eprintln!("{subflows} subflows are left; {recovery:?}");
    scene.end()
}

#[test]
fn a_nat_that_takes_an_outage_for_a_forgery() -> Result<()> {
    let _ = require_agent!();
    strict([0.0, 0.0], true)
}

#[test]
fn a_nat_that_takes_a_copys_acknowledgement_for_a_forgery() -> Result<()> {
    let _ = require_agent!();
    strict([10.0, 1.0], false)
}

#[test]
fn on_one_path_of_two() -> Result<()> {
    let _ = require_agent!();
    let scene = Scene::new(vec![Path::new("p1")], vec![Path::new("p2")])?;
    scene.be_liberal()?;
    scene.holds(LONG_CUT)?;
    scene.end()
}

#[test]
fn over_ipv6() -> Result<()> {
    let _ = require_agent!();
    let paths = ["p1", "p2"].map(|name| Path::new(name).family(Family::V6));
    let scene = Scene::new(paths.into(), Vec::new())?;
    scene.be_liberal()?;
    scene.holds(LONG_CUT)?;
    scene.end()
}
