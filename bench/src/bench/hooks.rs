//! `cargo xtask bench hooks`: measures what each of the agent's programs costs,
//! under each policy, while an upload goes on.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::share::Sample;
use mptcp_lab::traffic::Bulk;
use mptcp_lab::{Agent, agent};
use serde_json::json;

use super::cost::Cost;
use super::measure::{Rig, SETTLE};
use super::plan::{Links, path};
use super::rows::{Choice, Outcome, Results};

/// How long each policy is measured.
const LENGTH: Duration = Duration::from_secs(8);
/// The rate of the upload in Mbit/s. It fits the copies of the redundant policy.
const RATE_MBIT: f64 = 30.0;
/// A limit that no transfer reaches; the benchmark stops it earlier.
const LONG: Duration = Duration::from_secs(600);

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
}

/// A policy, and how much is uploaded under it.
struct Case {
    name: &'static str,
    args: Vec<String>,
    /// The rate in Mbit/s; `None` is as fast as possible.
    rate_mbit: Option<f64>,
    /// Whether the other end needs an agent, too.
    both: bool,
}

fn links() -> Links {
    Links::new("80+40", [path(1, 80.0), path(2, 40.0)])
}

fn cases() -> Vec<Case> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let case = |name, args| Case {
        name,
        args,
        rate_mbit: None,
        both: false,
    };
    let weighted = agent::weighted_args(&links().with(&[2, 1]));
    let host = [weighted.clone(), words(&["--weighted-scope", "host"])].concat();
    let overflow = ["--policy", "overflow", "--prefer", "p1", "--prefer", "p2"];
    vec![
        case("observe", Vec::new()),
        case("weighted", weighted),
        case("weighted-host", host),
        case("overflow", words(&overflow)),
        case("aggregate", words(&["--policy", "aggregate"])),
        Case {
            rate_mbit: Some(RATE_MBIT),
            both: true,
            ..case("redundant", agent::redundant_args(&[]))
        },
    ]
}

impl Args {
    /// Measures the chosen rows with the agent's binary `agent`.
    pub fn run(&self, agent: &Path) -> Result<()> {
        let mut cases = cases();
        cases.retain(|case| self.choice.wants(&format!("hooks {}", case.name)));
        self.choice.ensure_any(cases.len())?;
        println!(
            "hooks: the programs' cost during an upload over 80+40 Mbit/s ({RATE_MBIT} Mbit/s \
             under redundant)\n{:15} {:28} {:>10} {:>10} {:>10}",
            "policy", "program", "ns a run", "runs a s", "% of a CPU"
        );
        let mut results = Results::default();
        for case in &cases {
            match case.measure(agent) {
                Ok(cost) => case.add(&cost, &mut results),
                Err(error) => results.add(&format!("hooks {}", case.name), Err(error)),
            }
        }
        results.finish(&self.choice)
    }
}

impl Case {
    fn measure(&self, binary: &Path) -> Result<Cost> {
        let rig = Rig::new(&links())?;
        let net = &rig.net;
        let mut args = self.args.clone();
        args.push("--measure-programs".to_owned());
        let agent = Agent::start(&net.client, binary, &args)?;
        let start = |_| Agent::start(&net.server, binary, &args);
        let peer = self.both.then_some(()).map(start).transpose()?;
        let mut bulk = Bulk::upload_for(LONG);
        if let Some(rate) = self.rate_mbit {
            bulk = bulk.rate_mbit(rate);
        }
        let (sink, transfer) = rig.start(bulk)?;
        sleep(SETTLE + LENGTH);
        let mut cost = Cost::default();
        cost.scrape(&agent, SETTLE + LENGTH)?;
        // Every path must still have its subflow.
        Sample::take(&transfer, &sink, &net.links)?;
        transfer.stop()?;
        agent.stop()?;
        peer.map_or(Ok(()), Agent::stop)?;
        Ok(cost)
    }

    fn add(&self, cost: &Cost, results: &mut Results) {
        for program in cost.programs() {
            let name = format!("hooks {} {}", self.name, program.name);
            let line = format!(
                "{:15} {:28} {:10.0} {:10.0} {:10.3}",
                self.name,
                program.name,
                program.nanos_per_run,
                program.runs_per_second,
                program.percent
            );
            let json = json!({
                "row": name, "policy": self.name, "program": program.name,
                "ns_per_run": program.nanos_per_run,
                "runs_per_second": program.runs_per_second,
                "cpu_percent": program.percent,
            });
            let outcome = Outcome {
                line,
                ok: None,
                json,
            };
            results.add(&name, Ok(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_redundant_needs_an_agent_at_both_ends() {
        let both: Vec<&str> = cases().iter().filter(|c| c.both).map(|c| c.name).collect();
        assert_eq!(both, ["redundant"]);
        assert!(cases().iter().all(|case| !case.name.contains(' ')));
    }
}
