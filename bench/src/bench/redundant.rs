//! `cargo xtask bench redundant`: measures what connections notice when a path
//! dies or loses packets.

mod field;
mod opening;
mod plan;
mod requests;
mod side;
mod streams;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::rows::{Choice, Results};
use plan::{Length, Rows, Times};
use side::{Side, Steering};

#[derive(clap::Args)]
pub struct Args {
    /// Fewer and shorter cuts, shorter transfers: less than two minutes
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    choice: Choice,
}

/// The settings and the results of measuring rows.
struct Bench {
    agent: PathBuf,
    times: Times,
    done: Results,
}

impl Args {
    /// Measures the chosen rows with the agent's binary `agent`.
    pub fn run(&self, agent: PathBuf) -> Result<()> {
        let rows = Rows::new(self.quick, &self.choice.only);
        // The first requests of connections, and the undisturbed stream, are
        // rows too.
        let chosen = |name: &str| {
            let mut words = self.choice.only.split_whitespace();
            words.all(|word| name.contains(word))
        };
        let (opening, wire) = (chosen(opening::NAME), chosen("wire"));
        let count = rows.count() + usize::from(opening) + usize::from(wire);
        self.choice.ensure_any(count)?;
        try_out(&agent)?;
        if self.choice.only.is_empty() {
            let minutes = if self.quick { 3 } else { 12 };
            eprintln!("{count} rows, about {minutes} min");
        } else {
            eprintln!("{count} rows");
        }
        let mut bench = Bench {
            agent,
            times: Times::new(self.quick),
            done: Results::default(),
        };
        bench.blackouts(&rows);
        bench.losses(&rows);
        bench.fields(&rows);
        if opening {
            let (agent, default) = opening::openings(&bench.agent, &bench.times);
            let outcome = agent.and_then(|agent| Ok(table::opening(&agent, &default?)));
            bench.done.add(opening::NAME, outcome);
        }
        bench.streams(&rows);
        bench.bulks(&rows);
        if wire {
            let (agent, default) = streams::undisturbed(&bench.agent, &bench.times);
            let outcome = agent.and_then(|agent| Ok(table::wire(&agent, &default?)));
            bench.done.add("wire", outcome);
        }
        bench.costs(&rows);
        bench.done.finish(&self.choice)
    }
}

/// Tries the lab and the agents once: a failure here would repeat in every row.
fn try_out(agent: &Path) -> Result<()> {
    Side::new(&Length::Near.paths(None), Steering::Agents(agent, &[]))?.end()
}

impl Bench {
    fn blackouts(&mut self, rows: &Rows) {
        if !rows.blackouts.is_empty() {
            println!("{}", table::blackout_header());
        }
        for length in Length::ALL {
            let mut group = rows.blackouts.clone();
            group.retain(|row| row.length == length);
            let results = requests::blackouts(&group, &self.agent, &self.times);
            for (row, (agent, default)) in group.iter().zip(results) {
                let label = row.to_string();
                let outcome = agent.and_then(|agent| Ok((agent, default?)));
                let outcome = outcome.map(|(agent, default)| {
                    table::blackout(without_subject(&label), &agent, &default)
                });
                self.done.add(&label, outcome);
            }
        }
    }

    fn losses(&mut self, rows: &Rows) {
        if !rows.losses.is_empty() {
            println!("{}", table::loss_header());
        }
        for length in Length::ALL {
            let mut group = rows.losses.clone();
            group.retain(|row| row.length == length);
            if group.is_empty() {
                continue;
            }
            let mut results =
                requests::losses(length, &group, &self.agent, &self.times).into_iter();
            let lossless = results
                .next()
                .map(|(agent, default)| Ok((agent?, default?)));
            let (agent, default) = match lossless.unwrap_or_else(|| anyhow::bail!("no result")) {
                Ok(both) => both,
                Err(error) => {
                    self.done.add(&format!("loss {length} none"), Err(error));
                    continue;
                }
            };
            let outcome = table::loss(&format!("{length:5}    none"), &agent, &default, None);
            self.done.add(&format!("loss {length} none"), Ok(outcome));
            for (row, (lossy, default)) in group.iter().zip(results) {
                let label = row.to_string();
                let outcome = lossy.and_then(|lossy| Ok((lossy, default?)));
                let outcome = outcome.map(|(lossy, default)| {
                    table::loss(without_subject(&label), &lossy, &default, Some(&agent))
                });
                self.done.add(&label, outcome);
            }
        }
    }

    fn fields(&mut self, rows: &Rows) {
        if !rows.fields.is_empty() {
            println!("{}", table::field_header());
        }
        let results = field::fields(&rows.fields, &self.agent, &self.times);
        for (row, (agent, default)) in rows.fields.iter().zip(results) {
            let label = row.to_string();
            let outcome = agent.and_then(|agent| Ok((agent, default?)));
            let outcome = outcome
                .map(|(agent, default)| table::field(without_subject(&label), &agent, &default));
            self.done.add(&label, outcome);
        }
    }

    fn streams(&mut self, rows: &Rows) {
        if !rows.streams.is_empty() {
            println!("{}", table::stream_header());
        }
        for length in Length::ALL {
            let mut group = rows.streams.clone();
            group.retain(|row| row.length == length);
            let results = streams::streams(&group, &self.agent, &self.times);
            for (row, (agent, default)) in group.iter().zip(results) {
                let label = row.to_string();
                let outcome = agent.and_then(|agent| Ok((agent, default?)));
                let outcome = outcome.map(|(agent, default)| {
                    table::stream(without_subject(&label), &agent, &default)
                });
                self.done.add(&label, outcome);
            }
        }
    }

    fn bulks(&mut self, rows: &Rows) {
        if !rows.bulks.is_empty() {
            println!("{}", table::bulk_header());
        }
        for row in &rows.bulks {
            let label = row.to_string();
            let results = streams::bulk(row, &self.agent, &self.times);
            let outcome = results.map(|results| table::bulk(without_subject(&label), &results));
            self.done.add(&label, outcome);
        }
    }

    fn costs(&mut self, rows: &Rows) {
        if rows.costs.is_empty() {
            return;
        }
        println!("{}", table::cost_header());
        for row in &rows.costs {
            let label = row.to_string();
            let results = streams::cost(row, &self.agent, &self.times);
            let outcome = results.map(|results| table::cost(without_subject(&label), &results));
            self.done.add(&label, outcome);
        }
    }
}

/// Returns a row's name without its first word, the name of its table.
fn without_subject(label: &str) -> &str {
    label.split_once(' ').map_or(label, |(_, rest)| rest)
}
