//! Makes the tables of the documentation: each shows some rows and figures. The
//! figures come from the results alone.

mod all;

use super::compare::median;
use super::results::{Group, Row};
use all::ALL;

/// The text of a cell whose figure the row does not have.
const NONE: &str = "–";

/// A table of the documentation.
pub struct Table {
    /// The name in the page's mark.
    pub name: &'static str,
    /// The group whose rows it shows.
    pub group: &'static str,
    /// Whether it shows a row of this name.
    rows: fn(&str) -> bool,
    columns: &'static [Column],
}

/// A column: its title, and what it shows.
struct Column(&'static str, Cell);

/// The part of a row that a column shows.
enum Cell {
    /// The row's name, without so many words at its start.
    Name(usize),
    /// A figure as it is.
    Text(&'static str),
    /// A figure, times this, with so many decimals; the median and the spread if
    /// there are several rounds.
    Number(&'static str, f64, usize),
    /// The largest of a figure's values, times this, with so many decimals.
    Largest(&'static str, f64, usize),
    /// One share for each path.
    Shares(&'static str),
    /// Whether the row met its targets.
    Verdict,
}

use Cell::{Largest, Name, Number, Shares, Text, Verdict};

impl Table {
    /// Returns the table of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|table| table.name == name)
    }

    /// Returns the table in Markdown; `None` if the group has no such row.
    pub fn markdown(&self, group: &Group) -> Option<String> {
        let rows: Vec<&Row> = group
            .rows
            .iter()
            .filter(|row| (self.rows)(&row.name))
            .collect();
        if rows.is_empty() {
            return None;
        }
        let titles: Vec<&str> = self.columns.iter().map(|Column(title, _)| *title).collect();
        let mut lines = vec![line(&titles), line(&vec!["---"; titles.len()])];
        for row in rows {
            let cells: Vec<String> = match row.text("broken") {
                // Such a row has no figures.
                Some(_) => {
                    let mut cells = vec![NONE.to_owned(); self.columns.len()];
                    cells[0] = format!("{}: could not be measured", row.name);
                    cells
                }
                None => self
                    .columns
                    .iter()
                    .map(|Column(_, cell)| cell.of(row))
                    .collect(),
            };
            lines.push(line(&cells));
        }
        Some(lines.join("\n"))
    }
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}

impl Cell {
    fn of(&self, row: &Row) -> String {
        let text = match self {
            Name(skip) => {
                let words: Vec<&str> = row.name.split(' ').skip(*skip).collect();
                Some(words.join(" "))
            }
            Text(figure) => row.text(figure).map(str::to_owned),
            Number(figure, scale, decimals) => row
                .values(figure)
                .map(|values| rounds(&values, *scale, *decimals) + mark(row, figure)),
            Largest(figure, scale, decimals) => row.values(figure).map(|values| {
                let most = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
                fixed(most * scale, *decimals)
            }),
            Shares(figure) => row.values(figure).map(|values| {
                let shares: Vec<String> = values.iter().map(|share| fixed(*share, 3)).collect();
                shares.join("/").replace("0.", ".")
            }),
            Verdict => row
                .ok()
                .map(|ok| if ok { "ok" } else { "**over**" }.to_owned()),
        };
        text.unwrap_or_else(|| NONE.to_owned())
    }
}

/// Returns a mark for a figure that misses its target.
fn mark(row: &Row, figure: &str) -> &'static str {
    match row.text(&format!("{figure}.ok")) {
        Some("false") => "**!**",
        _ => "",
    }
}

/// Formats the figures of each round: the median, and the spread in brackets.
fn rounds(values: &[f64], scale: f64, decimals: usize) -> String {
    let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
    let middle = fixed(median(&scaled), decimals);
    if let [_, _, ..] = scaled.as_slice() {
        let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = scaled.iter().copied().fold(f64::INFINITY, f64::min);
        let (least, most) = (fixed(least, decimals), fixed(most, decimals));
        return format!("{middle} ({least}–{most})");
    }
    middle
}

/// Formats a number, with commas between thousands if it has no decimals.
fn fixed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    if decimals > 0 || text.len() < 4 || !number.is_finite() {
        return text;
    }
    let digits = text.trim_start_matches('-');
    let mut grouped = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number < 0.0 {
        format!("-{grouped}")
    } else {
        grouped
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::row;
    use super::*;

    #[test]
    fn tables_show_rows_and_figures() {
        let rows = vec![
            row(
                "loss 30ms p1 5 %",
                &[
                    ("agent.p50_ms", "30.123"),
                    ("p999_ratio", "0.99 1.2 1.1"),
                    ("ok", "false"),
                    ("p999_ratio.ok", "false"),
                ],
            ),
            row("loss 30ms p1 20 %", &[("broken", "why")]),
            row("stream p1", &[]),
        ];
        let text = Table::named("loss").and_then(|table| table.markdown(&Group { rows }));
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| 30ms p1 5 % | 30.12 | – | – | 1.10 (0.99–1.20)**!** | – | – | **over** |",
                "| loss 30ms p1 20 %: could not be measured | – | – | – | – | – | – | – |",
            ]
        );
        assert!(
            Table::named("loss").is_some_and(|loss| loss.markdown(&Group::default()).is_none())
        );
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(fixed(16_048.0, 0), "16,048");
        assert_eq!(fixed(999.0, 0), "999");
        assert_eq!(fixed(-1_000_000.0, 0), "-1,000,000");
        assert_eq!(fixed(1234.5, 1), "1234.5");
        let shares = Shares("share").of(&row("x", &[("share", "0.8 0.2")]));
        assert_eq!(shares, ".800/.200");
    }

    #[test]
    fn every_table_has_a_name_of_its_own() {
        let mut names: Vec<&str> = ALL.iter().map(|table| table.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
