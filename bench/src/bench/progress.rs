//! Shows the progress of the benchmark in a line at the foot of the terminal.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Counts rows and shows the progress.
pub struct Progress {
    done: usize,
    total: usize,
    started: Instant,
    terminal: bool,
}

impl Progress {
    /// Starts counting `total` rows, which take about `estimate`.
    pub fn new(total: usize, estimate: Duration) -> Self {
        eprintln!("{total} rows, about {}", rounded(estimate));
        Self {
            done: 0,
            total,
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Shows what is being measured.
    pub fn now(&self, row: impl Display, phase: &str) {
        if self.terminal {
            let (number, total) = (self.done + 1, self.total);
            let left = self.left().map_or(String::new(), |left| {
                format!(", about {} left", rounded(left))
            });
            eprint!("\r\x1b[K[{number}/{total}] {row}: {phase}{left}");
            let _ = std::io::stderr().flush();
        }
    }

    /// Counts a row that the caller prints, after [`Progress::clear`].
    pub fn step(&mut self) {
        self.done += 1;
    }

    /// Prints a row's line.
    pub fn done(&mut self, line: &str) {
        self.done += 1;
        self.print(line);
    }

    /// Prints a line above the progress.
    pub fn print(&self, line: &str) {
        self.clear();
        println!("{line}");
    }

    /// Clears the foot of the terminal.
    pub fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn left(&self) -> Option<Duration> {
        let done = u32::try_from(self.done).ok().filter(|&done| done > 0)?;
        let left = u32::try_from(self.total - self.done).ok()?;
        Some(self.started.elapsed() / done * left)
    }
}

fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}
