//! The result of a row, and its lines in the table.

use mptcp_lab::share;
use serde_json::{Value, json};

use super::measure::Measured;
use super::plan::{Mode, Row, ratio};

/// How far a share may be off its target in any window.
pub const DEVIATION_MAX: f64 = 0.01;
/// The least allowed goodput, as a part of the best.
const GOODPUT_MIN: f64 = 0.95;

/// A row that was measured.
pub struct Outcome {
    target: Vec<f64>,
    /// The shares over all windows.
    share: Vec<f64>,
    /// The largest deviation in any window on any path.
    deviation: f64,
    /// The goodput, as a part of the best.
    goodput: f64,
    best_mbit: f64,
    default_share: Vec<f64>,
    default_goodput: f64,
    /// Whether the row meets the targets.
    pub ok: bool,
}

impl Outcome {
    /// Compares the measurement with the targets.
    pub fn new(row: &Row, best_mbit: f64, agent: &Measured, default: &Measured) -> Self {
        let target = share::targets(&row.weights);
        let off = |window: &share::Window| share::deviation(&window.shares(), &target);
        let deviation = agent.windows.iter().map(off).fold(0.0, f64::max);
        let goodput = agent.whole.goodput_mbit() / best_mbit;
        let holds = deviation <= DEVIATION_MAX || !row.holds_ratio();
        Self {
            share: agent.whole.shares(),
            deviation,
            goodput,
            best_mbit,
            default_share: default.whole.shares(),
            default_goodput: default.whole.goodput_mbit() / best_mbit,
            ok: holds && goodput >= GOODPUT_MIN,
            target,
        }
    }

    /// Returns the row as JSON.
    pub fn json(&self, row: &Row) -> Value {
        json!({
            "links": row.links.title,
            "weights": ratio(&row.weights),
            "load": row.load.to_string(),
            "congestion": row.congestion,
            "mode": row.mode.to_string(),
            "target_share": self.target,
            "share": self.share,
            "worst_deviation": self.deviation,
            "best_mbit": self.best_mbit,
            "goodput_ratio": self.goodput,
            "default_share": self.default_share,
            "default_goodput_ratio": self.default_goodput,
            "ok": self.ok,
        })
    }
}

/// Returns the word for the verdict.
pub fn verdict(ok: bool) -> &'static str {
    if ok { "ok" } else { "over" }
}

/// Returns the names of the columns.
pub fn header() -> String {
    let head = format!(
        "{:15} {:7} {:4} {:5}  {:14} {:14} {:>6} {:>7} {:>7}   {:14} {:>7}  {}",
        "links",
        "weights",
        "load",
        "cc",
        "target",
        "share",
        "worst",
        "best",
        "goodput",
        "default",
        "goodput",
        "verdict"
    );
    let units = format!(
        "{:15} {:7} {:4} {:5}  {:14} {:14} {:>6} {:>7} {:>7}   {:14} {:>7}",
        "Mbit/s",
        "",
        "",
        "",
        "",
        "all windows",
        "window",
        "Mbit/s",
        "/ best",
        "its share",
        "/ best"
    );
    format!("{head}\n{units}")
}

/// Returns a row's line.
pub fn line(row: &Row, outcome: &Outcome) -> String {
    // The star says that the column is not judged, as the ratio need not hold.
    let judged = if row.holds_ratio() { ' ' } else { '*' };
    format!(
        "{}  {:14} {:14} {:6.4}{judged}{:7.1} {:7.3}   {:14} {:7.3}  {}",
        label(row),
        shares(&outcome.target),
        shares(&outcome.share),
        outcome.deviation,
        outcome.best_mbit,
        outcome.goodput,
        shares(&outcome.default_share),
        outcome.default_goodput,
        verdict(outcome.ok),
    )
}

/// Returns a row's first columns.
pub fn label(row: &Row) -> String {
    let mut weights = ratio(&row.weights);
    if row.mode == Mode::Spill {
        weights.push_str(" sp");
    }
    format!(
        "{:15} {weights:7} {:4} {:5}",
        row.links.title, row.load, row.congestion
    )
}

/// Formats shares like `.800/.200`.
fn shares(shares: &[f64]) -> String {
    let three = |share: &f64| {
        let text = format!("{share:.3}");
        text.strip_prefix('0').unwrap_or(&text).to_owned()
    };
    let all: Vec<String> = shares.iter().map(three).collect();
    all.join("/")
}
