//! `--policy weighted`: shares that follow the weights, beside the shares under
//! the default scheduler.

mod frame;
mod side;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::{Path, share};

use super::screen::{self, Screen};
use frame::{Acked, Frame, percent};
use side::Side;

/// The default length of the demo.
pub const SECONDS: u32 = 20;

/// Each path's rate in Mbit/s and weight.
const PATHS: [(&str, f64, u16); 2] = [("p1", 40.0, 4), ("p2", 20.0, 1)];
/// The rate of the second load, as a part of the most that the weights allow.
const PARTIAL_LOAD: f64 = 0.4;
/// The time at the start of each load that the summary leaves out.
const SETTLE: Duration = Duration::from_secs(2);
/// The time from one frame to the next.
const TICK: Duration = Duration::from_secs(1);

/// The traffic that the application sends.
struct Load {
    /// The name in the summary.
    name: String,
    /// The title while it runs.
    title: String,
    rate_mbit: Option<f64>,
}

/// A load's summary.
struct Outcome {
    name: String,
    agent: share::Window,
    default: share::Window,
}

/// Shows the demo with the agent's binary `binary`.
pub fn run(binary: &std::path::Path, seconds: u32) -> Result<()> {
    let paths = PATHS.map(|(name, rate, _)| Path::new(name).rate_mbit(rate));
    let weights = PATHS.map(|(_, _, weight)| weight);
    println!("{}", introduction());
    let demo = Demo {
        bound_mbit: share::bound_mbit(&paths, &weights)?,
        targets: share::targets(&weights),
        seconds,
    };
    let selectors = PATHS.map(|(name, _, weight)| (name, weight));
    let agent = Side::steered(&paths, binary, &selectors)?;
    demo.show(agent, Side::left_alone(&paths)?)
}

/// The values that stay the same throughout.
struct Demo {
    targets: Vec<f64>,
    bound_mbit: f64,
    seconds: u32,
}

impl Demo {
    fn show(&self, mut agent: Side, mut default: Side) -> Result<()> {
        let mut screen = Screen::new(<Frame as screen::Frame>::HEIGHT);
        let partial = self.bound_mbit * PARTIAL_LOAD;
        let loads = [
            Load {
                name: "bulk transfer".to_owned(),
                title: "Load 1 of 2: a bulk transfer, as fast as possible".to_owned(),
                rate_mbit: None,
            },
            Load {
                name: format!("{partial:.0} Mbit/s to send"),
                title: format!("Load 2 of 2: an application that sends {partial:.0} Mbit/s"),
                rate_mbit: Some(partial),
            },
        ];
        let half = self.seconds / 2;
        let mut outcomes = Vec::new();
        for (number, load) in loads.iter().enumerate() {
            let ticks = half * number as u32..if number == 0 { half } else { self.seconds };
            outcomes.push(self.drive(load, ticks, &mut agent, &mut default, &mut screen)?);
        }
        let kernel = agent.acked()?;
        let metrics = agent.acked_by_metrics()?;
        agent.stop()?;
        drop(screen);
        println!("{}", self.summary(&outcomes));
        println!("{}", agreement(&Acked { metrics, kernel }));
        println!("{}", hints());
        Ok(())
    }

    /// Runs one load on both sides.
    fn drive(
        &self,
        load: &Load,
        ticks: std::ops::Range<u32>,
        agent: &mut Side,
        default: &mut Side,
        screen: &mut Screen,
    ) -> Result<Outcome> {
        for side in [&mut *agent, &mut *default] {
            side.begin(load.rate_mbit)?;
        }
        let started = Instant::now();
        for (second, tick) in (1..).zip(ticks) {
            sleep((started + TICK * second).saturating_duration_since(Instant::now()));
            let windows = [agent.tick()?, default.tick()?];
            if TICK * second == SETTLE {
                agent.settled();
                default.settled();
            }
            let acked = Acked {
                kernel: agent.acked()?,
                metrics: agent.acked_by_metrics()?,
            };
            screen.show(&Frame {
                load: &load.title,
                second: tick + 1,
                seconds: self.seconds,
                paths: PATHS.map(|(name, ..)| name),
                targets: &self.targets,
                agent: &windows[0],
                default: &windows[1],
                acked: &acked,
            });
        }
        Ok(Outcome {
            name: load.name.clone(),
            agent: agent.end()?,
            default: default.end()?,
        })
    }

    fn summary(&self, outcomes: &[Outcome]) -> String {
        let asked = format!("asked: {}", percent(&self.targets, 0));
        let mut text = format!(
            "\n{:34}{:25}default scheduler\n  {asked:32}{:25}{}",
            "Summary, each load after 2 s",
            "mptcp-agent",
            "share        Mbit/s",
            "share        Mbit/s"
        );
        for outcome in outcomes {
            let side = |window: &share::Window| {
                let shares = percent(&window.shares(), 1);
                format!("{shares:12}{:7.1}", window.goodput_mbit())
            };
            let (agent, default) = (side(&outcome.agent), side(&outcome.default));
            text += &format!("\n  {:32}{agent:25}{default}", outcome.name);
        }
        text
    }
}

fn introduction() -> String {
    let [(_, first, four), (_, second, one)] = PATHS;
    format!(
        "\nTwo pairs of hosts with the paths p1 ({first} Mbit/s) and p2 ({second} Mbit/s) send the\n\
         same data: one pair with mptcp-agent and weights p1={four} and p2={one}, one without.\n"
    )
}

/// Compares the agent's metrics in the end with the kernel's counters.
fn agreement(acked: &Acked) -> String {
    let megabytes = |all: &[u64]| {
        let each = PATHS.iter().zip(all);
        let each = each.map(|((name, ..), &bytes)| format!("{name} {:.3}", bytes as f64 / 1e6));
        each.collect::<Vec<_>>().join(", ")
    };
    format!(
        "\nMB acknowledged under mptcp-agent:\n  by its metrics  {}\n  by the kernel   {}",
        megabytes(&acked.metrics),
        megabytes(&acked.kernel)
    )
}

fn hints() -> &'static str {
    "\nStrict weights leave p2 partly idle under a bulk transfer; --weighted-mode spill\n\
     would fill it. A host of your own needs one file, target/release/mptcp-agent:\n  \
     mptcp-agent run --policy weighted --weight eth0=4 --weight wwan0=1\n  \
     curl http://127.0.0.1:8684/metrics\n\
     To measure more links: cargo xtask bench weighted --quick"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit() {
        let acked = Acked {
            metrics: vec![18_000_000_000, 4_500_000_000],
            kernel: vec![18_000_000_000, 4_500_000_000],
        };
        for text in [&introduction(), hints(), &agreement(&acked)] {
            for line in text.lines() {
                assert!(line.chars().count() <= screen::WIDTH, "{line}");
            }
        }
    }
}
