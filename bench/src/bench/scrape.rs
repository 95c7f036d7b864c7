//! `cargo xtask bench scrape`: measures what a scrape costs: series, bytes and time,
//! by the number of open subflows and by the number of paths.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Crowd, Crowding, PollServer, Service, Sockets};
use mptcp_lab::{Agent, agent, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::measure::Rig;
use super::plan;
use super::rows::{Choice, Outcome, Results};

/// The numbers of open subflows, two to a connection.
const SUBFLOWS: [usize; 3] = [10, 1_000, 10_000];
/// The numbers of named paths.
const PATHS: [usize; 4] = [2, 8, 32, 63];
/// How many scrapes are measured. Each is the agent's own: none shares an answer.
const SCRAPES: usize = 9;
/// How long the subflows may take to join.
const JOINS: Duration = Duration::from_secs(60);
/// How long the agent may take to count them.
const COUNTED: Duration = Duration::from_secs(20);
/// The time between two requests of a connection: most sockets rest.
const INTERVAL: Duration = Duration::from_secs(20);
/// The time between two requests where copies are wanted soon.
const BRISK: Duration = Duration::from_millis(100);
/// The bytes of a request and of a response.
const SIZE: usize = 100;
/// The files that the hosts together need beside the connections' two ends.
const OTHER_FILES: u64 = 1_000;

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
}

/// The cost of scrapes.
struct Cost {
    series: usize,
    bytes: usize,
    /// The median and the longest time until the whole answer was there.
    times: [Duration; 2],
    /// The agent's resident memory in bytes.
    resident: u64,
}

impl Args {
    /// Measures the chosen rows with the agent's binary `agent`.
    pub fn run(&self, agent: &Path) -> Result<()> {
        let mut results = Results::default();
        println!(
            "{:22} {:>7} {:>8} {:>9} {:>9} {:>9}",
            "", "series", "bytes", "median", "longest", "resident"
        );
        let mut row = |name: &str, measure: &dyn Fn() -> Result<Cost>| {
            if self.choice.wants(&name) {
                results.add(name, measure().map(|cost| cost.outcome(name)));
            }
        };
        for count in SUBFLOWS {
            row(&format!("subflows {count}"), &|| {
                with_subflows(agent, count)
            });
        }
        for count in PATHS {
            row(&format!("paths {count}"), &|| with_paths(agent, count));
        }
        row("copies on 2 paths", &|| with_copies(agent));
        results.finish(&self.choice)
    }
}

