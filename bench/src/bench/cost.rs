//! The cost of the agent's programs, according to the agent's own metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::Agent;
use serde_json::{Value, json};

/// The cost of all transfers together.
#[derive(Default)]
pub struct Cost {
    /// Runs and seconds of each program.
    programs: BTreeMap<String, (f64, f64)>,
    /// How often a connection was left to the default scheduler.
    left_alone: f64,
    /// How long the transfers took.
    seconds: f64,
    /// Why a part of the cost is unknown.
    unknown: Option<String>,
}

/// The cost of one program.
pub struct Program<'a> {
    /// Its name.
    pub name: &'a str,
    /// The mean time of a run in nanoseconds.
    pub nanos_per_run: f64,
    /// How often it ran in a second.
    pub runs_per_second: f64,
    /// The part of one CPU that it took, in percent.
    pub percent: f64,
}

impl Cost {
    /// Adds the cost of a transfer of this length. Call it before the agent ends.
    pub fn add(&mut self, agent: &Agent, transfer: Duration) {
        if let Err(error) = self.scrape(agent, transfer) {
            self.unknown = Some(format!("{error:#}"));
        }
    }

    /// Like [`Cost::add`].
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn scrape(&mut self, agent: &Agent, transfer: Duration) -> Result<()> {
        const RUNS: &str = "mptcp_agent_program_runs_total";
        const SECONDS: &str = "mptcp_agent_program_run_seconds_total";
        let metrics = agent.scrape()?;
        for sample in metrics.select(RUNS, &[]) {
            let program = sample.label("program").unwrap_or("?");
            let sum = self.programs.entry(program.to_owned()).or_default();
            sum.0 += sample.value;
            sum.1 += metrics.sum(SECONDS, &[("program", program)]);
        }
        self.left_alone += metrics.sum("mptcp_agent_left_alone_total", &[]);
        self.seconds += transfer.as_secs_f64();
        Ok(())
    }

    /// Returns the cost of each program that ran.
    pub fn programs(&self) -> impl Iterator<Item = Program<'_>> {
        let ran = self.programs.iter().filter(|(_, (runs, _))| *runs > 0.0);
        ran.map(|(name, (runs, seconds))| Program {
            name,
            nanos_per_run: seconds * 1e9 / runs,
            runs_per_second: runs / self.seconds,
            percent: seconds / self.seconds * 100.0,
        })
    }

    /// Returns a line for each program, and one for connections left alone.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for program in self.programs() {
            lines.push(format!(
                "cost: {}: {:.0} ns a run, {:.0} runs a second, {:.2} % of one CPU",
                program.name, program.nanos_per_run, program.runs_per_second, program.percent
            ));
        }
        lines.push(format!(
            "connections left alone for a while: {}",
            self.left_alone
        ));
        lines.extend(
            self.unknown
                .iter()
                .map(|why| format!("cost: unknown, because {why}")),
        );
        lines
    }

    /// Returns the cost as JSON.
    pub fn json(&self) -> Value {
        let programs = self.programs.iter().map(|(program, (runs, seconds))| {
            json!({ "program": program, "runs": runs, "run_seconds": seconds })
        });
        json!({ "transfer_seconds": self.seconds, "left_alone": self.left_alone, "programs": programs.collect::<Vec<_>>() })
    }
}
