//! The columns of a row: a figure of each round, and its target.

use serde_json::{Map, Value, json};

use crate::bench::rows::Outcome;
use crate::bench::table::verdict;

/// The width of a row's name.
const LABEL: usize = 54;
/// The width of a line of text.
const LINE: usize = 100;
/// The width of a column with a spread, and without one.
const WIDE: usize = 25;
const NARROW: usize = 10;

/// A figure of a row.
#[derive(Debug, Clone)]
pub struct Column {
    name: &'static str,
    decimals: usize,
    /// The figure of each round; none if the row has no such figure.
    values: Vec<f64>,
    /// Whether the spread is shown beside the median.
    wide: bool,
    target: Option<Target>,
}

/// The target that a figure has to meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The median may be at most this.
    AtMost(f64),
    /// The median is at least this.
    AtLeast(f64),
    /// The figure of each round may be at most this.
    EachAtMost(f64),
    /// The figure of each round is at least this.
    EachAtLeast(f64),
}

impl Column {
    /// Makes a column that shows the median with so many decimals.
    pub fn new(name: &'static str, decimals: usize, values: Vec<f64>) -> Self {
        Self {
            name,
            decimals,
            values,
            wide: false,
            target: None,
        }
    }

    /// Makes a column that shows the spread, too, and may have a target.
    pub fn judged(
        name: &'static str,
        decimals: usize,
        values: Vec<f64>,
        target: Option<Target>,
    ) -> Self {
        Self {
            wide: true,
            target,
            ..Self::new(name, decimals, values)
        }
    }

    /// Returns whether the figure meets its target, if it has one.
    fn ok(&self) -> Option<bool> {
        let [least, median, most] = self.spread()?;
        Some(match self.target? {
            Target::AtMost(limit) => median <= limit,
            Target::AtLeast(limit) => median >= limit,
            Target::EachAtMost(limit) => most <= limit,
            Target::EachAtLeast(limit) => least >= limit,
        })
    }

    /// Returns the least, the median and the largest figure.
    fn spread(&self) -> Option<[f64; 3]> {
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        Some([least, f64::midpoint(sorted[low], sorted[high]), most])
    }

    fn width(&self, rounds: usize) -> usize {
        // A single round has no spread.
        if self.wide && rounds > 1 {
            WIDE
        } else {
            NARROW
        }
    }

    fn text(&self) -> String {
        let decimals = self.decimals;
        let Some([least, median, most]) = self.spread() else {
            return "- ".to_owned();
        };
        // The mark says which figure is over.
        let mark = if self.ok() == Some(false) { '!' } else { ' ' };
        if self.wide && self.values.len() > 1 {
            format!("{median:.decimals$}{mark}({least:.decimals$}..{most:.decimals$})")
        } else {
            format!("{median:.decimals$}{mark}")
        }
    }

    /// Returns the name in JSON: "/ bound" becomes "by bound", and "p99 /" becomes
    /// "p99 by default".
    fn key(&self) -> String {
        let name = self.name.replace("/ ", "by ");
        name.replace(" /", " by default")
    }

    fn json(&self) -> Value {
        let Some([least, median, most]) = self.spread() else {
            return Value::Null;
        };
        json!({
            "median": median, "least": least, "most": most, "rounds": self.values, "ok": self.ok(),
        })
    }
}

/// Breaks a text into lines.
pub fn wrapped(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let gap = match length {
            0 => "",
            _ if length + word.len() >= LINE => "\n",
            _ => " ",
        };
        length = if gap == "\n" { 0 } else { length + gap.len() } + word.len();
        lines += gap;
        lines += word;
    }
    lines
}

/// Returns the names of the columns, for rows of so many rounds.
pub fn header(group: &str, columns: &[Column], rounds: usize) -> String {
    let mut line = format!("{group:LABEL$}");
    for column in columns {
        // A figure is followed by its mark.
        line += &format!("{:>width$} ", column.name, width = column.width(rounds) - 1);
    }
    line + " verdict"
}

/// Makes the outcome of a row of so many rounds. Only if it is `judged`, it has a
/// verdict.
pub fn outcome(label: &str, columns: &[Column], rounds: usize, judged: bool) -> Outcome {
    let ok = judged.then(|| columns.iter().all(|column| column.ok() != Some(false)));
    let mut line = format!("{label:LABEL$}");
    let mut figures = Map::new();
    for column in columns {
        line += &format!("{:>width$}", column.text(), width = column.width(rounds));
        figures.insert(column.key(), column.json());
    }
    if let Some(ok) = ok {
        line += &format!("  {}", verdict(ok));
    }
    Outcome {
        line: line.trim_end().to_owned(),
        ok,
        json: json!({ "row": label, "figures": figures, "ok": ok }),
    }
}

/// Divides each round's figure by that of another row.
pub fn ratios(mine: &[f64], others: &[f64]) -> Vec<f64> {
    mine.iter().zip(others).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f64], target: Target) -> Column {
        Column::judged("x", 2, values.to_vec(), Some(target))
    }

    #[test]
    fn targets_hold_for_the_median_or_for_each_round() {
        let values = [1.1, 0.9, 1.0];
        let ok = |target| column(&values, target).ok();
        assert_eq!(ok(Target::AtMost(1.0)), Some(true));
        assert_eq!(ok(Target::EachAtMost(1.0)), Some(false));
        assert_eq!(ok(Target::AtLeast(1.0)), Some(true));
        assert_eq!(ok(Target::EachAtLeast(1.0)), Some(false));
        assert_eq!(column(&[], Target::AtMost(1.0)).ok(), None);
        // A figure that is not a number meets no target.
        assert_eq!(column(&[f64::NAN], Target::AtMost(1.0)).ok(), Some(false));
    }

    #[test]
    fn lines_of_text_end_between_words() {
        let text = "word ".repeat(50);
        let wrapped = wrapped(&text);
        let lengths: Vec<usize> = wrapped.lines().map(str::len).collect();
        assert_eq!(lengths, [99, 99, 49]);
        assert_eq!(wrapped.replace('\n', " "), text.trim_end());
    }

    #[test]
    fn keys_have_no_signs() {
        let key = |name| Column::new(name, 1, Vec::new()).key();
        assert_eq!(
            ["/ bound", "p99 /", "share"].map(key),
            ["by bound", "p99 by default", "share"]
        );
    }

    #[test]
    fn a_figure_that_is_over_is_marked() {
        let over = column(&[1.0, 2.0, 3.0], Target::AtMost(1.5));
        assert_eq!(over.text(), "2.00!(1.00..3.00)");
        let row = outcome("row", std::slice::from_ref(&over), 3, true);
        assert_eq!((row.ok, row.line.ends_with("over")), (Some(false), true));
        assert_eq!(outcome("row", &[over], 3, false).ok, None);
        assert_eq!(Column::new("x", 1, vec![1.0, 3.0]).text(), "2.0 ");
        assert_eq!(Column::new("x", 1, vec![]).text(), "- ");
    }
}
