//! The rows of the benchmark.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::{Family, Path, share};

use super::thin::{CYCLE, Rounds};

/// The part of the bound that [`Load::Partial`] offers.
pub const PARTIAL_LOAD: f64 = 0.4;

/// The links of a row.
#[derive(Debug, Clone)]
pub struct Links {
    /// The title in the table.
    pub title: &'static str,
    /// The paths.
    pub paths: Vec<Path>,
    /// Whether paths of both address families are among them.
    pub dual_stack: bool,
}

/// The amount that the application has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// As much as possible.
    Bulk,
    /// [`PARTIAL_LOAD`] of the bound.
    Partial,
}

/// The agent's `--weighted-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The weights always hold, at the cost of throughput.
    Strict,
    /// The weights hold until a path is full.
    Spill,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// The links between the hosts.
    pub links: Links,
    /// The weight of each path.
    pub weights: Vec<u16>,
    /// The load.
    pub load: Load,
    /// The congestion control.
    pub congestion: &'static str,
    /// How strictly the weights hold.
    pub mode: Mode,
}

/// A row of the table of latencies.
#[derive(Debug, Clone)]
pub struct ThinRow {
    /// The links between the hosts.
    pub links: Links,
    /// The weight of each path.
    pub weights: Vec<u16>,
    /// The number of cycles of rounds. Without a delay most of a round trip is due
    /// to the machine, so it takes more rounds to see a difference.
    cycles: u32,
}

/// Returns the rows of the targets. With `all` it adds those beyond the
/// targets; with `quick` it leaves out those with bbr.
pub fn rows(all: bool, quick: bool) -> Vec<Row> {
    let two: &[&[u16]] = &[&[1, 1], &[4, 1], &[1, 9]];
    let mut sets = vec![(near(), two), (far(), two), (three(), &[&[3, 2, 1]])];
    if all {
        sets.push((farthest(), &[&[1, 1], &[4, 1]]));
    }
    let congestions: &[_] = if quick { &["cubic"] } else { &["cubic", "bbr"] };
    let mut rows = Vec::new();
    for (links, weights) in sets {
        for weights in weights {
            for load in [Load::Bulk, Load::Partial] {
                for &congestion in congestions {
                    rows.push(Row {
                        links: links.clone(),
                        weights: weights.to_vec(),
                        load,
                        congestion,
                        mode: Mode::Strict,
                    });
                }
            }
        }
    }
    if all {
        rows.extend([Load::Bulk, Load::Partial].map(|load| Row {
            links: near(),
            weights: vec![4, 1],
            load,
            congestion: "cubic",
            mode: Mode::Spill,
        }));
    }
    rows
}

/// Returns the rows of requests and responses.
pub fn thin_rows() -> Vec<ThinRow> {
    let row = |links, weights: &[u16], cycles| ThinRow {
        links,
        weights: weights.to_vec(),
        cycles,
    };
    vec![
        row(near(), &[4, 1], 6),
        row(near(), &[1, 9], 6),
        row(far(), &[4, 1], 2),
        row(far(), &[1, 9], 2),
    ]
}

/// Returns links without a delay.
pub fn near() -> Links {
    Links::new("100+50", [path(1, 100.0), path(2, 50.0)])
}

/// Returns slow links of both families, two or three for each pair of hosts.
/// They are slow so that several can run side by side and queues build up.
pub fn slow() -> [Links; 4] {
    let v6 = |number, rate_mbit| path(number, rate_mbit).family(Family::V6);
    let both = Links::new("8+8+4v6", [path(1, 8.0), path(2, 8.0), v6(3, 4.0)]);
    [
        Links::new("8+8", [path(1, 8.0), path(2, 8.0)]),
        Links::new("8+6+4", [path(1, 8.0), path(2, 6.0), path(3, 4.0)]),
        Links::new("8v6+8v6", [v6(1, 8.0), v6(2, 8.0)]),
        Links {
            dual_stack: true,
            ..both
        },
    ]
}

/// Returns links with unequal round trips, in user space.
fn far() -> Links {
    let paths = [path(1, 50.0).delay_ms(5.0), path(2, 15.0).delay_ms(30.0)];
    Links::new("50@10ms+15@60ms", paths)
}

/// Returns links of both address families.
fn three() -> Links {
    let third = path(3, 20.0).family(Family::V6);
    let links = Links::new("60+30+20v6", [path(1, 60.0), path(2, 30.0), third]);
    Links {
        dual_stack: true,
        ..links
    }
}

/// Returns links whose round trips differ by a factor of 40.
fn farthest() -> Links {
    let paths = [path(1, 20.0).delay_ms(2.5), path(2, 20.0).delay_ms(100.0)];
    Links::new("20@5ms+20@200ms", paths)
}

/// Returns the path called `p` and its number.
pub fn path(number: u8, rate_mbit: f64) -> Path {
    Path::new(&format!("p{number}")).rate_mbit(rate_mbit)
}

impl Links {
    /// Describes links of one address family.
    pub fn new<const N: usize>(title: &'static str, paths: [Path; N]) -> Self {
        Self {
            title,
            paths: paths.into(),
            dual_stack: false,
        }
    }

    /// Returns the devices with their weights.
    pub fn with<'a>(&'a self, weights: &[u16]) -> Vec<(&'a str, u16)> {
        let names = self.paths.iter().map(Path::name);
        names.zip(weights.iter().copied()).collect()
    }
}

impl Row {
    /// Returns the goodput to compare with, in Mbit/s: the most that the ratio
    /// allows on the links, the sum of all links, or the load that is offered.
    pub fn best_mbit(&self) -> Result<f64> {
        let paths = &self.links.paths;
        match (self.load, self.mode) {
            (Load::Bulk, Mode::Strict) => share::bound_mbit(paths, &self.weights),
            (Load::Bulk, Mode::Spill) => share::sum_mbit(paths),
            (Load::Partial, _) => Ok(PARTIAL_LOAD * share::bound_mbit(paths, &self.weights)?),
        }
    }

    /// Returns whether the ratio must hold. Under spill it must only while no path
    /// is full.
    pub fn holds_ratio(&self) -> bool {
        self.mode == Mode::Strict || self.load == Load::Partial
    }
}

impl ThinRow {
    /// Returns how long the row is measured.
    pub fn rounds(&self, quick: bool) -> Rounds {
        let (cycles, seconds) = if quick { (1, 6) } else { (self.cycles, 12) };
        Rounds {
            count: cycles * CYCLE,
            length: Duration::from_secs(seconds),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bulk => f.pad("bulk"),
            Self::Partial => f.pad("40 %"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.pad("strict"),
            Self::Spill => f.pad("spill"),
        }
    }
}

/// The name that `--only` is compared with.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, load, .. } = self;
        let weights = ratio(&self.weights);
        let (congestion, mode) = (self.congestion, self.mode);
        write!(f, "{} {weights} {load} {congestion} {mode}", links.title)
    }
}

/// The name that `--only` is compared with.
impl fmt::Display for ThinRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} thin", self.links.title, ratio(&self.weights))
    }
}

/// Formats weights like `4:1`.
pub fn ratio(weights: &[u16]) -> String {
    let weights: Vec<String> = weights.iter().map(u16::to_string).collect();
    weights.join(":")
}
