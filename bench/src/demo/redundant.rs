//! `--policy redundant`: a path is cut and no request is late, beside the same
//! under the default scheduler.

mod frame;
mod side;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::screen::{self, Screen};
use frame::{CELLS, Frame};
use side::{Side, State};

/// The default length of the demo.
pub const SECONDS: u32 = 30;
/// The time from one request to the next.
const INTERVAL: Duration = Duration::from_millis(20);
/// A request counts as late if it takes this much longer than the median.
const LATE: Duration = Duration::from_millis(50);
/// The number of frames for each cell of the history.
const FRAMES: u32 = 2;
/// When each path is cut, in sixths of the demo's length.
const CUTS: [std::ops::Range<u32>; 2] = [1..2, 3..4];

/// Shows the demo with the agent's binary `binary`.
pub fn run(binary: &std::path::Path, seconds: u32) -> Result<()> {
    println!("{}", introduction());
    let mut sides = [Side::redundant(binary)?, Side::left_alone()?];
    for side in &mut sides {
        side.begin()?;
    }
    let mut screen = Screen::new(<Frame as screen::Frame>::HEIGHT);
    let frames = CELLS as u32 * FRAMES;
    let tick = Duration::from_secs(seconds.into()) / frames;
    let (started, mut cut) = (Instant::now(), [false; 2]);
    let mut history: Vec<frame::Cell> = Vec::new();
    for number in 0..frames {
        let wanted = CUTS.map(|during| during.contains(&(number * 6 / frames)));
        for (index, (now, then)) in wanted.into_iter().zip(&mut cut).enumerate() {
            if now != *then {
                *then = now;
                for side in &sides {
                    side.cut(index, now)?;
                }
            }
        }
        sleep((started + tick * (number + 1)).saturating_duration_since(Instant::now()));
        let worst = [sides[0].tick(), sides[1].tick()];
        let cell = frame::Cell { cut, worst };
        if number % FRAMES == 0 {
            history.push(cell);
        } else if let Some(last) = history.last_mut() {
            last.merge(&cell);
        }
        let states: [State; 2] = [sides[0].state()?, sides[1].state()?];
        screen.show(&Frame {
            second: started.elapsed().as_secs_f64(),
            seconds,
            history: &history,
            last: number % FRAMES == FRAMES - 1,
            states: &states,
        });
    }
    let states: [State; 2] = [sides[0].state()?, sides[1].state()?];
    for side in sides {
        side.end()?;
    }
    drop(screen);
    println!("{}", summary(&states));
    println!("{}", hints());
    Ok(())
}

fn introduction() -> String {
    format!(
        "\nTwo pairs of hosts, each with the paths p1 and p2, exchange 200 bytes each way\n\
         every {} ms: one pair with mptcp-agent on both hosts, one pair without.\n\
         First p1 is cut and restored, then p2.\n",
        INTERVAL.as_millis()
    )
}

fn summary(states: &[State; 2]) -> String {
    let mut text = format!(
        "\n{:22}{:>10}{:>12}{:>14}{:>15}",
        "Summary", "requests", "worst", "late", "TCP timeouts"
    );
    for (name, state) in ["mptcp-agent", "default scheduler"].into_iter().zip(states) {
        text += &format!(
            "\n  {name:20}{:10}{:>12}{:14}{:15}",
            state.responses,
            frame::milliseconds(state.worst),
            state.late,
            state.timeouts
        );
    }
    let [agent, _] = states;
    text += &format!(
        "\n  late: {} ms over the median\n  copies: {:.0} sent, {:.0} came before the original \
         or without ({:.1} kB)",
        LATE.as_millis(),
        agent.sent,
        agent.first,
        agent.rescued / 1e3
    );
    text
}

fn hints() -> &'static str {
    "\nOn both of your own hosts (let UDP port 8684 in at the server):\n  \
     mptcp-agent run --policy redundant\n  \
     curl http://127.0.0.1:8684/metrics\n\
     To measure longer cuts, loss and bulk: cargo xtask bench redundant --quick"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::screen::WIDTH;

    #[test]
    fn texts_fit() {
        let state = State {
            responses: 180_000,
            worst: Duration::from_secs(12),
            late: 1000,
            timeouts: 1000,
            rescued: 1e9,
            first: 1e6,
            ..State::default()
        };
        for text in [&introduction(), hints(), &summary(&[state.clone(), state])] {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }
}
