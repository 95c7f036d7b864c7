//! The header of results, which says where and when they were measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The place and the time of a group's measurement.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The commit that was checked out, in short.
    pub commit: String,
    /// The version that the measured agent reports.
    pub agent: String,
    /// The kernel's release.
    pub kernel: String,
    /// The number of CPUs that the benchmark could use.
    pub cores: usize,
    /// The name of the CPU.
    pub cpu: String,
    /// The day in UTC.
    pub date: String,
    /// Whether it was measured with `--quick`.
    pub quick: bool,
    /// How long it took.
    pub seconds: u64,
    /// Why the benchmark failed, if it did. What it measured before is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Header {
    /// Describes this machine and this moment.
    ///
    /// # Errors
    /// The agent's binary does not run.
    pub fn now(root: &Path, agent: &Path) -> Result<Self> {
        Ok(Self {
            // The results may be measured outside of a repository.
            commit: output(Command::new("git").current_dir(root).args([
                "describe",
                "--always",
                "--dirty",
                "--exclude=*",
            ]))
            .unwrap_or_else(|_| "unknown".to_owned()),
            agent: output(Command::new(agent).arg("--version"))?,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cores: available_parallelism().map_or(1, usize::from),
            cpu: cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            quick: false,
            seconds: 0,
            failed: None,
        })
    }

    /// Returns the header of a measurement that has ended, with how it went.
    pub fn after(&self, quick: bool, took: Duration, failed: Option<String>) -> Self {
        Self {
            quick,
            seconds: took.as_secs(),
            failed,
            ..self.clone()
        }
    }

    /// Returns a sentence for the documentation.
    pub fn sentence(&self) -> String {
        let how = if self.quick { " with `--quick`" } else { "" };
        let cores = match self.cores {
            1 => "one core".to_owned(),
            cores => format!("{cores} cores"),
        };
        format!(
            "Measured on {}{how}, on {cores} ({}) under Linux {}, with {}.",
            self.date, self.cpu, self.kernel, self.agent
        )
    }
}

/// Returns the name of the CPU in the text of /proc/cpuinfo.
fn cpu(text: &str) -> String {
    let named = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    };
    let name = text.lines().find_map(named);
    name.unwrap_or_else(|| "unknown CPU".to_owned())
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} ended with {}",
        program.display(),
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_a_name() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: A B\n"), "A B");
        assert_eq!(cpu("processor: 0"), "unknown CPU");
    }

    #[test]
    fn an_agent_that_cannot_run_is_an_error() {
        assert!(Header::now(Path::new("/"), Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn the_sentence_says_how_it_was_measured() {
        let header = Header {
            date: "2026-01-02".to_owned(),
            cores: 2,
            cpu: "X".to_owned(),
            kernel: "6.18".to_owned(),
            agent: "mptcp-agent 1 (commit a)".to_owned(),
            ..Header::default()
        };
        assert_eq!(
            header.after(true, Duration::ZERO, None).sentence(),
            "Measured on 2026-01-02 with `--quick`, on 2 cores (X) under Linux 6.18, with \
             mptcp-agent 1 (commit a)."
        );
    }
}
