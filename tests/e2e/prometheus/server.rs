//! Debian's Prometheus on a host of the lab, with the example and the rules of
//! `deploy/prometheus`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use mptcp_lab::{Host, Process, agent, wait};
use serde_json::Value;
use tempfile::TempDir;

use crate::SETTLE;
use crate::deployed::{deployed, each};

/// Where it listens, in its own namespace.
const ADDRESS: &str = "127.0.0.1:9090";

/// A running Prometheus. Dropping it ends it, and removes its series.
pub(super) struct Prometheus {
    host: Host,
    address: SocketAddr,
    process: Process,
    directory: TempDir,
}

/// A series of an answer: its labels, and its value now.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: Value,
    pub(super) value: f64,
}

impl Prometheus {
    /// Starts Prometheus, and waits until it has scraped `agent` twice. It does each
    /// second what the example does every 15 seconds.
    ///
    /// # Errors
    /// It ends, or takes too long; the error has its log.
    pub(super) fn start(host: &Host, agent: SocketAddr) -> Result<Self> {
        let directory = TempDir::new()?;
        for rules in ["recording.yml", "alerts.yml"] {
            let from = deployed("prometheus").join(rules);
            fs::copy(&from, directory.path().join(rules)).context("copy the rules")?;
        }
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, example(agent)?)?;
        let log = File::create(directory.path().join("log"))?;
        let mut command = host.command("prometheus");
        command
            .arg(option("config.file", &config))
            .arg(option("storage.tsdb.path", &directory.path().join("data")))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let prometheus = Self {
            host: host.clone(),
            address: ADDRESS.parse()?,
            process: host.spawn(&mut command)?,
            directory,
        };
        prometheus
            .wait_for("count_over_time(up[1m]) >= 2 and up == 1")
            .with_context(|| format!("Prometheus said:\n{}", prometheus.log()))?;
        Ok(prometheus)
    }

    /// Returns what Prometheus has logged.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log"));
        log.unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
    }

    /// Asks Prometheus' API for `path`, such as `rules`.
    ///
    /// # Errors
    /// It does not answer, or with an error, which names the mistake.
    pub(super) fn api(&self, path: &str) -> Result<Value> {
        let answer = self
            .host
            .in_ns(|| agent::get(self.address, &format!("/api/v1/{path}")))?;
        let mut answer: Value = serde_json::from_str(&answer)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].take())
    }

    /// Returns the series that a PromQL expression gives now.
    ///
    /// # Errors
    /// As [`Prometheus::api`]; or the expression gives no series, but a number.
    pub(super) fn query(&self, expression: &str) -> Result<Vec<Series>> {
        let answer = self
            .api(&format!("query?query={}", encoded(expression)))
            .with_context(|| format!("query {expression}"))?;
        ensure!(answer["resultType"] == "vector", "{expression}: {answer}");
        let series = each(&answer["result"]).map(|one| {
            let value = one["value"][1].as_str().context("no value")?;
            Ok(Series {
                labels: one["metric"].clone(),
                value: value.parse()?,
            })
        });
        series.collect()
    }

    /// Returns the value of an expression that gives one series.
    pub(super) fn value(&self, expression: &str) -> Result<f64> {
        match &self.query(expression)?[..] {
            [one] => Ok(one.value),
            other => bail!("{expression} gives {other:?}"),
        }
    }

    /// Waits until an expression gives a series, and returns all that it gives.
    ///
    /// # Errors
    /// It gives none for long; the error says what was seen last.
    pub(super) fn wait_for(&self, expression: &str) -> Result<Vec<Series>> {
        wait::try_until(expression, SETTLE, || {
            ensure_running(&self.process).map_err(|error| error.to_string())?;
            match self.query(expression) {
                Ok(series) if !series.is_empty() => Ok(series),
                other => Err(format!("{other:?}")),
            }
        })
    }
}

fn ensure_running(process: &Process) -> Result<()> {
    ensure!(process.is_running(), "Prometheus has ended");
    Ok(())
}

fn option(name: &str, file: &Path) -> String {
    format!("--{name}={}", file.display())
}

/// Returns the example, for this agent and with an interval of a second.
fn example(agent: SocketAddr) -> Result<String> {
    let mut text = fs::read_to_string(deployed("prometheus/prometheus.yml"))?;
    for (from, to) in [
        ("interval: 15s", "interval: 1s".to_owned()),
        ("scrape_timeout: 10s", "scrape_timeout: 1s".to_owned()),
        ("127.0.0.1:8684", agent.to_string()),
    ] {
        ensure!(text.contains(from), "the example has no {from:?}:\n{text}");
        text = text.replace(from, &to);
    }
    Ok(text)
}

/// Encodes a parameter of a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
