//! Many short connections: measures what is left of them in the agents.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Churn, Server};
use mptcp_lab::{Agent, wait};
use serde_json::json;

use crate::bench::measure::Rig;
use crate::bench::plan;
use crate::bench::rows::Outcome;
use crate::bench::table::verdict;

/// How long the last subflows may take to close.
const CLOSED: Duration = Duration::from_secs(60);
/// The time from one scrape to the next: a scrape visits every socket.
const SCRAPE: Duration = Duration::from_secs(1);

/// The results.
pub struct Churned {
    connections: u64,
    failed: usize,
    seconds: f64,
    /// The final state on client and server.
    ends: [End; 2],
}

/// The agent's final metrics, and the kernel's state.
struct End {
    opened: f64,
    closed: f64,
    /// Connections that the agent still knows.
    connections: f64,
    subflows: f64,
    /// Open subflows in the kernel's list.
    live: usize,
    lost: f64,
    map_full: f64,
}

/// Opens and closes `count` connections.
///
/// # Errors
/// An agent or the lab fails.
pub fn measure(binary: &Path, count: usize) -> Result<Churned> {
    let rig = Rig::new(&plan::near())?;
    let net = &rig.net;
    // Ports must not run out: allow reuse of those closed a second ago.
    net.client.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    let start = |host| Agent::weighted(host, binary, &[("p1", 2)]);
    let agents = [start(&net.client)?, start(&net.server)?];
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let began = Instant::now();
    let churning = Churn::new(count).start(&net.client, echo.at(net.server_addr()));
    while !churning.is_over() {
        sleep(SCRAPE);
        for agent in &agents {
            agent.scrape()?;
        }
    }
    let churned = churning.finish();
    let seconds = began.elapsed().as_secs_f64();
    let hosts = [&net.client, &net.server];
    let end = |side: usize| -> Result<End> {
        let look = || Ok((agents[side].scrape()?, hosts[side].open_subflows()?));
        End::wait(look)
    };
    Ok(Churned {
        connections: churned.served,
        failed: churned.failures.len(),
        seconds,
        ends: [end(0)?, end(1)?],
    })
}

impl End {
    /// Waits until agent and kernel have none left, or [`CLOSED`] has passed.
    fn wait(look: impl Fn() -> Result<(Metrics, usize)>) -> Result<Self> {
        let (mut seen, mut due) = (look()?, Instant::now());
        let _ = wait::try_until("the last subflow to close", CLOSED, || {
            if Instant::now() < due {
                return Err(());
            }
            // Ignore an error here; it shows up again in the last look.
            seen = look().map_err(drop)?;
            due = Instant::now() + SCRAPE;
            let end = Self::new(&seen.0, seen.1);
            let is_empty = end.connections == 0.0 && end.subflows == 0.0 && end.live == 0;
            if is_empty { Ok(()) } else { Err(()) }
        });
        let (metrics, live) = look()?;
        Ok(Self::new(&metrics, live))
    }

    fn new(metrics: &Metrics, live: usize) -> Self {
        let sum = |name| metrics.sum(name, &[]);
        Self {
            opened: sum("mptcp_connections_opened_total"),
            closed: sum("mptcp_connections_closed_total"),
            connections: sum("mptcp_connections"),
            subflows: sum("mptcp_subflows"),
            live,
            lost: sum("mptcp_agent_events_lost_total"),
            map_full: sum("mptcp_agent_map_full_total"),
        }
    }

    fn is_exact(&self, connections: f64) -> bool {
        let Self { opened, closed, .. } = *self;
        (opened, closed) == (connections, connections)
            && (self.connections, self.map_full) == (0.0, 0.0)
            && self.subflows == self.live as f64
    }
}

/// Returns the names of the columns.
pub fn header() -> String {
    format!(
        "\nchurn: connections with one request, under an agent at each end; client / server\n(target: \
         each opened and closed once, as many entries left as live subflows, no map full)\n\
         {:11} {:>6} {:>9}   {:>15} {:>15} {:>9} {:>9} {:>9} {:>9} {:>9}  verdict",
        "connections",
        "failed",
        "a second",
        "opened",
        "closed",
        "conns",
        "subflows",
        "live",
        "lost",
        "map full",
    )
}

impl Churned {
    /// Returns the row.
    pub fn outcome(&self) -> Outcome {
        let connections = self.connections as f64;
        let ok = self.failed == 0 && self.ends.iter().all(|end| end.is_exact(connections));
        let both = |of: fn(&End) -> f64| {
            let [client, server] = [&self.ends[0], &self.ends[1]].map(of);
            format!("{client}/{server}")
        };
        let line = format!(
            "{connections:11} {:6} {:9.0}   {:>15} {:>15} {:>9} {:>9} {:>9} {:>9} {:>9}  {}",
            self.failed,
            connections / self.seconds,
            both(|end| end.opened),
            both(|end| end.closed),
            both(|end| end.connections),
            both(|end| end.subflows),
            both(|end| end.live as f64),
            both(|end| end.lost),
            both(|end| end.map_full),
            verdict(ok),
        );
        let ends = [&self.ends[0], &self.ends[1]].map(|end| {
            json!({
                "opened": end.opened, "closed": end.closed, "connections": end.connections,
                "subflows": end.subflows, "live": end.live, "events_lost": end.lost,
                "map_full": end.map_full,
            })
        });
        let json = json!({
            "row": "churn", "connections": connections, "failed": self.failed,
            "seconds": self.seconds, "client": ends[0], "server": ends[1], "ok": ok,
        });
        Outcome {
            line,
            ok: Some(ok),
            json,
        }
    }
}
