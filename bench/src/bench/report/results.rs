//! The results of benchmarks, as files: a CSV file for each group, and a header
//! that says where and when each was measured.
//!
//! A line of a CSV file has a row's name, a figure's name, and its values: one for
//! each round, or a series, separated by spaces. All groups have the same columns,
//! so that tables, plots and comparisons need no code for a group of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::header::Header;

/// The file that says where and when each group was measured.
const HEADER: &str = "header.json";

/// The results of all groups in a directory.
#[derive(Debug, Default)]
pub struct Results {
    /// Each group, by its name.
    pub groups: BTreeMap<String, Group>,
    /// The header of each group, or of the part of a group that was measured
    /// again, by what was asked for (`redundant`, `redundant loss`).
    pub headers: BTreeMap<String, Header>,
}

/// The rows of a benchmark, in the order in which they were measured.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Group {
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row, with its figures in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The name. No other row of the group has it.
    pub name: String,
    /// Each figure's name and text.
    pub figures: Vec<(String, String)>,
}

/// A line of a CSV file.
#[derive(Serialize, Deserialize)]
struct Line {
    row: String,
    figure: String,
    values: String,
}

impl Results {
    /// Reads a directory. One that does not exist has no results.
    ///
    /// # Errors
    /// A file is not what [`Results::write`] writes.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut results = Self::default();
        if !directory.exists() {
            return Ok(results);
        }
        let header = directory.join(HEADER);
        if header.exists() {
            let text = fs::read_to_string(&header)?;
            results.headers = serde_json::from_str(&text)
                .with_context(|| format!("{} is not a header of results", header.display()))?;
        }
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(name), Some("csv")) = (name, extension(&path)) {
                results.groups.insert(name.to_owned(), Group::read(&path)?);
            }
        }
        Ok(results)
    }

    /// Reads a directory that must have results.
    ///
    /// # Errors
    /// A file is not what [`Results::write`] writes, or there are no results.
    pub fn read_some(directory: &Path) -> Result<Self> {
        let results = Self::read(directory)?;
        ensure!(
            !results.groups.is_empty(),
            "{} has no results: `cargo xtask bench report --into {}` measures them",
            directory.display(),
            directory.display()
        );
        Ok(results)
    }

    /// Writes everything to a directory, which it makes if needed.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, group) in &self.groups {
            group.write(&directory.join(format!("{name}.csv")))?;
        }
        let header = serde_json::to_string_pretty(&self.headers)?;
        write_whole(&directory.join(HEADER), &format!("{header}\n"))
    }

    /// Adds what was measured of a group. Rows that were measured before are
    /// replaced; without `words` the whole group is.
    pub fn add(&mut self, group: &str, words: &str, measured: Group, header: Header) {
        let old = self.groups.entry(group.to_owned()).or_default();
        if words.is_empty() {
            let of_group = |what: &String| what.split(' ').next() == Some(group);
            self.headers.retain(|what, _| !of_group(what));
            *old = measured;
        } else {
            old.merge(measured);
        }
        let what = format!("{group} {words}");
        self.headers.insert(what.trim_end().to_owned(), header);
    }

    /// Replaces the groups that `other` has.
    pub fn take(&mut self, other: Self) {
        let of = |what: &String| what.split(' ').next().unwrap_or_default().to_owned();
        self.headers
            .retain(|what, _| !other.groups.contains_key(&of(what)));
        self.groups.extend(other.groups);
        self.headers.extend(other.headers);
    }
}

impl Group {
    fn read(path: &Path) -> Result<Self> {
        let mut group = Self::default();
        let mut lines = csv::Reader::from_path(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for line in lines.deserialize() {
            let line: Line =
                line.with_context(|| format!("{} is not a file of results", path.display()))?;
            if group.rows.last().is_none_or(|row| row.name != line.row) {
                group.rows.push(Row {
                    name: line.row,
                    figures: Vec::new(),
                });
            }
            if let Some(row) = group.rows.last_mut() {
                row.figures.push((line.figure, line.values));
            }
        }
        Ok(group)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut file = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            for (figure, values) in &row.figures {
                file.serialize(Line {
                    row: row.name.clone(),
                    figure: figure.clone(),
                    values: values.clone(),
                })?;
            }
        }
        let text = String::from_utf8(file.into_inner()?)?;
        write_whole(path, &text)
    }

