//! Which rows there are.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::{Family, Path, share};

use super::thin::{CYCLE, Rounds};

/// The part of the bound that a load offers which leaves the links half idle.
pub const PARTIAL_LOAD: f64 = 0.4;

/// The links of a row.
#[derive(Debug, Clone)]
pub struct Links {
    /// As in the table.
    pub title: &'static str,
    /// The paths.
    pub paths: Vec<Path>,
    /// Whether paths of both address families are among them.
    pub dual_stack: bool,
}

/// What the application has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// As much as goes.
    Bulk,
    /// [`PARTIAL_LOAD`] of the bound.
    Partial,
}

/// The agent's `--weighted-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The weights hold whatever it costs.
    Strict,
    /// The weights hold until a path is full.
    Spill,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Between which hosts.
    pub links: Links,
    /// One for each path.
    pub weights: Vec<u16>,
    /// What is sent.
    pub load: Load,
    /// The congestion control.
    pub congestion: &'static str,
    /// How strictly the weights hold.
    pub mode: Mode,
}

/// A row of the table of latencies.
#[derive(Debug, Clone)]
pub struct ThinRow {
    /// Between which hosts.
    pub links: Links,
    /// One for each path.
    pub weights: Vec<u16>,
    /// Without delay the machine is most of a round trip, and it takes long to
    /// tell.
    cycles: u32,
}

/// The rows of the targets; with `all` also those beyond; with `quick` without
/// those of bbr.
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

/// The rows of requests and responses.
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

/// No delay.
pub fn near() -> Links {
    Links::new("100+50", [path(1, 100.0), path(2, 50.0)])
}

/// Slow ones of both families, each pair of hosts with two or three: several
/// run side by side, and queues show.
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

/// Unequal round trips, in user space.
fn far() -> Links {
    let paths = [path(1, 50.0).delay_ms(5.0), path(2, 15.0).delay_ms(30.0)];
    Links::new("50@10ms+15@60ms", paths)
}

/// Both address families.
fn three() -> Links {
    let third = path(3, 20.0).family(Family::V6);
    let links = Links::new("60+30+20v6", [path(1, 60.0), path(2, 30.0), third]);
    Links {
        dual_stack: true,
        ..links
    }
}

/// A factor of 40 between the round trips.
fn farthest() -> Links {
    let paths = [path(1, 20.0).delay_ms(2.5), path(2, 20.0).delay_ms(100.0)];
    Links::new("20@5ms+20@200ms", paths)
}

fn path(number: u8, rate_mbit: f64) -> Path {
    Path::new(&format!("p{number}")).rate_mbit(rate_mbit)
}

impl Links {
    fn new<const N: usize>(title: &'static str, paths: [Path; N]) -> Self {
        Self {
            title,
            paths: paths.into(),
            dual_stack: false,
        }
    }

    /// Devices with their weights.
    pub fn with<'a>(&'a self, weights: &[u16]) -> Vec<(&'a str, u16)> {
        let names = self.paths.iter().map(Path::name);
        names.zip(weights.iter().copied()).collect()
    }
}

impl Row {
    /// What goodput is held against, in Mbit/s: what the ratio allows on the
    /// links, what all links carry together, or what the load offers.
    pub fn best_mbit(&self) -> Result<f64> {
        let paths = &self.links.paths;
        match (self.load, self.mode) {
            (Load::Bulk, Mode::Strict) => share::bound_mbit(paths, &self.weights),
            (Load::Bulk, Mode::Spill) => share::sum_mbit(paths),
            (Load::Partial, _) => Ok(PARTIAL_LOAD * share::bound_mbit(paths, &self.weights)?),
        }
    }

    /// Whether the ratio is to hold: under spill, only while no path is full.
    pub fn holds_ratio(&self) -> bool {
        self.mode == Mode::Strict || self.load == Load::Partial
    }
}

impl ThinRow {
    /// How long it is measured.
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

/// What `--only` looks at.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, load, .. } = self;
        let weights = ratio(&self.weights);
        let (congestion, mode) = (self.congestion, self.mode);
        write!(f, "{} {weights} {load} {congestion} {mode}", links.title)
    }
}

/// What `--only` looks at.
impl fmt::Display for ThinRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} thin", self.links.title, ratio(&self.weights))
    }
}

/// `4:1`.
pub fn ratio(weights: &[u16]) -> String {
    let weights: Vec<String> = weights.iter().map(u16::to_string).collect();
    weights.join(":")
}
