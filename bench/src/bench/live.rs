//! `cargo xtask bench live`: shows shares over time while the weights change under
//! an open connection, beside the default scheduler on links of the same kind.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use mptcp_lab::share::{self, Sample};
use mptcp_lab::traffic::Bulk;
use mptcp_lab::{Agent, agent};
use serde_json::json;

use super::measure::{Rig, SETTLE, WINDOW};
use super::plan::{Links, path, ratio};
use super::rows::{Choice, Outcome, Results, together};
use super::table::{DEVIATION_MAX, verdict};

/// The weights, one after the other.
const WEIGHTS: [[u16; 2]; 4] = [[4, 1], [1, 1], [1, 4], [2, 1]];
/// The time for which each of them is in force. The last [`WINDOW`] of it is judged.
const PHASE: Duration = Duration::from_secs(8);
/// The time between two samples.
const TICK: Duration = Duration::from_millis(500);
/// A limit that no transfer reaches; the benchmark stops it earlier.
const LONG: Duration = Duration::from_secs(600);

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
}

/// The samples of one side, and how long after its start each was taken.
struct Series(Vec<Sample>);

impl Args {
    /// Measures with the agent's binary `agent`.
    pub fn run(&self, agent: &Path) -> Result<()> {
        let phases = phases();
        let mut wanted = phases.clone();
        wanted.retain(|(name, _)| self.choice.wants(name));
        self.choice.ensure_any(wanted.len())?;
        let mut results = Results::default();
        println!(
            "live: an upload over 40+20 Mbit/s while the weights change; the last {} s of each \
             (at most {DEVIATION_MAX} off)\n{:12} {:>7} {:>7} {:>7} {:>9} {:>8}  verdict",
            WINDOW.as_secs(),
            "weights",
            "asked",
            "share",
            "off",
            "/ bound",
            "default",
        );
        let sides = together(vec![Some(agent), None], record);
        let mut sides = sides.into_iter();
        let mut next = || sides.next().unwrap_or_else(|| Err(anyhow!("no result")));
        match (next(), next().context("default scheduler")) {
            (Ok(steered), Ok(default)) => {
                for (index, (name, _)) in phases.iter().enumerate() {
                    if self.choice.wants(name) {
                        results.add(name, phase(index, &steered, &default));
                    }
                }
                results.add("live series agent", steered.outcome("agent"));
                results.add("live series default", default.outcome("default"));
            }
            (Err(error), _) | (_, Err(error)) => results.add("live", Err(error)),
        }
        results.finish(&self.choice)
    }
}

/// Returns each phase's name and weights.
fn phases() -> Vec<(String, [u16; 2])> {
    let name = |(index, weights): (usize, [u16; 2])| {
        (format!("live {} {}", index + 1, ratio(&weights)), weights)
    };
    WEIGHTS.into_iter().enumerate().map(name).collect()
}

fn links() -> Links {
    Links::new("40+20", [path(1, 40.0), path(2, 20.0)])
}

/// Samples an upload in all phases, under the agent or without it.
fn record(binary: Option<&Path>) -> Result<Series> {
    let links = links();
    let rig = Rig::new(&links)?;
    let args = agent::weighted_args(&links.with(&WEIGHTS[0]));
    let start = |binary| Agent::start(&rig.net.client, binary, &args);
    let agent = binary.map(start).transpose()?;
    let (sink, transfer) = rig.start(Bulk::upload_for(LONG))?;
    sleep(SETTLE);
    let ticks = (PHASE.as_millis() / TICK.as_millis()) as u32;
    let started = Instant::now();
    let mut samples = Vec::new();
    for number in 0..=ticks * WEIGHTS.len() as u32 {
        sleep((started + TICK * number).saturating_duration_since(Instant::now()));
        samples.push(Sample::take(&transfer, &sink, &rig.net.links)?);
        let next = WEIGHTS.get((number / ticks) as usize);
        if let (Some(agent), Some(weights), true, true) =
            (&agent, next, number % ticks == 0, number > 0)
        {
            let mut tell = ["policy", "set", "weighted"].map(str::to_owned).to_vec();
            for (name, weight) in links.with(weights) {
                tell.extend(["--weight".to_owned(), format!("{name}={weight}")]);
            }
            agent.tell(&tell)?;
        }
    }
    transfer.stop()?;
    agent.map_or(Ok(()), Agent::stop)?;
    Ok(Series(samples))
}

impl Series {
    /// Returns the index of the sample at the end of a phase.
    fn end(phase: usize) -> usize {
        (PHASE.as_millis() / TICK.as_millis()) as usize * (phase + 1)
    }

    /// Returns the last [`WINDOW`] of a phase.
    fn window(&self, phase: usize) -> Result<share::Window> {
        let end = Self::end(phase);
        let start = end - (WINDOW.as_millis() / TICK.as_millis()) as usize;
        let (start, end) = self
            .0
            .get(start)
            .zip(self.0.get(end))
            .context("no sample")?;
        end.since(start)
    }

    fn outcome(&self, of: &str) -> Result<Outcome> {
        let first = self.0.first().context("no sample")?.at;
        let (mut seconds, mut shares, mut rates, mut targets) = (vec![], vec![], vec![], vec![]);
        for (index, pair) in self.0.windows(2).enumerate() {
            let window = pair[1].since(&pair[0])?;
            seconds.push(pair[1].at.duration_since(first).as_secs_f64());
            shares.push(window.shares()[0]);
            rates.push(window.goodput_mbit());
            let phase = (0..WEIGHTS.len()).find(|&phase| index < Self::end(phase));
            targets.push(share::targets(&WEIGHTS[phase.unwrap_or_default()])[0]);
        }
        let row = format!("live series {of}");
        Ok(Outcome {
            line: format!("{row}: {} samples", seconds.len()),
            ok: None,
            json: json!({
                "row": row, "seconds": seconds, "share": shares, "goodput_mbit": rates,
                "target": targets,
            }),
        })
    }
}

/// Judges the end of a phase.
fn phase(index: usize, steered: &Series, default: &Series) -> Result<Outcome> {
    let weights = WEIGHTS[index];
    let (mine, other) = (steered.window(index)?, default.window(index)?);
    let target = share::targets(&weights)[0];
    let (share, default_share) = (mine.shares()[0], other.shares()[0]);
    let bound = share::bound_mbit(&links().paths, &weights)?;
    let goodput = mine.goodput_mbit() / bound;
    let off = (share - target).abs();
    let ok = off <= DEVIATION_MAX;
    let row = format!("{} {}", index + 1, ratio(&weights));
    Ok(Outcome {
        line: format!(
            "{row:12} {target:7.3} {share:7.3} {off:7.4} {goodput:9.3} {default_share:8.3}  {}",
            verdict(ok)
        ),
        ok: Some(ok),
        json: json!({
            "row": row, "weights": ratio(&weights), "target": target, "share": share,
            "deviation": off, "goodput_ratio": goodput, "default_share": default_share, "ok": ok,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_a_name_and_room_for_its_window() {
        let names: Vec<String> = phases().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[0], "live 1 4:1");
        assert_eq!(names.len(), WEIGHTS.len());
        assert!(PHASE > WINDOW);
        assert_eq!(PHASE.as_millis() % TICK.as_millis(), 0);
        assert_eq!(Series::end(WEIGHTS.len() - 1), 64);
    }
}
