//! Repeated changes of policy during one bulk connection.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use mptcp_lab::share::{self, Sample};
use mptcp_lab::{Agent, agent};
use serde_json::json;

use super::load::Load;
use crate::bench::measure::{Rig, WINDOW};
use crate::bench::plan::{self, ratio};
use crate::bench::rows::Outcome;
use crate::bench::table::{DEVIATION_MAX, verdict};

/// Weights that bulk can follow on these links.
const RATIOS: [[u16; 2]; 6] = [[4, 1], [1, 1], [1, 9], [2, 1], [1, 3], [9, 1]];

/// A policy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Strict weights: the shares must follow the weights.
    Strict([u16; 2]),
    /// Weights with spill: bulk fills both paths.
    Spill([u16; 2]),
    Default,
    Redundant,
}

/// The results.
#[derive(Default)]
pub struct Switches {
    count: usize,
    /// How long each command took.
    took: Vec<Duration>,
    /// For each switch to strict weights, its ratio, and how far the shares were
    /// off in the second window.
    off: Vec<(String, f64)>,
    /// Subflows that were lost.
    resets: usize,
    /// Subflows that were opened.
    reopened: f64,
}

/// Switches the policy `count` times.
///
/// # Errors
/// The connection or an agent cannot go on, or a policy is refused.
pub fn measure(binary: &Path, count: usize) -> Result<Switches> {
    let rig = Rig::new(&plan::near())?;
    let net = &rig.net;
    let agent = Agent::start(&net.client, binary, &["--policy", "default"])?;
    // The redundant policy needs a peer to send copies to.
    let peer = Agent::redundant(&net.server, binary, &[])?;
    let mut load = Load::start(&rig, None)?;
    let opened = || Ok::<_, anyhow::Error>(agent.scrape()?.sum("mptcp_subflows_opened_total", &[]));
    let at_first = opened()?;
    let mut done = Switches::default();
    for step in steps(count) {
        let asked = Instant::now();
        agent
            .tell(&step.command())
            .with_context(|| format!("{step:?}"))?;
        done.took.push(asked.elapsed());
        done.count += 1;
        let settled = sample_after(&load, &rig, WINDOW)?;
        if let Step::Strict(weights) = step {
            let window = sample_after(&load, &rig, WINDOW)?.since(&settled)?;
            let off = share::deviation(&window.shares(), &share::targets(&weights));
            done.off.push((ratio(&weights), off));
        }
        done.resets += load.lost()?;
        load.goes_on()?;
    }
    done.reopened = opened()? - at_first;
    agent.stop()?;
    peer.stop()?;
    Ok(done)
}

fn sample_after(load: &Load, rig: &Rig, time: Duration) -> Result<Sample> {
    sleep(time);
    Sample::take(&load.transfer, &load.sink, &rig.net.links)
}

/// Returns mostly strict weights, and never the same weights twice in a row.
fn steps(count: usize) -> Vec<Step> {
    let mut rng = Rng::with_seed(1);
    let mut last = [0; 2];
    let mut ratio = || {
        let others: Vec<_> = RATIOS.into_iter().filter(|one| *one != last).collect();
        last = others[rng.usize(..others.len())];
        last
    };
    (0..count)
        .map(|number| match number % 10 {
            2 => Step::Default,
            4 => Step::Redundant,
            6 => Step::Spill(ratio()),
            _ => Step::Strict(ratio()),
        })
        .collect()
}

impl Step {
    /// Returns the command `policy set ...`.
    fn command(self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let mut command: Vec<String> = words(&["policy", "set"]);
        command.extend(match self {
            Self::Default => words(&["default"]),
            Self::Redundant => words(&["redundant"]),
            Self::Strict(weights) => weighted(weights),
            Self::Spill(weights) => {
                let spill = words(&["--weighted-mode", "spill"]);
                [weighted(weights), spill].concat()
            }
        });
        command
    }
}

/// Returns the arguments `weighted --weight p1=4 --weight p2=1`.
fn weighted([first, second]: [u16; 2]) -> Vec<String> {
    // Remove `--policy`, which only `run` takes.
    agent::weighted_args(&[("p1", first), ("p2", second)]).split_off(1)
}

/// Returns the names of the columns.
pub fn header() -> String {
    format!(
        "\nswitches: repeated changes of policy on one bulk connection, shares in the second window \
         of {} s of each strict ratio\n(target: off by at most {DEVIATION_MAX}, nothing \
         reset, no subflow opened again)\n\
         {:>8} {:>7} {:>7} {:>7} {:>7}  {:8} {:>7} {:>8}   {:>15}  verdict",
        WINDOW.as_secs(),
        "switches",
        "ratios",
        "over",
        "p50 off",
        "worst",
        "of",
        "resets",
        "reopened",
        "command max, ms",
    )
}

impl Switches {
    /// Returns the row.
    pub fn outcome(&self) -> Outcome {
        let mut sorted: Vec<&(String, f64)> = self.off.iter().collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let over = sorted
            .iter()
            .filter(|(_, off)| *off > DEVIATION_MAX)
            .count();
        let p50 = sorted.get(sorted.len() / 2).map_or(0.0, |(_, off)| *off);
        let (of, worst) = sorted.last().map_or(("", 0.0), |(of, off)| (of, *off));
        let ok = over == 0 && self.resets == 0 && self.reopened == 0.0;
        let milliseconds: Vec<f64> = self
            .took
            .iter()
            .map(|took| took.as_secs_f64() * 1e3)
            .collect();
        let line = format!(
            "{:8} {:7} {over:7} {p50:7.4} {worst:7.4}  {of:8} {:7} {:8}   {:15.0}  {}",
            self.count,
            self.off.len(),
            self.resets,
            self.reopened,
            milliseconds.iter().copied().fold(0.0, f64::max),
            verdict(ok),
        );
        let off: Vec<_> = self
            .off
            .iter()
            .map(|(of, off)| json!({ "ratio": of, "off": off }))
            .collect();
        let json = json!({
            "row": "switches", "switches": self.count, "off": off, "over": over,
            "worst": worst, "resets": self.resets, "reopened": self.reopened,
            "command_ms": milliseconds, "ok": ok,
        });
        Outcome {
            line,
            ok: Some(ok),
            json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_ratio_comes_twice_in_a_row_and_all_policies_come() {
        let steps = steps(50);
        assert_eq!(steps.len(), 50);
        for pair in steps.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        for one in [Step::Default, Step::Redundant] {
            assert!(steps[..8].contains(&one));
        }
        let strict = |step: &&Step| matches!(step, Step::Strict(_));
        assert_eq!(steps.iter().filter(strict).count(), 35);
    }

    #[test]
    fn commands_are_those_of_the_agent() {
        let spill = Step::Spill([4, 1]).command().join(" ");
        assert_eq!(
            spill,
            "policy set weighted --weight p1=4 --weight p2=1 --weighted-mode spill"
        );
        assert_eq!(Step::Redundant.command().join(" "), "policy set redundant");
    }
}
