//! The heartbeat of an agent that is asked about very many connections.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::Agent;
use mptcp_lab::kernel::{Heartbeats, crowd};
use serde_json::json;

use crate::bench::measure::Rig;
use crate::bench::plan;
use crate::bench::rows::Outcome;
use crate::bench::table::verdict;

/// Number of subflows that the agent is made to believe in.
const SUBFLOWS: u32 = 100_000;
/// How long the agent is asked. The redundant policy compares its lists with
/// the maps at least each five seconds.
const LENGTH: Duration = Duration::from_secs(12);
/// The longest time that may pass between two heartbeats.
const TARGET: Duration = Duration::from_millis(500);

/// The ways to ask.
const QUESTIONS: [&str; 3] = ["/metrics", "status", "connections"];

/// The results.
pub struct Beats {
    /// The times between heartbeats.
    gaps: Vec<Duration>,
    /// The longest time until an answer, for each of [`QUESTIONS`].
    answers: [Duration; QUESTIONS.len()],
}

/// Asks an agent that has [`SUBFLOWS`] subflows, one question after the other,
/// and watches its heartbeat.
///
/// # Errors
/// The agent does not start, or does not answer.
pub fn measure(binary: &Path) -> Result<Beats> {
    let rig = Rig::new(&plan::near())?;
    let host = &rig.net.client;
    let room = format!("--max-connections={SUBFLOWS}");
    let agent = Agent::redundant(host, binary, &[&room])?;
    crowd(host, SUBFLOWS)?;
    let heartbeats = Heartbeats::watch(host)?;
    let mut answers = [Duration::ZERO; QUESTIONS.len()];
    let start = Instant::now();
    while start.elapsed() < LENGTH {
        for (question, longest) in QUESTIONS.iter().zip(&mut answers) {
            let asked = Instant::now();
            if question.starts_with('/') {
                agent.get(question)?;
            } else {
                agent.tell(&[question, "--json"])?;
            }
            *longest = asked.elapsed().max(*longest);
        }
    }
    let gaps = heartbeats.end()?;
    agent.stop()?;
    Ok(Beats { gaps, answers })
}

/// Returns the names of the columns.
pub fn header() -> String {
    format!(
        "\nbeats: the heartbeat while an agent with {SUBFLOWS} subflows is asked again and again\n\
         (target: at most {} ms between two heartbeats)\n\
         {:8} {:>6} {:>8}   {:>9} {:>9} {:>12}  verdict",
        TARGET.as_millis(),
        "",
        "beats",
        "longest",
        "/metrics",
        "status",
        "connections",
    )
}

impl Beats {
    /// Returns the row.
    pub fn outcome(&self) -> Outcome {
        let longest = self.gaps.iter().max().copied().unwrap_or(LENGTH);
        let ok = longest <= TARGET;
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        let [metrics, status, connections] = self.answers.map(ms);
        let line = format!(
            "{:8} {:6} {:>8}   {metrics:>9} {status:>9} {connections:>12}  {}",
            "beats",
            self.gaps.len(),
            ms(longest),
            verdict(ok),
        );
        let json = json!({
            "row": "beats", "subflows": SUBFLOWS, "beats": self.gaps.len(),
            "longest_seconds": longest.as_secs_f64(),
            "answers_seconds": self.answers.map(|answer| answer.as_secs_f64()), "ok": ok,
        });
        Outcome {
            line,
            ok: Some(ok),
            json,
        }
    }
}
