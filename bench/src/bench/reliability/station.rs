//! One pair of hosts under load, whose agents are killed one after another.
//!
//! ```text
//!   agent ready --> totals and connections as before? --> a random while
//!        ^                                                     |
//!        |                                                  SIGKILL
//!        +--- connections go on? <--- 3 s and more: caps? <----+
//! ```

use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Exchange, RequestResponse, Server};
use mptcp_lab::{Agent, Host, agent, wait};

use super::kills::{FREE_WITHIN, Kills};
use super::load::Load;
use crate::bench::measure::Rig;
use crate::bench::plan::Links;

/// The number of connections with little traffic beside the bulk transfer.
const THIN: usize = 2;
/// The time from one request to the next.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a response may take on links whose queues are full.
const RESPONSE: Duration = Duration::from_secs(20);
/// The longest that an agent lives once it is ready.
const LIFE: Duration = Duration::from_millis(1500);
/// About how long an agent takes to be ready.
const START: Duration = Duration::from_millis(700);
/// The time between two checks of the subflows.
const LOOK: Duration = Duration::from_millis(10);
/// After this long, assume that remaining caps stay for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to watch for another cap after the last one seen.
const QUIET: Duration = Duration::from_millis(300);
/// A size of a queue in bytes that no path of these hosts can reach with the
/// `TCP_NOTSENT_LOWAT` that the agent sets.
const LONG_QUEUE: u32 = 200_000;
/// How long such a queue may take to grow.
const GROWTH: Duration = Duration::from_secs(20);

/// The hosts and the load on them.
pub struct Station<'a> {
    binary: &'a Path,
    load: Load,
    thin: Vec<Exchange>,
    _echo: Server,
    /// The latest scrapes of the client's and of the server's agent.
    last: [Option<Metrics>; 2],
    /// The output of tc before the first agent.
    bare: Vec<Vec<String>>,
    rng: Rng,
    kills: Kills,
    // Declared after all that runs in it, so that it is dropped last.
    rig: Rig,
}

impl<'a> Station<'a> {
    /// Makes the hosts, and starts the load.
    ///
    /// # Errors
    /// A path does not join.
    pub fn new(binary: &'a Path, links: &Links, seed: u64) -> Result<Self> {
        let rig = Rig::new(links)?;
        let echo = Server::spawn(&rig.net.server, ANY, Behaviour::Echo)?;
        let mut ping = RequestResponse::new(200, INTERVAL, usize::MAX);
        ping.sockets.dual_stack = rig.dual_stack;
        let start = |_| ping.start(&rig.net.client, echo.at(rig.net.server_addr()));
        let thin = (0..THIN).map(start).collect::<Result<_>>()?;
        Ok(Self {
            binary,
            load: Load::start(&rig, None)?,
            thin,
            _echo: echo,
            last: [None, None],
            bare: shown(&rig)?,
            rng: Rng::with_seed(seed),
            kills: Kills::default(),
            rig,
        })
    }

    /// Kills `count` agents, then cleans up.
    ///
    /// # Errors
    /// The connection or an agent cannot go on.
    pub fn run(mut self, count: u32) -> Result<Kills> {
        for number in 0.. {
            let left = count - self.kills.count;
            match (left, number % 10) {
                (0, _) => break,
                (_, 1 | 6) => self.kill_at_start()?,
                (2.., 2) => self.kill_copying()?,
                _ => self.kill_steering()?,
            }
        }
        self.finish()?;
        Ok(self.kills)
    }

    /// Starts an agent with the weighted policy, and kills it.
    fn kill_steering(&mut self) -> Result<()> {
        let host = self.rig.net.client.clone();
        let agent = Agent::start(&host, self.binary, &self.weighted())?;
        self.met(&agent, 0)?;
        self.live();
        agent.kill()?;
        self.kills.count += 1;
        self.watch(false)
    }

    /// Starts an agent, and kills it perhaps before it is ready.
    fn kill_at_start(&mut self) -> Result<()> {
        let host = self.rig.net.client.clone();
        let mut command = host.command(self.binary);
        command
            .args(["run", "--listen", "127.0.0.1:0"])
            .args(self.weighted())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = host.spawn(&mut command)?;
        sleep(START.mul_f64(self.rng.f64()));
        ensure!(process.is_running(), "an agent did not start");
        process.kill()?;
        self.kills.count += 1;
        self.kills.at_start += 1;
        self.watch(false)
    }