    /// Replaces rows of the same name, and adds the others.
    fn merge(&mut self, measured: Self) {
        for row in measured.rows {
            match self.rows.iter_mut().find(|old| old.name == row.name) {
                Some(old) => *old = row,
                None => self.rows.push(row),
            }
        }
    }

    /// Returns the row of this name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

impl Row {
    /// Returns a figure's text.
    pub fn text(&self, figure: &str) -> Option<&str> {
        let found = self.figures.iter().find(|(name, _)| name == figure);
        found.map(|(_, text)| text.as_str())
    }

    /// Returns a figure's values; `None` if it has none, or some are not numbers.
    pub fn values(&self, figure: &str) -> Option<Vec<f64>> {
        numbers(self.text(figure)?)
    }

    /// Returns whether the row met its targets; `None` if it has none.
    pub fn ok(&self) -> Option<bool> {
        self.text("ok")?.parse().ok()
    }

    /// Returns whether the row could not be measured.
    pub fn is_broken(&self) -> bool {
        self.text("broken").is_some()
    }
}

/// Returns the numbers in a text; `None` if there are none, or other words.
pub fn numbers(text: &str) -> Option<Vec<f64>> {
    let numbers: Option<Vec<f64>> = text.split(' ').map(|word| word.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// Writes a file so that it is never there in part.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut beside = PathBuf::from(path).into_os_string();
    beside.push(".new");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Makes a row of figures.
    pub fn row(name: &str, figures: &[(&str, &str)]) -> Row {
        let owned = |(figure, text): &(&str, &str)| ((*figure).to_owned(), (*text).to_owned());
        Row {
            name: name.to_owned(),
            figures: figures.iter().map(owned).collect(),
        }
    }

    /// Makes results of one group.
    pub fn results(group: &str, rows: Vec<Row>) -> Results {
        let mut results = Results::default();
        results.add(group, "", Group { rows }, Header::default());
        results
    }

    #[test]
    fn what_is_written_can_be_read() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let rows = vec![
            row("a 1", &[("share", "0.5 0.51"), ("links", "8, \"x\"")]),
            row("b", &[("ok", "false")]),
        ];
        let results = results("weighted", rows);
        results.write(directory.path())?;
        let read = Results::read_some(directory.path())?;
        assert_eq!(read.groups, results.groups);
        assert_eq!(read.headers, results.headers);
        let group = &read.groups["weighted"];
        let first = group.row("a 1").context("no row")?;
        assert_eq!(first.values("share"), Some(vec![0.5, 0.51]));
        assert_eq!((first.values("links"), first.ok()), (None, None));
        assert_eq!(group.row("b").and_then(Row::ok), Some(false));
        Ok(())
    }

    #[test]
    fn an_empty_directory_has_no_results() -> Result<()> {
        let directory = tempfile::tempdir()?;
        assert!(
            Results::read(&directory.path().join("none"))?
                .groups
                .is_empty()
        );
        assert!(Results::read_some(directory.path()).is_err());
        Ok(())
    }

    #[test]
    fn a_part_of_a_group_replaces_its_rows_only() {
        let old = vec![row("a", &[("x", "1")]), row("b", &[("x", "2")])];
        let mut all = results("traffic", old);
        let part = Group {
            rows: vec![row("b", &[("x", "3")]), row("c", &[("x", "4")])],
        };
        all.add("traffic", "b", part.clone(), Header::default());
        let names = |all: &Results| -> Vec<String> {
            let rows = all.groups["traffic"].rows.iter();
            rows.map(|row| row.name.clone()).collect()
        };
        assert_eq!(names(&all), ["a", "b", "c"]);
        assert_eq!(all.groups["traffic"].rows[1].text("x"), Some("3"));
        assert_eq!(all.headers.len(), 2);
        all.add("traffic", "", part, Header::default());
        assert_eq!(names(&all), ["b", "c"]);
        assert_eq!(all.headers.len(), 1);
    }

    #[test]
    fn groups_that_others_have_are_replaced() {
        let mut all = results("traffic", vec![row("a", &[("x", "1")])]);
        let part = Group { rows: Vec::new() };
        all.add("traffic", "words", part.clone(), Header::default());
        all.add("live", "", part, Header::default());
        all.take(results("traffic", vec![row("b", &[("x", "2")])]));
        assert_eq!(all.groups["traffic"].rows[0].name, "b");
        let headers: Vec<&String> = all.headers.keys().collect();
        assert_eq!(headers, ["live", "traffic"]);
    }
}
