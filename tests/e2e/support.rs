//! Helpers of the agent's tests: an agent whose log they read, transfers over
//! two paths, and waiting until shares settle.

use std::collections::VecDeque;
use std::io::Read;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mptcp_lab::kernel::SubflowInfo;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Host, Lab, Link, Path as LabPath, TwoHosts, share, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{SETTLE, SOON, VERY_LONG};

/// Gives the agent's binary. Returns from the test with a message if the lab
/// cannot run here or nothing names the binary.
macro_rules! require_agent {
    () => {{
        mptcp_lab::require_lab!();
        let Some(binary) = mptcp_lab::agent::binary() else {
            let why = "MPTCP_AGENT_BIN does not name the agent's binary";
            mptcp_lab::require::skip(module_path!(), line!(), why);
            return mptcp_lab::require::Skipped::skipped();
        };
        binary
    }};
}
pub(crate) use require_agent;

/// Returns the arguments of the weighted policy in its default mode.
pub(crate) fn weighted(weights: &[&str]) -> Vec<String> {
    let mut args = vec!["--policy".to_owned(), "weighted".to_owned()];
    for weight in weights {
        args.extend(["--weight".to_owned(), (*weight).to_owned()]);
    }
    args
}

/// An agent that logs events as JSON, at level `debug`.
#[derive(Debug)]
pub(crate) struct Watched(Agent);

impl Deref for Watched {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.0
    }
}

impl Watched {
    pub(crate) fn start(host: &Host, binary: &Path, args: &[impl AsRef<str>]) -> Result<Self> {
        let mut command = host.command(binary);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(args.iter().map(AsRef::as_ref))
            .env("RUST_LOG", "debug");
        Agent::launch(host, command).map(Self)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.0.stop()
    }

    pub(crate) fn stop_with(self, signal: Signal) -> Result<ExitStatus> {
        self.0.stop_with(signal)
    }

    /// Returns the agent's log so far.
    pub(crate) fn log(&self) -> Result<Vec<Value>> {
        let text = self.stderr();
        let parse = |line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
        text.lines().map(parse).collect()
    }

    /// Returns the events called `name` so far.
    pub(crate) fn events(&self, name: &str) -> Result<Vec<Value>> {
        let mut log = self.log()?;
        log.retain(|line| line["event"] == name);
        Ok(log)
    }

    /// Waits for an event of this name with these fields.
    pub(crate) fn event(&self, name: &str, fields: &[(&str, Value)]) -> Result<Value> {
        let fits = |line: &Value| fields.iter().all(|(field, value)| line[field] == *value);
        let what = format!("an event {name} with {fields:?}");
        wait::try_until(&what, SETTLE, || match self.events(name) {
            Ok(events) => match events.iter().find(|line| fits(line)) {
                Some(found) => Ok(found.clone()),
                None => Err(Ok(events)),
            },
            Err(error) => Err(Err(error)),
        })
    }
}

/// Waits for a line of the agent's log that has this text.
pub(crate) fn wait_for_log(agent: &Agent, text: &str) -> Result<()> {
    wait::try_until(&format!("a line with: {text}"), SOON, || {
        let log = agent.stderr();
        log.contains(text).then_some(()).ok_or(log)
    })
}

/// Runs a command that must fail, and returns the line with its error.
pub(crate) fn failure_of(host: &Host, command: &mut Command) -> Result<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let process = host.spawn(command)?;
    let streams = process.with_child(|child| (child.stdout.take(), child.stderr.take()));
    let status = process.wait(SETTLE)?;
    let (mut said, mut table) = (String::new(), String::new());
    streams.1.context("no pipe")?.read_to_string(&mut said)?;
    streams.0.context("no pipe")?.read_to_string(&mut table)?;
    ensure!(
        status.code().is_some_and(|code| code != 0),
        "{status}: {said}"
    );
    ensure!(table.is_empty(), "on stdout: {table}");
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("error: "))
        .collect();
    // A usage error of clap has more lines; any other error has one line.
    let is_usage = status.code() == Some(2);
    ensure!(
        errors.len() == 1 && (is_usage || said.lines().count() == 1),
        "{said}"
    );
    Ok(errors[0].to_owned())
}

/// Waits until the agent knows no connection and no subflow, and returns that
/// scrape.
pub(crate) fn scrape_until_empty(agent: &Agent) -> Result<Metrics> {
    scrape_until(agent, "no connection", |metrics| {
        metrics.value("mptcp_connections", &[]) == Some(0.0)
            && metrics.sum("mptcp_subflows", &[]) == 0.0
    })
}

/// Waits until `fits` accepts a scrape, and returns that scrape.
pub(crate) fn scrape_until(
    agent: &Agent,
    what: &str,
    fits: impl Fn(&Metrics) -> bool,
) -> Result<Metrics> {
    // A scrape visits every socket, so do not scrape more often than needed.
    const STEP: Duration = Duration::from_millis(100);
    let mut last: Option<(Instant, Result<Vec<String>, String>)> = None;
    wait::try_until(what, SETTLE, || {
        if let Some((at, seen)) = &last
            && at.elapsed() < STEP
        {
            return Err(seen.clone());
        }
        let seen = match agent.scrape() {
            Ok(metrics) if fits(&metrics) => return Ok(metrics),
            Ok(metrics) => Ok(brief(&metrics)),
            Err(error) => Err(format!("{error:#}")),
        };
        last = Some((Instant::now(), seen.clone()));
        Err(seen)
    })
}

