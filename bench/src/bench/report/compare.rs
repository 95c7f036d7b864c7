//! Compares two results, and finds what is worse by more than the noise.
//!
//! Where both results have several rounds of a figure, the noise is what the
//! rounds say: half of both spreads together, and at least [`LEAST`] of the
//! figure. Where a figure was measured once, its rule has a threshold
//! ([`figures`]).

use std::fmt;

use super::figures::{self, Better, Rule};
use super::results::{Results, Row, numbers};

/// The least part of a figure that is noise, however close its rounds are.
const LEAST: f64 = 0.02;
/// From so many rounds on, their spread says how large the noise is.
const ROUNDS: usize = 3;

/// The differences between two results.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The figures that are worse.
    pub worse: Vec<Difference>,
    /// The figures that are better.
    pub better: Vec<Difference>,
    /// Rows that cannot be compared, and why.
    pub missing: Vec<String>,
    /// Rows that could be measured and no longer can.
    pub broken: Vec<String>,
    /// Rows that met their targets and no longer do, though maybe by noise.
    pub missed: Vec<String>,
    /// The number of figures that were compared.
    pub figures: usize,
}

/// A figure that differs by more than the noise.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// The group and the row.
    pub row: String,
    /// The figure.
    pub figure: String,
    /// The median before.
    pub before: f64,
    /// The median after.
    pub after: f64,
    /// How large a difference is noise.
    pub noise: f64,
}

impl Comparison {
    /// Compares `after` with `before`. Groups that only one of them has are not
    /// compared.
    pub fn new(before: &Results, after: &Results) -> Self {
        let mut all = Self::default();
        for (name, old) in &before.groups {
            let Some(new) = after.groups.get(name) else {
                all.missing.push(format!("{name}: not measured in B"));
                continue;
            };
            for row in &old.rows {
                let title = format!("{name}: {}", row.name);
                match new.row(&row.name) {
                    Some(other) => all.rows(&title, row, other),
                    None => all.missing.push(format!("{title}: not in B")),
                }
            }
        }
        for name in after.groups.keys() {
            if !before.groups.contains_key(name) {
                all.missing.push(format!("{name}: not measured in A"));
            }
        }
        all
    }

    /// Returns whether something is worse.
    pub fn is_worse(&self) -> bool {
        !self.worse.is_empty() || !self.broken.is_empty()
    }

    fn rows(&mut self, title: &str, before: &Row, after: &Row) {
        match (before.is_broken(), after.is_broken()) {
            (false, true) => {
                let why = after.text("broken").unwrap_or_default();
                self.broken.push(format!("{title}: {why}"));
            }
            (true, _) => self.missing.push(format!("{title}: broken in A")),
            (false, false) => {}
        }
        if (before.ok(), after.ok()) == (Some(true), Some(false)) {
            self.missed.push(title.to_owned());
        }
        for (figure, text) in &before.figures {
            let (rule, old) = (figures::rule(figure), numbers(text));
            if let (Some(rule), Some(old), Some(new)) = (rule, old, after.values(figure)) {
                self.figures += 1;
                self.figure(title, figure, rule, &old, &new);
            }
        }
    }

    fn figure(&mut self, title: &str, figure: &str, rule: Rule, old: &[f64], new: &[f64]) {
        let (before, after) = (median(old), median(new));
        let noise = noise(rule, old, new);
        let grown = after - before;
        if grown.is_nan() || grown.abs() <= noise {
            return;
        }
        let difference = Difference {
            row: title.to_owned(),
            figure: figure.to_owned(),
            before,
            after,
            noise,
        };
        if (grown > 0.0) == (rule.better == Better::Higher) {
            self.better.push(difference);
        } else {
            self.worse.push(difference);
        }
    }
}

/// Returns how large a difference between these rounds is noise.
fn noise(rule: Rule, old: &[f64], new: &[f64]) -> f64 {
    let scale = median(old).abs();
    if old.len() < ROUNDS || new.len() < ROUNDS {
        return rule.absolute.max(rule.relative * scale);
    }
    let spreads = spread(old) + spread(new);
    (spreads / 2.0).max(LEAST * scale)
}

