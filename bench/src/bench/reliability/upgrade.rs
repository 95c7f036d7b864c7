//! Agents that follow one another while connections come and go.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Churn, Server};
use mptcp_lab::{Agent, agent, wait};
use serde_json::{Value, json};

use super::load::Load;
use crate::bench::measure::Rig;
use crate::bench::plan;
use crate::bench::rows::Outcome;
use crate::bench::table::verdict;

/// Short connections: some hundreds a second.
const SHORT: Churn = Churn {
    at_once: 6,
    count: usize::MAX,
    pause: Duration::from_millis(10),
};
/// The rate of the bulk transfer beside them, in Mbit/s.
const BULK_MBIT: f64 = 20.0;
/// How long each agent runs before the next one.
const LIFE: Duration = Duration::from_secs(2);
/// How long the last short connection may take to close.
const CLOSED: Duration = Duration::from_secs(60);

/// How one agent follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `run --take-over`, while the previous agent runs.
    TakeOver,
    /// SIGKILL to the previous agent, then `run`.
    Kill,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TakeOver => "upgrade --take-over",
            Self::Kill => "upgrade killed",
        })
    }
}

/// The results.
pub struct Upgrade {
    count: u32,
    /// Short connections that were opened, answered and closed.
    served: u64,
    failures: Vec<String>,
    /// Subflows of the bulk transfer that were lost.
    resets: usize,
    /// Totals that went backwards, with both values.
    backwards: Vec<String>,
    lost: f64,
    opened: Pair,
    closed: Pair,
}

/// The counts of one event.
struct Pair {
    /// Connections, by the agents' totals of connections.
    happened: f64,
    /// Events, by the agents' totals of events.
    reported: f64,
    /// Events in the logs of all agents.
    logged: usize,
}

/// Replaces the agent `count` times.
///
/// # Errors
/// An agent does not start, or the bulk transfer cannot go on.
pub fn measure(binary: &Path, how: How, count: u32) -> Result<Upgrade> {
    let rig = Rig::new(&plan::near())?;
    let net = &rig.net;
    // Each successor uses the address of the first agent.
    let first = Agent::launch(
        &net.client,
        command(&rig, binary, &["--listen=127.0.0.1:0"]),
    )?;
    let listen = format!("--listen={}", first.listen());
    let mut agent = first;
    let mut logs = Vec::new();
    let mut load = Load::start(&rig, Some(BULK_MBIT))?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let churning = SHORT.start(&net.client, echo.at(net.server_addr()));
    let (mut backwards, mut resets) = (Vec::new(), 0);
    for _ in 0..count {
        sleep(LIFE);
        let before = agent.scrape()?;
        let successor = match how {
            How::TakeOver => {
                agent.take_over_with(command(&rig, binary, &["--take-over", &listen]))?
            }
            How::Kill => {
                agent.process().kill()?;
                agent.ended()?;
                Agent::launch(&net.client, command(&rig, binary, &[&listen]))?
            }
        };
        backwards.extend(successor.scrape()?.backwards_since(&before));
        logs.push(std::mem::replace(&mut agent, successor));
        load.goes_on()?;
        resets += load.lost()?;
    }
    sleep(LIFE);
    let churned = churning.stop();
    let last = at_rest(&agent)?;
    logs.push(agent);
    let log: String = logs.iter().map(Agent::stderr).collect();
    let pair = |event: &str| Pair {
        happened: last.sum(&format!("mptcp_connections_{event}_total"), &[]),
        reported: last.sum("mptcp_agent_events_total", &[("event", event)]),
        logged: logged(&log, event),
    };
    Ok(Upgrade {
        count,
        served: churned.served,
        failures: churned
            .failures
            .iter()
            .map(|error| format!("{error:#}"))
            .collect(),
        resets,
        backwards,
        lost: last.sum("mptcp_agent_events_lost_total", &[]),
        opened: pair("opened"),
        closed: pair("closed"),
    })
}

/// Returns the command of an agent that logs every event as JSON.
fn command(rig: &Rig, binary: &Path, more: &[&str]) -> Command {
    let mut command = rig.net.client.command(binary);
    command
        .args(["run", "--log-format=json"])
        .args(more)
        .args(agent::weighted_args(&[("p1", 2), ("p2", 1)]))
        .env("RUST_LOG", "mptcp_agent=debug");
    command
}

/// Returns a scrape once only the bulk transfer is left.
fn at_rest(agent: &Agent) -> Result<Metrics> {
    wait::try_until("the short connections to close", CLOSED, || {
        let metrics = agent.scrape().map_err(|error| format!("{error:#}"))?;
        match metrics.value("mptcp_connections", &[]) {
            Some(1.0) => Ok(metrics),
            other => Err(format!("{other:?} connections")),
        }
    })
    .context("the agent knows of connections that are no more")
}

/// Counts the lines of the log that report this event.
fn logged(log: &str, event: &str) -> usize {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).count()
}

/// Returns the names of the columns.
pub fn header() -> String {
    format!(
        "\nupgrades: one agent follows another while connections come and go; events by the totals \
         of connections / by those of events / in the logs\n(target: nothing reset or lost, every \
         event reported; a killed agent may not have logged all events that it had read)\n\
         {:20} {:>5} {:>6} {:>6} {:>6} {:>4}   {:>20} {:>20} {:>9}  verdict",
        "how", "count", "short", "failed", "resets", "lost", "opened", "closed", "backwards",
    )
}

impl Upgrade {
    /// Returns the row.
    pub fn outcome(&self, how: How) -> Outcome {
        let served = self.served as f64;
        // The bulk transfer is still open.
        let exact =
            self.opened.is(served + 1.0, how) && self.closed.is(served, how) && self.lost == 0.0;
        let undisturbed = self.failures.is_empty() && self.resets == 0;
        let ok = exact && undisturbed && self.backwards.is_empty();
        let line = format!(
            "{:20} {:5} {served:6} {:6} {:6} {:4}   {:>20} {:>20} {:9}  {}",
            how.to_string(),
            self.count,
            self.failures.len(),
            self.resets,
            self.lost,
            self.opened.to_string(),
            self.closed.to_string(),
            self.backwards.len(),
            verdict(ok),
        );
        let json = json!({
            "row": how.to_string(), "upgrades": self.count, "served": self.served,
            "failures": self.failures, "resets": self.resets, "events_lost": self.lost,
            "opened": self.opened.json(), "closed": self.closed.json(),
            "backwards": self.backwards, "ok": ok,
        });
        Outcome {
            line,
            ok: Some(ok),
            json,
        }
    }
}

impl Pair {
    fn is(&self, expected: f64, how: How) -> bool {
        let logged = how == How::Kill || self.logged as f64 == expected;
        logged && (self.happened, self.reported) == (expected, expected)
    }

    fn json(&self) -> Value {
        json!({ "happened": self.happened, "reported": self.reported, "logged": self.logged })
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.happened, self.reported, self.logged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_in_a_log() {
        let log = "{\"event\":\"opened\"}\n{\"event\":\"closed\"}\n{\"event\":\"opened\"}\n\
                   {\"message\":\"opened\"}\nno JSON, opened\n";
        assert_eq!(logged(log, "opened"), 2);
        assert_eq!(logged(log, "closed"), 1);
    }
}