    /// Starts two agents that send copies, and kills both at the same moment.
    fn kill_copying(&mut self) -> Result<()> {
        let (client, server) = (self.rig.net.client.clone(), self.rig.net.server.clone());
        let agents = [
            Agent::redundant(&client, self.binary, &[])?,
            Agent::redundant(&server, self.binary, &[])?,
        ];
        for (side, agent) in agents.iter().enumerate() {
            self.met(agent, side)?;
        }
        self.live();
        self.kills.attached += u32::from(tcx_programs(&self.rig)? > 0);
        for agent in agents {
            agent.kill()?;
            self.kills.count += 1;
            self.kills.copying += 1;
        }
        self.watch(true)
    }

    /// Returns arguments with random weights for the links.
    fn weighted(&mut self) -> Vec<String> {
        let names: Vec<&str> = self.rig.net.links.iter().map(|link| &*link.name).collect();
        let weights: Vec<_> = names
            .into_iter()
            .map(|name| (name, self.rng.u16(1..=9)))
            .collect();
        agent::weighted_args(&weights)
    }

    /// Checks that a new agent knows all that the one before knew.
    fn met(&mut self, agent: &Agent, side: usize) -> Result<()> {
        let now = agent.scrape()?;
        let connections = now.value("mptcp_connections", &[]);
        self.kills.forgotten += u32::from(connections != Some((THIN + 1) as f64));
        if let Some(before) = &self.last[side] {
            self.kills.backwards.extend(now.backwards_since(before));
        }
        self.last[side] = Some(now);
        Ok(())
    }

    /// Lets the agent live for a random while.
    fn live(&mut self) {
        sleep(LIFE.mul_f64(self.rng.f64()));
    }

    /// Watches the hosts without an agent: what was set must disappear, and the
    /// connections must go on.
    fn watch(&mut self, copying: bool) -> Result<()> {
        let killed = Instant::now();
        let mut last_seen = None;
        loop {
            let (now, is_set) = (killed.elapsed(), self.is_set(copying)?);
            if is_set {
                last_seen = Some(now);
            }
            let quiet = now - last_seen.unwrap_or_default();
            // The programs still run and may set something again.
            if (now > FREE_WITHIN && quiet > QUIET) || now > PATIENCE {
                break;
            }
            sleep(LOOK);
        }
        self.kills.free_after.extend(last_seen);
        self.load.goes_on()?;
        for exchange in &self.thin {
            let next = exchange.responses() + 1;
            exchange
                .wait_for_responses(next, RESPONSE)
                .context("a thin connection does not go on")?;
        }
        self.kills.resets += self.load.lost()?;
        Ok(())
    }

    /// Returns whether a subflow has a cap, or a device has a program that copies.
    fn is_set(&self, copying: bool) -> Result<bool> {
        Ok(self.load.capped()? > 0 || (copying && tcx_programs(&self.rig)? > 0))
    }

    /// Runs `mptcp-agent cleanup` and records what is left.
    fn finish(&mut self) -> Result<()> {
        let queue = wait::try_until("a long queue", GROWTH, || match self.load.longest_queue() {
            Ok(bytes) if bytes > LONG_QUEUE => Ok(()),
            other => Err(other.map_err(|error| error.to_string())),
        });
        self.kills.short_queues = u32::from(queue.is_err());
        for host in [&self.rig.net.client, &self.rig.net.server] {
            let said = agent::tell(host, self.binary, &["cleanup"])?;
            self.kills.said.push(said.trim().to_owned());
        }
        self.load.goes_on()?;
        self.kills.resets += self.load.lost()?;
        for host in hosts(&self.rig) {
            let pins = host.pins()?;
            self.kills
                .pins
                .extend(pins.iter().map(|pin| pin.display().to_string()));
        }
        let now = shown(&self.rig)?;
        let differ = now.iter().zip(&self.bare).filter(|(now, bare)| now != bare);
        self.kills.devices = differ.count() + tcx_programs(&self.rig)?;
        Ok(())
    }
}

fn hosts(rig: &Rig) -> [&Host; 2] {
    [&rig.net.client, &rig.net.server]
}

/// Returns the output of tc for each device of both hosts.
fn shown(rig: &Rig) -> Result<Vec<Vec<String>>> {
    let all = hosts(rig)
        .into_iter()
        .flat_map(|host| rig.net.links.iter().map(move |link| (host, &link.name)));
    all.map(|(host, device)| host.traffic_control(device))
        .collect()
}

/// Counts the programs on tcx of all devices; 0 if there is no tcx.
fn tcx_programs(rig: &Rig) -> Result<usize> {
    let mut programs = 0;
    for host in hosts(rig) {
        for link in &rig.net.links {
            programs += host.tcx_programs(&link.name)?.unwrap_or(0);
        }
    }
    Ok(programs)
}
