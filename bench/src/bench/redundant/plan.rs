//! The rows of the benchmark.

use std::fmt;
use std::time::Duration;

use mptcp_lab::{Direction, Path};

use super::field::Field;

/// How long and how often things are done.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The number of cuts in each row.
    pub cuts: u32,
    /// The length of a cut.
    pub cut: Duration,
    /// How long requests run under loss.
    pub loss: Duration,
    /// The length of a transfer.
    pub transfer: Duration,
}

impl Times {
    /// Returns the times that the targets ask for, or less with `quick`.
    pub fn new(quick: bool) -> Self {
        let seconds = Duration::from_secs;
        if quick {
            Self {
                cuts: 2,
                cut: seconds(4),
                loss: seconds(12),
                transfer: seconds(5),
            }
        } else {
            Self {
                cuts: 10,
                cut: seconds(5),
                loss: seconds(60),
                transfer: seconds(10),
            }
        }
    }
}

/// The round-trip time of two equally long paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// No added delay: about 0.2 ms.
    Near,
    /// A round trip of 30 ms.
    Far,
}

impl Length {
    /// Both lengths.
    pub const ALL: [Self; 2] = [Self::Near, Self::Far];

    /// Returns two paths, called p1 and p2.
    pub fn paths(self, rates_mbit: Option<[f64; 2]>) -> [Path; 2] {
        let one = |index: usize| {
            let mut path = Path::new(["p1", "p2"][index]);
            if let Some(rates) = rates_mbit {
                path = path.rate_mbit(rates[index]);
            }
            match self {
                Self::Near => path,
                Self::Far => path.delay_ms(15.0),
            }
        };
        [one(0), one(1)]
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Near => "0.2ms",
            Self::Far => "30ms",
        })
    }
}

/// Requests while a path is cut, again and again.
#[derive(Debug, Clone, Copy)]
pub struct Blackout {
    /// The length of both paths.
    pub length: Length,
    /// The index of the path that is cut, from 0.
    pub path: usize,
    /// The direction that is cut.
    pub direction: Direction,
}

/// Requests while the first path loses packets at random.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// The length of both paths.
    pub length: Length,
    /// The loss in percent, both ways.
    pub percent: f64,
}

/// A stream while a path is cut.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// The length of both paths.
    pub length: Length,
    /// The index of the path that is cut, from 0.
    pub path: usize,
}

/// A transfer of as much as possible.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    /// The length of both paths.
    pub length: Length,
    /// The congestion control.
    pub congestion: &'static str,
}

/// A stream on links without a limit, to measure its cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Whether offloads make segments larger than packets.
    pub offloads: bool,
}

/// The rows, in the order of the targets.
#[derive(Debug, Default)]
pub struct Rows {
    /// One for each path and direction.
    pub blackouts: Vec<Blackout>,
    /// Two loss rates.
    pub losses: Vec<Loss>,
    /// Situations in which copies could be missing.
    pub fields: Vec<Field>,
    /// One for each path.
    pub streams: Vec<Stream>,
    /// Transfers over unequal paths.
    pub bulks: Vec<Bulk>,
    /// With and without offloads.
    pub costs: Vec<Cost>,
}

impl Rows {
    /// Returns the rows that have each of `words`. With `quick` only the most
    /// informative rows are considered.
    pub fn new(quick: bool, words: &str) -> Self {
        let mut rows = Self {
            fields: Field::ALL.into(),
            ..Self::default()
        };
        for length in Length::ALL {
            for path in [0, 1] {
                for direction in [Direction::Up, Direction::Down, Direction::Both] {
                    rows.blackouts.push(Blackout {
                        length,
                        path,
                        direction,
                    });
                }
                rows.streams.push(Stream { length, path });
            }
            for percent in [5.0, 20.0] {
                rows.losses.push(Loss { length, percent });
            }
            for congestion in ["cubic", "bbr"] {
                rows.bulks.push(Bulk { length, congestion });
            }
        }
        for offloads in [true, false] {
            rows.costs.push(Cost { offloads });
        }
        if quick {
            rows.streams.retain(|row| row.length == Length::Near);
            rows.bulks
                .retain(|row| row.length == Length::Near && row.congestion == "cubic");
            rows.costs.retain(|row| row.offloads);
        }
        keep(&mut rows.blackouts, words);
        keep(&mut rows.losses, words);
        keep(&mut rows.fields, words);
        keep(&mut rows.streams, words);
        keep(&mut rows.bulks, words);
        keep(&mut rows.costs, words);
        rows
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        let requests = self.blackouts.len() + self.losses.len() + self.fields.len();
        requests + self.streams.len() + self.bulks.len() + self.costs.len()
    }
}

fn keep(rows: &mut Vec<impl fmt::Display>, words: &str) {
    rows.retain(|row| {
        let row = row.to_string();
        words.split_whitespace().all(|word| row.contains(word))
    });
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Up => "requests",
            Direction::Down => "responses",
            Direction::Both => "both",
        };
        let (length, path) = (self.length, self.path + 1);
        write!(f, "blackout {length:5} p{path} {direction}")
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:5} p1 {} %", self.length, self.percent)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:5} p{}", self.length, self.path + 1)
    }
}

impl fmt::Display for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bulk {:5} 80+40 {}", self.length, self.congestion)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offloads = if self.offloads { "with" } else { "without" };
        write!(f, "cost {offloads} offloads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_rows() {
        assert_eq!(Rows::new(false, "").count(), 12 + 4 + 4 + 4 + 4 + 2);
        assert_eq!(Rows::new(true, "").count(), 12 + 4 + 4 + 2 + 1 + 1);
        let only = Rows::new(false, "blackout 30ms p2");
        assert_eq!((only.blackouts.len(), only.count()), (3, 3));
        assert_eq!(Rows::new(false, "nothing").count(), 0);
    }
}
