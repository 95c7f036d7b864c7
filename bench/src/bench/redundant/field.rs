//! Requests in situations where copies would be missing if they yielded at the
//! wrong sign: on unequal paths, after a burst, in a stream, and with two of
//! three paths lossy.
//!
//! All pairs of hosts run at the same time, as in the other tables of requests.

use std::fmt;
use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::{Direction, Path};

use super::plan::Times;
use super::requests::{RequestResults, Running};
use super::side::{Side, Steering};
use crate::bench::rows::together;

/// The time before the measurement, for the loss to begin or the burst to pass.
const SETTLE: Duration = Duration::from_secs(3);

/// One of these situations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Round trips of 30 and 50 ms, 10 % loss on the first path.
    Unequal,
    /// A burst of 1 MB, then requests, 20 % loss on the first path.
    Burst,
    /// 5 Mbit/s each way over paths of 20 and 10, 5 % loss on the first path.
    Stream,
    /// Three paths, 20 % loss on two.
    Three,
}

impl Field {
    /// All situations.
    pub const ALL: [Self; 4] = [Self::Unequal, Self::Burst, Self::Stream, Self::Three];

    fn paths(self) -> Vec<Path> {
        let [first, second, third] = ["p1", "p2", "p3"].map(Path::new);
        match self {
            Self::Unequal => vec![first.delay_ms(15.0), second.delay_ms(25.0)],
            Self::Burst => vec![
                first.delay_ms(15.0).rate_mbit(20.0),
                second.delay_ms(15.0).rate_mbit(10.0),
            ],
            Self::Stream => vec![
                first.rate_mbit(20.0).no_gso(),
                second.rate_mbit(10.0).no_gso(),
            ],
            Self::Three => vec![
                first.delay_ms(5.0),
                second.delay_ms(5.0),
                third.delay_ms(10.0),
            ],
        }
    }

    /// Returns the loss of each path, in percent.
    fn losses(self) -> &'static [f64] {
        match self {
            Self::Unequal => &[10.0],
            Self::Burst => &[20.0],
            Self::Stream => &[5.0],
            Self::Three => &[20.0, 20.0],
        }
    }

    /// Returns the size of a request in bytes, and the number of connections.
    fn load(self) -> (usize, u32) {
        match self {
            Self::Unequal => (200, 4),
            Self::Burst | Self::Three => (200, 1),
            Self::Stream => (12_500, 1),
        }
    }

    fn start(self, steering: Steering) -> Result<Running> {
        let (size, connections) = self.load();
        let running = Running::start(&self.paths(), steering, size, connections)?;
        if self == Self::Burst {
            running.burst(1_000_000);
            sleep(SETTLE);
        }
        self.impair(&running.side, true)?;
        sleep(SETTLE);
        Ok(running)
    }

    fn impair(self, side: &Side, on: bool) -> Result<()> {
        for (link, percent) in side.net.links.iter().zip(self.losses()) {
            link.set_loss(Direction::Both, if on { *percent } else { 0.0 })?;
        }
        Ok(())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unequal => "field unequal round trips",
            Self::Burst => "field after a burst",
            Self::Stream => "field stream of 5 Mbit/s",
            Self::Three => "field two lossy of three",
        })
    }
}

/// Measures each row under the agents, and under the default scheduler.
pub fn fields(
    rows: &[Field],
    agent: &FilePath,
    times: &Times,
) -> Vec<(Result<RequestResults>, Result<RequestResults>)> {
    let both: Vec<(Field, Steering)> = [Steering::Agents(agent, &[]), Steering::Default]
        .into_iter()
        .flat_map(|steering| rows.iter().map(move |row| (*row, steering)))
        .collect();
    let ready = together(both, |(row, steering)| (row, row.start(steering)));
    let mut results = together(ready, |(row, running)| {
        running?.measure(|side| {
            sleep(times.loss);
            row.impair(side, false)
        })
    });
    let default = results.split_off(rows.len());
    results.into_iter().zip(default).collect()
}