/// Lists the samples that are not 0, without histograms and the agent's costs.
fn brief(metrics: &Metrics) -> Vec<String> {
    let shown = metrics.samples.iter().filter(|sample| {
        let own = [
            "mptcp_agent_program",
            "mptcp_path_rtt",
            "mptcp_kernel_events",
        ];
        sample.value != 0.0 && !own.iter().any(|prefix| sample.name.starts_with(prefix))
    });
    shown
        .map(|sample| format!("{}{:?} {}", sample.name, sample.labels, sample.value))
        .collect()
}

/// Makes a client and a server with two paths, the first of which is faster.
pub(crate) fn two_paths(lab: &Lab) -> Result<TwoHosts> {
    lab.two_hosts([
        LabPath::new("p1").rate_mbit(40.0),
        LabPath::new("p2").rate_mbit(20.0),
    ])
}

/// Starts an upload and waits until it has `subflows` subflows.
pub(crate) fn upload(net: &TwoHosts, subflows: usize) -> Result<(Server, Transfer)> {
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(subflows, SOON)?;
    Ok((sink, transfer))
}

/// Returns whether any subflow has the limit that an agent sets.
pub(crate) fn capped(subflows: &[SubflowInfo]) -> bool {
    let none = u64::MAX;
    subflows
        .iter()
        .any(|subflow| subflow.max_pacing_rate_bytes_per_sec != none)
}

/// Waits until an agent limits a subflow of the transfer at each look for half a
/// second. While a transfer is young, caps come and go.
pub(crate) fn wait_for_cap(transfer: &Transfer) -> Result<()> {
    const STEADY: Duration = Duration::from_millis(500);
    let mut since = None;
    wait::try_until("a lasting cap", SETTLE, || match transfer.subflows() {
        Ok(subflows) if capped(&subflows) => {
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() >= STEADY {
                Ok(())
            } else {
                Err(Ok(subflows))
            }
        }
        other => {
            since = None;
            Err(other)
        }
    })
}

/// Sums the acknowledged bytes of subflows by the client's address of each link.
pub(crate) fn acked_by(
    subflows: &[SubflowInfo],
    links: &[Link],
    client_end: impl Fn(&SubflowInfo) -> IpAddr,
) -> Vec<u64> {
    let on = |link: &Link| {
        let of_link = subflows
            .iter()
            .filter(|one| client_end(one) == link.client_addr);
        of_link.map(|one| one.bytes_acked).sum()
    };
    links.iter().map(on).collect()
}

/// Waits until an upload has the shares that `weights` ask for.
pub(crate) fn wait_for_shares(transfer: &Transfer, links: &[Link], weights: &[u16]) -> Result<()> {
    settle(weights, || {
        Ok(acked_by(&transfer.subflows()?, links, |one| one.local.ip()))
    })
}

/// Waits for a window of five seconds in which the share of every path is
/// within 0.03 of its target. `acked` returns the bytes of each path.
pub(crate) fn settle(weights: &[u16], acked: impl FnMut() -> Result<Vec<u64>>) -> Result<()> {
    const TOLERANCE: f64 = 0.03;
    let targets = share::targets(weights);
    let fits = |shares: &[f64]| share::deviation(shares, &targets) <= TOLERANCE;
    wait_for_window(&format!("shares of {targets:.3?}"), acked, fits)
}

/// Waits for a window of five seconds whose shares `fits` accepts.
pub(crate) fn wait_for_window(
    what: &str,
    mut acked: impl FnMut() -> Result<Vec<u64>>,
    fits: impl Fn(&[f64]) -> bool,
) -> Result<()> {
    const WINDOW: Duration = Duration::from_secs(5);
    const STEP: Duration = Duration::from_millis(500);
    let mut samples: VecDeque<(Instant, Vec<u64>)> = VecDeque::new();
    let mut seen: Vec<Vec<f64>> = Vec::new();
    wait::try_until(what, SETTLE, || {
        let now = Instant::now();
        if samples.back().is_some_and(|(at, _)| now - *at < STEP) {
            return Err(seen.clone());
        }
        let Ok(bytes) = acked() else {
            return Err(seen.clone());
        };
        // When a subflow closes its count is lost, so start a new window.
        let shrunk = |(_, last): &(Instant, Vec<u64>)| last.iter().zip(&bytes).any(|(a, b)| a > b);
        if samples.back().is_some_and(shrunk) {
            samples.clear();
        }
        samples.push_back((now, bytes.clone()));
        while samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            samples.pop_front();
        }
        let (at, first) = &samples[0];
        if now - *at < WINDOW {
            return Err(seen.clone());
        }
        let fresh: Vec<u64> = bytes.iter().zip(first).map(|(a, b)| a - b).collect();
        let total: u64 = fresh.iter().sum();
        let shares: Vec<f64> = fresh
            .iter()
            .map(|&bytes| bytes as f64 / total.max(1) as f64)
            .collect();
        if total > 0 && fits(&shares) {
            return Ok(());
        }
        seen.push(shares);
        Err(seen.clone())
    })
}
