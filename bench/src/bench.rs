//! `cargo xtask bench`: measures the agent's targets on real links.

mod cost;
mod cpu;
mod hooks;
mod live;
mod measure;
pub mod plan;
mod progress;
mod quantiles;
mod redundant;
mod reliability;
mod report;
mod rows;
mod scrape;
mod table;
mod thin;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::{Agent, agent, cleanup};
use serde_json::{Value, json};

use cost::Cost;
use measure::{Rig, SETTLE, WINDOW};
use plan::{Mode, Row, ThinRow};
use progress::Progress;
use rows::Choice;
use table::Outcome;
use xtask::{build, command::Steps, machine::Machine, tools, workspace::Workspace};

/// How long it takes to build a lab and to start and stop an agent.
const OVERHEAD: Duration = Duration::from_secs(2);

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(clap::Subcommand)]
enum Subject {
    /// Shares, goodput and latency under `--policy weighted`
    ///
    /// Each row is a transfer under the agent and one under the default
    /// scheduler, on the same links. If MPTCP_AGENT_BIN names an agent, the
    /// benchmark measures that one; otherwise it builds the agent first.
    Weighted(Weighted),
    /// Latency, losses, goodput and cost under `--policy redundant`
    ///
    /// Each row runs under the agents and under the default scheduler, most of
    /// them at the same time. If MPTCP_AGENT_BIN names an agent, the
    /// benchmark measures that one; otherwise it builds the agent first.
    Redundant(redundant::Args),
    /// Kills, churn, changes of policy and upgrades, all under load
    ///
    /// Counts resets, lost events and remains, and measures how long limits
    /// stay without an agent, and how long a busy agent goes without a
    /// heartbeat. If MPTCP_AGENT_BIN names an agent, the benchmark measures
    /// that one; otherwise it builds the agent first.
    Reliability(reliability::Args),
    /// Traffic that people really have, under several policies
    ///
    /// Many uploads at once, requests beside bulk, objects and pages, rough
    /// links, video frames, and loads below and above the first path's rate. Each
    /// row is measured under the default scheduler and under every policy, in
    /// rounds in which they change places. If MPTCP_AGENT_BIN names an agent, the
    /// benchmark measures that one; otherwise it builds the agent first.
    Traffic(traffic::Args),
    /// Series, bytes and time of a scrape, by subflows and by paths (two minutes)
    ///
    /// If MPTCP_AGENT_BIN names an agent, the benchmark measures that one;
    /// otherwise it builds the agent first.
    Scrape(scrape::Args),
    /// Shares over time while the weights change (a minute)
    ///
    /// If MPTCP_AGENT_BIN names an agent, the benchmark measures that one;
    /// otherwise it builds the agent first.
    Live(live::Args),
    /// Nanoseconds that each program takes, under each policy (a minute)
    ///
    /// If MPTCP_AGENT_BIN names an agent, the benchmark measures that one;
    /// otherwise it builds the agent first.
    Hooks(hooks::Args),
    /// All of the above, one after the other, with files, plots and tables
    ///
    /// The results of each benchmark are kept in a file of its own, so any one can
    /// be measured again without losing the others. If MPTCP_AGENT_BIN names an
    /// agent, the benchmarks measure that one; otherwise the agent is built first.
    Report(report::Args),
    /// Say what is worse in one directory of results than in another
    ///
    /// Exit status 1 if something is worse by more than the noise.
    Compare(report::CompareArgs),
}

#[derive(clap::Args)]
struct Weighted {
    /// Cubic alone, and one window a row
    #[arg(long)]
    quick: bool,
    /// Also round trips of 5 and 200 ms, and `--weighted-mode spill`
    #[arg(long)]
    all: bool,
    /// How long a transfer under the agent takes: 2 s, then windows of 5 s
    /// [default: 17; 7 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(7..))]
    seconds: Option<u32>,
    #[command(flatten)]
    choice: Choice,
}

/// The settings and the results of measuring rows.
struct Bench {
    agent: PathBuf,
    /// The number of windows of a transfer under the agent.
    windows: u32,
    /// The length of the only window of a transfer under the default scheduler.
    default_window: Duration,
    /// Whether to run fewer and shorter rounds of requests.
    quick: bool,
    progress: Progress,
    cost: Cost,
    tally: Tally,
}

/// The results of the rows so far.
#[derive(Default)]
struct Tally {
    ok: usize,
    over: usize,
    broken: usize,
    json: Vec<Value>,
}

/// Runs `cargo xtask bench`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    match &args.subject {
        Subject::Report(args) => return args.run(machine),
        Subject::Compare(args) => return args.run(),
        _ => {}
    }
    let agent = prepare_as_root(machine)?;
    match &args.subject {
        Subject::Weighted(args) => args.run(agent),
        Subject::Redundant(args) => args.run(agent),
        Subject::Reliability(args) => args.run(&agent),
        Subject::Traffic(args) => args.run(agent),
        Subject::Scrape(args) => args.run(&agent),
        Subject::Live(args) => args.run(&agent),
        Subject::Hooks(args) => args.run(&agent),
        Subject::Report(_) | Subject::Compare(_) => Ok(()),
    }
}

/// Like [`prepare`], but first makes sure that this process may do it.
fn prepare_as_root(machine: &Machine) -> Result<PathBuf> {
    ensure!(
        Machine::is_root(),
        "the benchmarks need root: they build network namespaces and load eBPF programs. Run \
         them with: sudo -E env \"PATH=$PATH\" cargo xtask bench"
    );
    prepare(machine)
}

