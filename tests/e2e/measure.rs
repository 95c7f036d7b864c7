//! The kernel measures the BPF programs of the whole host only on request.

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Agent, Lab};

use crate::SOON;
use crate::redundant_support::INTERVAL;
use crate::support::{require_agent, scrape_until, two_paths};

const RUNS: &str = "mptcp_agent_program_runs_total";
const SECONDS: &str = "mptcp_agent_program_run_seconds_total";

/// Returns whether the agent keeps the kernel's statistics of programs on.
fn measures(agent: &Agent) -> Result<bool> {
    let files = format!("/proc/{}/fd", agent.process().pid());
    let mut found = false;
    for file in std::fs::read_dir(files)? {
        // A file may be closed meanwhile.
        let target = std::fs::read_link(file?.path()).unwrap_or_default();
        found |= target.to_string_lossy().contains("bpf-stats");
    }
    Ok(found)
}

#[test]
fn programs_count_their_runs_and_are_timed_on_demand() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    for more in [&[] as &[&str], &["--measure-programs"]] {
        let args = [&["--policy", "default"][..], more].concat();
        let agent = Agent::start(&net.client, &binary, &args)?;
        let before = agent.scrape()?;
        let load = RequestResponse::new(200, INTERVAL, 1_000_000);
        let exchange = load.start(&net.client, echo.at(net.server_addr()))?;
        exchange.wait_for_responses(200, SOON)?;
        exchange.stop()?;
        let mut timed = Vec::new();
        for program in ["sockops", "mptcp_subflow_get_send", "iter_tcp"] {
            let labels = [("program", program)];
            let first = before.value(RUNS, &labels).context("no runs")?;
            let metrics = scrape_until(&agent, "more runs", |metrics| {
                metrics.value(RUNS, &labels) > Some(first)
            })?;
            let runs = metrics.value(RUNS, &labels).unwrap_or(0.0);
            let seconds = metrics.value(SECONDS, &labels);
            if let Some(seconds) = seconds {
                println!(
                    "{program}: {:.0} ns a run, {runs} runs",
                    seconds * 1e9 / runs
                );
            }
            assert!(seconds.is_none_or(|seconds| seconds > 0.0), "{program}");
            timed.push(seconds.is_some());
        }
        assert_eq!(timed, [!more.is_empty(); 3]);
        assert_eq!(measures(&agent)?, !more.is_empty());
        agent.stop()?;
    }
    Ok(())
}
