//! The groups of benchmarks, and how one is run.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::flatten;
use super::results::Group;

/// A benchmark of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// The subcommand of `cargo xtask bench`.
    pub name: &'static str,
    /// About how many minutes it takes.
    pub minutes: u32,
    /// The same with `--quick`; `None` if it has no such flag.
    pub quick_minutes: Option<u32>,
}

/// All benchmarks. Those that take the least time come first.
pub const ALL: [Benchmark; 7] = [
    benchmark("live", 1, None),
    benchmark("hooks", 1, None),
    benchmark("scrape", 2, None),
    benchmark("redundant", 12, Some(3)),
    benchmark("reliability", 15, Some(3)),
    benchmark("weighted", 30, Some(5)),
    benchmark("traffic", 180, Some(12)),
];

const fn benchmark(name: &'static str, minutes: u32, quick_minutes: Option<u32>) -> Benchmark {
    Benchmark {
        name,
        minutes,
        quick_minutes,
    }
}

/// A benchmark, or some rows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The benchmark.
    pub benchmark: &'static Benchmark,
    /// Only rows with each of these words; all if there are none.
    pub words: String,
}

/// Returns the benchmarks that `only` names, each with words for its rows, or all.
///
/// # Errors
/// There is no benchmark of that name.
pub fn select(only: &[String]) -> Result<Vec<Selection>> {
    if only.is_empty() {
        let all = |benchmark| Selection {
            benchmark,
            words: String::new(),
        };
        return Ok(ALL.iter().map(all).collect());
    }
    let one = |text: &String| {
        let (name, words) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let Some(benchmark) = ALL.iter().find(|one| one.name == name) else {
            let names: Vec<&str> = ALL.iter().map(|one| one.name).collect();
            bail!(
                "there is no benchmark called {name:?}: --only takes one of {}, and words of its \
                 rows after it, as in --only \"redundant loss\"",
                names.join(", ")
            );
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        Ok(Selection {
            benchmark,
            words: words.join(" "),
        })
    };
    only.iter().map(one).collect()
}

/// The result of running a benchmark.
pub struct Run {
    /// The figures that were measured, even if the benchmark failed later.
    pub group: Option<Group>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Selection {
    /// Returns what to pass to `--only` to select this.
    pub fn title(&self) -> String {
        let title = format!("{} {}", self.benchmark.name, self.words);
        title.trim_end().to_owned()
    }

    /// Estimates how long it takes, if all rows are measured.
    pub fn minutes(&self, quick: bool) -> u32 {
        let minutes = self.benchmark.quick_minutes.filter(|_| quick);
        minutes.unwrap_or(self.benchmark.minutes)
    }

    /// Runs the benchmark in a process of its own, so that nothing that goes wrong
    /// there disturbs the others. Its raw figures are written to `directory`.
    pub fn run(&self, agent: &Path, quick: bool, directory: &Path) -> Run {
        let json = directory.join(format!("{}.json", self.benchmark.name));
        let started = Instant::now();
        let ended = self.start(agent, quick, &json);
        let took = started.elapsed();
        let group = || -> Result<Group> {
            let text = fs::read_to_string(&json).context("it has written no figures")?;
            flatten::group(&serde_json::from_str(&text)?)
        }();
        let (group, unread) = match group {
            Ok(group) => (Some(group), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let failed = ended.err().map(|error| format!("{error:#}")).or(unread);
        Run {
            group,
            failed,
            took,
        }
    }

    fn start(&self, agent: &Path, quick: bool, json: &Path) -> Result<()> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["bench", self.benchmark.name, "--json"]);
        command.arg(json).env("MPTCP_AGENT_BIN", agent);
        if quick && self.benchmark.quick_minutes.is_some() {
            command.arg("--quick");
        }
        if !self.words.is_empty() {
            command.args(["--only", &self.words]);
        }
        let status = command.status().context("cannot start it")?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_benchmarks_and_rows() -> Result<()> {
        let all = select(&[])?;
        assert_eq!(all.len(), ALL.len());
        let some = select(&["redundant  loss 30ms".to_owned(), "live".to_owned()])?;
        let titles: Vec<String> = some.iter().map(Selection::title).collect();
        assert_eq!(titles, ["redundant loss 30ms", "live"]);
        let unknown = select(&["wheighted".to_owned()]);
        let message = unknown.err().context("no error")?.to_string();
        assert!(message.contains("weighted, traffic"), "{message}");
        Ok(())
    }

    #[test]
    fn a_quick_run_of_all_takes_about_half_an_hour() -> Result<()> {
        let all = select(&[])?;
        let minutes: u32 = all.iter().map(|one| one.minutes(true)).sum();
        assert!(minutes <= 35, "{minutes}");
        Ok(())
    }
}
