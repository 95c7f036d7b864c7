//! The view's memory of earlier looks: the course of each path's rate and round trip,
//! and the speed of each connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use mptcp_api::schema::{Connection, Path};

/// How many looks are remembered.
const LENGTH: usize = 120;

/// The course of a path. The newest value is the last one.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Bytes per second, acknowledged and received together.
    pub rate: VecDeque<f64>,
    /// Round trips, seconds; those that are not known are 0.
    pub rtt: VecDeque<f64>,
}

/// The courses of all paths, by label.
#[derive(Debug, Default)]
pub struct Courses(BTreeMap<String, Course>);

impl Courses {
    /// Adds a look, and forgets paths that are no more.
    pub fn add(&mut self, paths: &[Path]) {
        self.0
            .retain(|label, _| paths.iter().any(|path| path.path == *label));
        for path in paths {
            let course = self.0.entry(path.path.clone()).or_default();
            push(&mut course.rate, rate(path));
            push(&mut course.rtt, path.rtt_seconds.unwrap_or(0.0));
        }
    }

    /// Returns the course of a path, if there is one.
    pub fn of(&self, label: &str) -> Option<&Course> {
        self.0.get(label)
    }
}

fn push(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == LENGTH {
        values.pop_front();
    }
    values.push_back(value);
}

/// Returns what a path carries in both directions, bytes per second.
pub fn rate(path: &Path) -> f64 {
    path.acked_bytes_per_second + path.received_bytes_per_second
}

/// Draws the last `width` values as bars of eight heights, the greatest of all
/// values being the highest.
pub fn bars(values: &VecDeque<f64>, width: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = values.iter().copied().fold(0.0, f64::max);
    let shown = values.iter().skip(values.len().saturating_sub(width));
    let bars: String = shown
        .map(|value| match value / top {
            part if part > 0.0 => BARS[((part * 8.0).ceil() as usize).clamp(1, 8)],
            _ => BARS[0],
        })
        .collect();
    format!("{bars:>width$}")
}

/// Names a connection from one look to the next: by its token, or, while that is
/// not known, by its first subflow.
pub fn key(connection: &Connection) -> String {
    let first = connection.subflows.first();
    connection.token.clone().unwrap_or_else(|| {
        first.map_or_else(String::new, |subflow| {
            format!("cookie {:x}", subflow.cookie)
        })
    })
}

/// How fast connections are, by [`key`].
#[derive(Debug, Default)]
pub struct Speeds {
    at: Option<Duration>,
    bytes: HashMap<String, u64>,
    rates: HashMap<String, f64>,
}

impl Speeds {
    /// Adds a look at the time `at`.
    pub fn add(&mut self, at: Duration, connections: &[Connection]) {
        let passed = self.at.map(|last| at.saturating_sub(last).as_secs_f64());
        let passed = passed.filter(|passed| *passed > 0.0);
        let mut bytes = HashMap::with_capacity(connections.len());
        let mut rates = HashMap::new();
        for connection in connections {
            let key = key(connection);
            let carried = carried(connection);
            if let (Some(passed), Some(before)) = (passed, self.bytes.get(&key)) {
                // The bytes of a subflow that has closed count no longer.
                let rate = carried.saturating_sub(*before) as f64 / passed;
                rates.insert(key.clone(), rate);
            }
            bytes.insert(key, carried);
        }
        (self.at, self.bytes, self.rates) = (Some(at), bytes, rates);
    }

    /// Forgets everything, since another agent counts.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Returns how fast a connection is, bytes per second, if it was seen twice.
    pub fn of(&self, key: &str) -> Option<f64> {
        self.rates.get(key).copied()
    }
}

/// Returns the bytes that a connection's open subflows have carried both ways.
fn carried(connection: &Connection) -> u64 {
    let of = |subflow: &mptcp_api::schema::Subflow| {
        subflow.acked_bytes.saturating_add(subflow.received_bytes)
    };
    let all = connection.subflows.iter().map(of);
    all.fold(0, u64::saturating_add)
}
