//! The rows of several tables. Each row is printed as soon as it is measured,
//! and all rows are counted.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::cleanup;
use serde_json::{Value, json};

/// Selects the rows to measure, and the file for their figures.
#[derive(Default, clap::Args)]
pub struct Choice {
    /// Only rows that have each of these words, such as --only thin, or
    /// "100+50 4:1 bbr", "blackout 30ms p2", "upgrade killed"
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub only: String,
    /// Write all figures to a file as well
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

impl Choice {
    /// Returns whether the row called `row` is chosen.
    pub fn wants(&self, row: &impl ToString) -> bool {
        let row = row.to_string();
        self.only.split_whitespace().all(|word| row.contains(word))
    }

    /// # Errors
    /// There are no rows.
    pub fn ensure_any(&self, rows: usize) -> Result<()> {
        ensure!(rows > 0, "no row has all of these words: {}", self.only);
        Ok(())
    }

    /// Writes the figures to the file, if one is named.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, figures: &Value) -> Result<()> {
        if let Some(path) = &self.json {
            std::fs::write(path, format!("{figures:#}\n"))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// A row that was measured.
pub struct Outcome {
    /// The line to print.
    pub line: String,
    /// Whether the row meets its target; `None` without a target.
    pub ok: Option<bool>,
    /// The figures for the file.
    pub json: Value,
}

/// The results of the rows so far.
#[derive(Default)]
pub struct Results {
    ok: usize,
    over: usize,
    broken: usize,
    json: Vec<Value>,
}

impl Results {
    /// Prints the result of a row, and counts it.
    pub fn add(&mut self, label: &str, outcome: Result<Outcome>) {
        match outcome {
            Ok(outcome) => {
                println!("{}", outcome.line);
                self.ok += usize::from(outcome.ok == Some(true));
                self.over += usize::from(outcome.ok == Some(false));
                self.json.push(named(label, outcome.json));
            }
            Err(error) => {
                cleanup::rest_if_interrupted();
                let why = format!("{error:#}");
                println!("{label}  BROKEN: {why}");
                self.broken += 1;
                let row = json!({ "row": label, "broken": why });
                self.json.push(named(label, row));
            }
        }
    }

    /// Writes all figures to the file, if one is named, and prints a summary.
    ///
    /// # Errors
    /// A row broke, or the file cannot be written.
    pub fn finish(&self, choice: &Choice) -> Result<()> {
        let Self {
            ok,
            over,
            broken,
            json,
        } = self;
        choice.write(&json!({ "rows": json }))?;
        println!("\n{ok} rows within the targets, {over} over, {broken} broken");
        ensure!(*broken == 0, "{broken} rows broke");
        Ok(())
    }
}

/// Adds a row's full name to its figures. No other row of a run has that name.
pub fn named(label: &str, mut row: Value) -> Value {
    let words: Vec<&str> = label.split_whitespace().collect();
    if let Value::Object(figures) = &mut row {
        figures.insert("name".to_owned(), words.join(" ").into());
    }
    row
}

/// Works on all items at the same time, and returns the results in their order.
pub fn together<I: Send, T: Send>(items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let spawn = |item| scope.spawn(move || work(item));
        let threads: Vec<_> = items.into_iter().map(spawn).collect();
        let join = |thread: std::thread::ScopedJoinHandle<T>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