/// Measures an agent with the weighted policy while so many subflows are open.
fn with_subflows(binary: &Path, subflows: usize) -> Result<Cost> {
    allow_files(subflows as u64 + OTHER_FILES)?;
    let rig = Rig::new(&plan::near())?;
    let args = agent::weighted_args(&[("p1", 2), ("p2", 1)]);
    let agent = Agent::start(&rig.net.client, binary, &args)?;
    let (_server, crowd) = requests(&rig, subflows, INTERVAL)?;
    wait::try_until("every subflow to be counted", COUNTED, || {
        let counted = agent.scrape().map(|all| all.sum("mptcp_subflows", &[]));
        match counted {
            Ok(counted) if counted == subflows as f64 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let cost = measure(&agent)?;
    crowd.stop()?;
    agent.stop()?;
    Ok(cost)
}

/// Measures an agent with the redundant policy while copies travel both ways.
fn with_copies(binary: &Path) -> Result<Cost> {
    let rig = Rig::new(&plan::near())?;
    let agent = Agent::redundant(&rig.net.client, binary, &[])?;
    let peer = Agent::redundant(&rig.net.server, binary, &[])?;
    let (_server, crowd) = requests(&rig, SUBFLOWS[0], BRISK)?;
    wait::try_until("copies", COUNTED, || {
        let all = agent.scrape().map_err(|error| format!("{error:#}"))?;
        let sums = ["sent", "received"]
            .map(|way| all.sum(&format!("mptcp_redundant_copies_{way}_total"), &[]));
        if sums.iter().all(|&sum| sum > 0.0) {
            return Ok(());
        }
        Err(format!("{sums:?}"))
    })?;
    let cost = measure(&agent)?;
    crowd.stop()?;
    peer.stop()?;
    agent.stop()?;
    Ok(cost)
}

/// Opens so many subflows, two to a connection, which send a request now and then.
fn requests(rig: &Rig, subflows: usize, interval: Duration) -> Result<(PollServer, Crowding)> {
    let sockets = Sockets::default();
    let server = PollServer::spawn(&rig.net.server, ANY, Service::Echo, &sockets)?;
    let to = server.at(rig.net.server_addr());
    let crowd = Crowd::requests(subflows / 2, SIZE, interval).start(&rig.net.client, to)?;
    wait_for_joins(&crowd, subflows / 2)?;
    Ok((server, crowd))
}

fn wait_for_joins(crowd: &Crowding, connections: usize) -> Result<()> {
    let joined = crowd.wait_for_joins(2, JOINS)?;
    ensure!(
        joined == connections,
        "{joined} of {connections} connections have two subflows"
    );
    Ok(())
}

/// Measures an agent without connections that has so many named paths.
fn with_paths(binary: &Path, count: usize) -> Result<Cost> {
    let rig = Rig::new(&plan::near())?;
    let names: Vec<String> = (1..=count)
        .map(|path| format!("10.99.{path}.0/24"))
        .collect();
    let weights: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let agent = Agent::start(&rig.net.client, binary, &agent::weighted_args(&weights))?;
    let cost = measure(&agent)?;
    agent.stop()?;
    Ok(cost)
}

/// Scrapes the agent again and again.
fn measure(agent: &Agent) -> Result<Cost> {
    let (mut times, mut last) = (Vec::new(), String::new());
    for _ in 0..SCRAPES {
        // This waits until the last answer no longer counts, and leaves a fresh one
        // behind, so look again only once that is too old as well.
        let before = agent.scrape()?;
        let (took, text) = wait::try_until("an answer of its own", COUNTED, || {
            let start = Instant::now();
            let text = agent
                .get("/metrics")
                .map_err(|error| format!("{error:#}"))?;
            let took = start.elapsed();
            match Metrics::parse(&text) {
                Ok(now) if now != before => Ok((took, text)),
                Ok(_) => Err("the same answer again".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        times.push(took);
        last = text;
    }
    times.sort_unstable();
    Ok(Cost {
        series: Metrics::parse(&last)?.samples.len(),
        bytes: last.len(),
        times: [times[times.len() / 2], times[times.len() - 1]],
        resident: resident(agent.process().pid())?,
    })
}

/// Returns the resident memory of a process in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.context("no VmRSS")?.parse()?;
    Ok(kilobytes * 1024)
}

/// Lets this process have so many open files.
fn allow_files(count: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    let maximum = now.maximum.map(|maximum| maximum.max(count));
    let wanted = Rlimit {
        current: Some(count),
        maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => Ok(()),
        Err(error) => bail!("{count} open files are needed, and may not be had: {error}"),
    }
}

impl Cost {
    fn outcome(&self, name: &str) -> Outcome {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let megabytes = self.resident as f64 / 1e6;
        let line = format!(
            "{name:22} {:7} {:8} {:>9} {:>9} {megabytes:6.1} MB",
            self.series,
            self.bytes,
            ms(self.times[0]),
            ms(self.times[1]),
        );
        let json = json!({
            "row": name, "series": self.series, "bytes": self.bytes,
            "median_seconds": self.times[0].as_secs_f64(),
            "longest_seconds": self.times[1].as_secs_f64(),
            "resident_bytes": self.resident,
        });
        Outcome {
            line,
            ok: None,
            json,
        }
    }
}
