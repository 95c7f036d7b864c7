//! The frames of the demo, as text.
//!
//! ```text
//!  p1        ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌━━━━━                              ok
//!  agent     ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁                              0.3 ms
//!  default   ▁▁▁▁▁▁▁▁▁▁▇▁▁▁▁▁▁▁▁▁▁▁▁▁▁                              0.2 ms
//! ```

use std::time::Duration;

use super::side::State;
use crate::demo::screen::{self, Paint};

/// The number of cells of the history.
pub const CELLS: usize = 54;
/// The characters of cells, each from a latency in milliseconds on.
const STEPS: [(f64, char); 8] = [
    (0.0, '▁'),
    (2.0, '▂'),
    (5.0, '▃'),
    (10.0, '▄'),
    (20.0, '▅'),
    (50.0, '▆'),
    (100.0, '▇'),
    (200.0, '█'),
];

/// The state of one moment.
pub struct Cell {
    /// Whether each path is cut.
    pub cut: [bool; 2],
    /// The longest wait under the agent, and without.
    pub worst: [Duration; 2],
}

impl Cell {
    /// Merges another moment into this one; the worse values win.
    pub fn merge(&mut self, other: &Self) {
        for index in 0..2 {
            self.cut[index] |= other.cut[index];
            self.worst[index] = self.worst[index].max(other.worst[index]);
        }
    }
}

/// A moment of the demo, with its history.
pub struct Frame<'a> {
    /// The seconds since the start.
    pub second: f64,
    /// The length of the demo.
    pub seconds: u32,
    /// The cells so far, at most [`CELLS`].
    pub history: &'a [Cell],
    /// Whether the last cell is complete.
    pub last: bool,
    /// The states under the agent, and without.
    pub states: &'a [State; 2],
}

impl screen::Frame for Frame<'_> {
    const HEIGHT: usize = 12;

    fn title(&self) -> &str {
        "One request after another; the longest wait of each moment"
    }

    fn line(&self) -> Option<String> {
        let cell = self.history.last().filter(|_| self.last)?;
        let path = |index: usize| if cell.cut[index] { "CUT" } else { "ok" };
        let [agent, default] = cell.worst.map(milliseconds);
        Some(format!(
            "{:5.1} s  p1 {:3}  p2 {:3}   agent {agent:>11}   default {default:>11}",
            self.second,
            path(0),
            path(1)
        ))
    }

    fn lines(&self, paint: Paint) -> Vec<String> {
        let clock = format!("{:.0} of {} s", self.second, self.seconds);
        let title = paint.with(Paint::BOLD, &format!("{:64}", self.title()));
        let mut lines = vec![format!(" {title}{clock:>14}"), String::new()];
        lines.extend([0, 1].map(|index| self.path(index, paint)));
        lines.extend([0, 1].map(|index| self.waits(index, paint)));
        lines.push(String::new());
        let head = format!(
            " {:20}{:>12}{:>12}{:>12}{:>14}",
            "", "last", "worst", "late", "TCP timeouts"
        );
        lines.push(paint.with(Paint::DIM, &head));
        for (index, name) in ["mptcp-agent", "default scheduler"].into_iter().enumerate() {
            let state = &self.states[index];
            let color = if state.late == 0 {
                Paint::GREEN
            } else {
                Paint::RED
            };
            let numbers = format!(
                "{:>12}{:>12}{:12}{:14}",
                milliseconds(state.last),
                milliseconds(state.worst),
                state.late,
                state.timeouts
            );
            lines.push(format!(" {name:20}{}", paint.with(color, &numbers)));
        }
        lines.push(String::new());
        let [agent, _] = self.states;
        let copies = format!(
            " copies: {:.0} sent, {:.0} came first, {:.1} kB rescued",
            agent.sent,
            agent.first,
            agent.rescued / 1e3
        );
        lines.push(paint.with(Paint::DIM, &copies));
        lines
    }
}

impl Frame<'_> {
    /// Returns the line with a path's history and state.
    fn path(&self, index: usize, paint: Paint) -> String {
        let cells = self.history.iter().map(|cell| {
            if cell.cut[index] {
                paint.with(Paint::RED, "╌")
            } else {
                paint.with(Paint::GREEN, "━")
            }
        });
        let cut = self.history.last().is_some_and(|cell| cell.cut[index]);
        let state = if cut {
            paint.with(Paint::RED, "CUT")
        } else {
            "ok".to_owned()
        };
        self.row(["p1", "p2"][index], cells, &state)
    }

    /// Returns the line with the waits of one pair of hosts.
    fn waits(&self, index: usize, paint: Paint) -> String {
        let cells = self.history.iter().map(|cell| {
            let step = step(cell.worst[index]);
            let color = if step >= '▆' {
                Paint::RED
            } else {
                Paint::GREEN
            };
            paint.with(color, &step.to_string())
        });
        let now = self.history.last().map(|cell| cell.worst[index]);
        let now = milliseconds(now.unwrap_or_default());
        self.row(["agent", "default"][index], cells, &now)
    }

    fn row(&self, name: &str, cells: impl Iterator<Item = String>, now: &str) -> String {
        let cells: String = cells.collect();
        let rest = " ".repeat(CELLS.saturating_sub(self.history.len()));
        format!(" {name:10}{cells}{rest}  {now}")
    }
}

fn step(worst: Duration) -> char {
    let milliseconds = worst.as_secs_f64() * 1e3;
    let mut reached = STEPS.iter().filter(|(from, _)| milliseconds >= *from);
    reached.next_back().map_or(' ', |(_, cell)| *cell)
}

/// Formats a duration like `0.31 ms` or `204 ms`.
pub fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1e3;
    let digits = match milliseconds {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{milliseconds:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::screen::{Frame as _, WIDTH};

    #[test]
    fn frames_fit() {
        let history: Vec<Cell> = (0..CELLS)
            .map(|index| Cell {
                cut: [index % 2 == 0, index % 3 == 0],
                worst: [Duration::from_micros(310), Duration::from_millis(20_000)],
            })
            .collect();
        let state = State {
            responses: 180_000,
            last: Duration::from_secs(20),
            worst: Duration::from_secs(20),
            late: 10_000,
            timeouts: 10_000,
            sent: 1e7,
            first: 1e6,
            rescued: 1e9,
        };
        let frame = Frame {
            second: 3600.0,
            seconds: 3600,
            history: &history,
            last: true,
            states: &[state.clone(), state],
        };
        let lines = frame.lines(Paint(false));
        assert_eq!(lines.len(), Frame::HEIGHT);
        for line in lines.iter().chain(&frame.line()) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(frame.lines(Paint(true))[2].contains("\x1b[31m"));
    }

    #[test]
    fn cells_rise_with_the_wait() {
        assert_eq!(step(Duration::from_micros(300)), '▁');
        assert_eq!(step(Duration::from_millis(201)), '█');
        assert_eq!(milliseconds(Duration::from_micros(310)), "0.31 ms");
        assert_eq!(milliseconds(Duration::from_millis(204)), "204 ms");
    }
}