/// Returns the median of at least one figure.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    most - least
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            figure,
            before,
            after,
            noise,
        } = self;
        write!(
            f,
            "{row}: {figure}: {before} before, {after} after (noise: {noise:.3})"
        )
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part = |title: &str, lines: Vec<String>| -> fmt::Result {
            if lines.is_empty() {
                return Ok(());
            }
            writeln!(f, "{title}:")?;
            lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
        };
        let lines = |all: &[Difference]| all.iter().map(ToString::to_string).collect();
        part("not compared", self.missing.clone())?;
        part("better", lines(&self.better))?;
        part(
            "met its targets before, and misses one now",
            self.missed.clone(),
        )?;
        part("cannot be measured any more", self.broken.clone())?;
        part("worse", lines(&self.worse))?;
        write!(
            f,
            "{} figures compared: {} better, {} worse by more than the noise",
            self.figures,
            self.better.len(),
            self.worse.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{results, row};
    use super::*;

    fn compared(before: &[(&str, &str)], after: &[(&str, &str)]) -> Comparison {
        let one = |figures| results("traffic", vec![row("many 1:1", figures)]);
        Comparison::new(&one(before), &one(after))
    }

    #[test]
    fn a_figure_measured_once_is_compared_with_its_threshold() {
        let before = [("goodput_ratio", "1"), ("agent.p99_ms", "10")];
        let close = [("goodput_ratio", "0.98"), ("agent.p99_ms", "12")];
        assert!(!compared(&before, &close).is_worse());
        let slow = [("goodput_ratio", "0.96"), ("agent.p99_ms", "14")];
        let comparison = compared(&before, &slow);
        let worse: Vec<&str> = comparison.worse.iter().map(|d| d.figure.as_str()).collect();
        assert_eq!(worse, ["goodput_ratio", "agent.p99_ms"]);
        let comparison = compared(&slow, &before);
        assert_eq!((comparison.worse.len(), comparison.better.len()), (0, 2));
    }

    #[test]
    fn the_spread_of_rounds_is_noise() {
        // The rounds overlap: the medians differ by less than half of both spreads.
        let wide = compared(
            &[("by bound", "0.9 1 0.95")],
            &[("by bound", "0.85 0.93 0.88")],
        );
        assert!(!wide.is_worse(), "{wide}");
        let narrow = compared(
            &[("by bound", "0.95 0.951 0.949")],
            &[("by bound", "0.92 0.921 0.919")],
        );
        assert!(narrow.is_worse());
        // Rounds that are all equal do not make every difference count.
        let equal = compared(&[("by bound", "1 1 1")], &[("by bound", "0.99 0.99 0.99")]);
        assert!(!equal.is_worse());
    }

    #[test]
    fn a_row_that_breaks_is_worse_and_one_that_is_gone_is_named() {
        let broken = compared(&[("late", "0")], &[("broken", "no route")]);
        assert!(broken.is_worse());
        assert!(broken.to_string().contains("many 1:1: no route"));
        let gone = Comparison::new(
            &results("traffic", vec![row("a", &[("late", "0")])]),
            &results("scrape", Vec::new()),
        );
        assert!(!gone.is_worse());
        assert_eq!(gone.missing.len(), 2);
    }

    #[test]
    fn a_missed_target_is_named_and_counts_only_beyond_the_noise() {
        let comparison = compared(
            &[("window", "0.009"), ("ok", "true")],
            &[("window", "0.011"), ("ok", "false")],
        );
        assert_eq!(comparison.missed, ["traffic: many 1:1"]);
        assert!(!comparison.is_worse());
    }

    #[test]
    fn what_must_not_happen_is_never_noise() {
        let comparison = compared(&[("resets", "0")], &[("resets", "1")]);
        assert_eq!(
            comparison.worse,
            [Difference {
                row: "traffic: many 1:1".to_owned(),
                figure: "resets".to_owned(),
                before: 0.0,
                after: 1.0,
                noise: 0.0
            }]
        );
    }

    #[test]
    fn equal_results_have_no_differences() {
        let figures = [("by best", "1 0.9 0.95"), ("p50", "3"), ("share", "0.5")];
        let comparison = compared(&figures, &figures);
        assert_eq!((comparison.figures, comparison.is_worse()), (1, false));
        assert!(comparison.better.is_empty());
    }
}