/// Prepares the machine for the lab and returns the agent's binary, building it
/// if needed.
pub fn prepare(machine: &Machine) -> Result<PathBuf> {
    let workspace = Workspace::find()?;
    let agent = match agent::binary() {
        Some(agent) => agent,
        None => build::agent(machine, &workspace, &mut Steps::new(build::STEPS))?.agent,
    };
    tools::prepare_lab(machine, &workspace)?;
    Ok(agent)
}

/// Tries the lab and the agent once: a failure here would repeat in every row.
fn try_out(agent: &Path) -> Result<()> {
    let rig = Rig::new(&plan::near())?;
    let args = agent::weighted_args(&[("p1", 1)]);
    Agent::start(&rig.net.client, agent, &args)?.stop()
}

impl Weighted {
    fn run(&self, agent: PathBuf) -> Result<()> {
        let mut rows = plan::rows(self.all, self.quick);
        rows.retain(|row| self.choice.wants(row));
        let mut thin = plan::thin_rows();
        thin.retain(|row| self.choice.wants(row));
        self.choice.ensure_any(rows.len() + thin.len())?;

        try_out(&agent)?;
        let mut bench = self.bench(agent, rows.len(), &thin);
        if !rows.is_empty() {
            bench.progress.print(&table::header());
        }
        for row in &rows {
            bench.transfers(row);
        }
        if !thin.is_empty() {
            bench.progress.print(&thin::header());
        }
        for row in &thin {
            bench.latencies(row);
        }
        for line in bench.cost.lines() {
            println!("{line}");
        }
        self.finish(&bench)
    }

    fn bench(&self, agent: PathBuf, rows: usize, thin: &[ThinRow]) -> Bench {
        let settle = SETTLE.as_secs() as u32;
        let seconds = self.seconds.unwrap_or(if self.quick { 7 } else { 17 });
        let windows = (seconds - settle) / WINDOW.as_secs() as u32;
        let default_window = Duration::from_secs(if self.quick { 3 } else { 5 });
        let row = OVERHEAD + 2 * SETTLE + windows * WINDOW + default_window;
        let thin_row = |row: &ThinRow| {
            let rounds = row.rounds(self.quick);
            (OVERHEAD + rounds.length) * rounds.count
        };
        let estimate = row * rows as u32 + thin.iter().map(thin_row).sum::<Duration>();
        Bench {
            agent,
            windows,
            default_window,
            quick: self.quick,
            progress: Progress::new(rows + thin.len(), estimate),
            cost: Cost::default(),
            tally: Tally::default(),
        }
    }

    fn finish(&self, bench: &Bench) -> Result<()> {
        let Tally {
            ok,
            over,
            broken,
            json,
        } = &bench.tally;
        self.choice
            .write(&json!({ "rows": json, "cost": bench.cost.json() }))?;
        println!("{ok} rows within the targets, {over} over, {broken} broken");
        ensure!(*broken == 0, "{broken} rows broke");
        Ok(())
    }
}

impl Bench {
    /// Measures and prints a row of shares and goodput.
    fn transfers(&mut self, row: &Row) {
        match self.measure(row) {
            Ok(outcome) => {
                self.progress.done(&table::line(row, &outcome));
                self.tally.add(row, outcome.ok, outcome.json(row));
            }
            Err(error) => self.broken(row, &table::label(row), &error),
        }
    }

    fn measure(&mut self, row: &Row) -> Result<Outcome> {
        let rig = Rig::new(&row.links)?;
        self.progress.now(row, "default scheduler");
        let default = rig
            .transfer(row, 1, self.default_window)
            .context("default scheduler")?;
        self.progress.now(row, "agent");
        let mut args = agent::weighted_args(&row.links.with(&row.weights));
        if row.mode == Mode::Spill {
            args.extend(["--weighted-mode", "spill"].map(str::to_owned));
        }
        // The lines with the cost need this.
        args.push("--measure-programs".to_owned());
        let agent = Agent::start(&rig.net.client, &self.agent, &args)?;
        let measured = rig.transfer(row, self.windows, WINDOW)?;
        self.cost.add(&agent, SETTLE + WINDOW * self.windows);
        agent.stop()?;
        Ok(Outcome::new(row, row.best_mbit()?, &measured, &default))
    }

    /// Measures and prints a row of latencies.
    fn latencies(&mut self, row: &ThinRow) {
        let progress = |phase: &str| self.progress.now(row, phase);
        match thin::measure(row, &self.agent, row.rounds(self.quick), progress) {
            Ok(outcome) => {
                self.progress.done(&thin::line(row, &outcome));
                self.tally.add(row, outcome.ok, outcome.json(row));
            }
            Err(error) => self.broken(row, &thin::label(row), &error),
        }
    }

    fn broken(&mut self, row: &impl ToString, label: &str, error: &anyhow::Error) {
        cleanup::rest_if_interrupted();
        let why = format!("{error:#}");
        self.progress.done(&format!("{label}  BROKEN: {why}"));
        self.tally.broken += 1;
        let name = row.to_string();
        let broken = json!({ "row": name, "broken": why });
        self.tally.json.push(rows::named(&name, broken));
    }
}

impl Tally {
    fn add(&mut self, row: &impl ToString, ok: bool, figures: Value) {
        self.ok += usize::from(ok);
        self.over += usize::from(!ok);
        self.json.push(rows::named(&row.to_string(), figures));
    }
}
