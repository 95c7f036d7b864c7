//! Clients that follow the events and never read: they cost little, and keep nobody
//! from anything.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY_V4, Behaviour, Churn, Server};
use mptcp_lab::{Agent, Lab};

use crate::SOON;
use crate::listeners::footprint;
use crate::support::{require_agent, scrape_until, two_paths};

/// Asks for the events, and reads the head of the answer.
fn follow(agent: SocketAddr) -> Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(agent)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).context("no answer")?;
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

#[test]
fn followers_that_never_read_cost_little_and_delay_nobody() -> Result<()> {
    const FOLLOWERS: usize = 16;
    const CONNECTIONS: usize = 2000;
    const MORE_KB: u64 = 8 * 1024;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    agent.scrape()?;
    agent.get("/api/v1/status")?;
    let (before_kb, _) = footprint(&agent)?;
    let address = agent.listen();
    let followers = net.client.in_ns(|| {
        let all = (0..FOLLOWERS).map(|_| follow(address));
        let all = all.collect::<Result<Vec<_>>>()?;
        let refused = follow(address)?.1;
        ensure!(refused == "HTTP/1.1 503", "one too many: {refused}");
        Ok(all)
    })?;
    ensure!(followers.iter().all(|(_, head)| head == "HTTP/1.1 200"));
    let open = |metrics: &Metrics| metrics.value("mptcp_agent_event_streams", &[]);
    let metrics = agent.scrape()?;
    ensure!(open(&metrics) == Some(FOLLOWERS as f64), "{metrics:?}");
    let echo = Server::spawn(&net.server, ANY_V4, Behaviour::Echo)?;
    let churn = Churn::new(CONNECTIONS).start(&net.client, echo.at(net.server_addr()));
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        ensure!(agent.get("/healthz")? == "ok\n");
        slowest = slowest.max(start.elapsed());
        agent.get("/api/v1/connections")?;
    }
    let served = churn.finish().all()?;
    let (now_kb, _) = footprint(&agent)?;
    println!("{served} connections, {before_kb} kB, then {now_kb} kB, at most {slowest:?}");
    ensure!(
        now_kb <= before_kb + MORE_KB,
        "{before_kb} kB, then {now_kb} kB"
    );
    ensure!(slowest < Duration::from_secs(2), "{slowest:?}");
    // One of them leaves, and somebody else can follow.
    drop(followers);
    mptcp_lab::wait::try_until("a place to be free", SOON, || {
        match net.client.in_ns(|| follow(address)) {
            Ok((_, head)) if head == "HTTP/1.1 200" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    // They have left by themselves, which is no reason to complain of them.
    let metrics = scrape_until(&agent, "no stream", |metrics| open(metrics) == Some(0.0))?;
    let dropped = metrics.value("mptcp_agent_event_streams_dropped_total", &[]);
    ensure!(dropped == Some(0.0), "{dropped:?}");
    agent.stop()
}
