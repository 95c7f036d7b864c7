//! The agent in the guest: starts it, and reads its log and its metrics.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::AGENT;
use super::traffic::SOON;

const LISTEN: &str = "127.0.0.1:8684";
const LOG: &str = "/tmp/agent.log";

/// How long the verifier may take for all programs, refusals included.
pub const READY: Duration = Duration::from_secs(300);
/// How many lines from the end of the verifier's log to print.
const VERIFIER_LINES: usize = 40;

/// A running agent.
pub struct Agent {
    child: Child,
    /// How long the agent took to be ready.
    pub load_time: Duration,
}

/// Removes what a killed agent has left, and returns a short description of it.
pub fn cleanup() -> Result<String> {
    let output = Command::new(AGENT).arg("cleanup").output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && said.contains("removed 2 attached programs"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let left = fs::read_dir("/sys/fs/bpf/mptcp-agent").is_ok();
    ensure!(!left, "something is still pinned");
    Ok("two programs and their maps".to_owned())
}

/// A line of the agent's attach table.
pub struct Hook {
    /// The hook's name.
    pub name: String,
    /// Instructions that the verifier walked through; 0 if unknown.
    pub instructions: u64,
    /// Why it is not attached.
    pub refusal: Option<String>,
}

impl Agent {
    /// Starts the agent with a policy, and waits until it is ready.
    pub fn start(policy: &[&str]) -> Result<Self> {
        let mut command = Command::new(AGENT);
        command
            .args(["run", "--listen", LISTEN, "--log-format", "json"])
            .arg("--policy")
            .args(policy)
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stderr(File::create(LOG)?);
        let started = Instant::now();
        let mut child = command.spawn().context("start the agent")?;
        let ready = wait::try_until("the agent to be ready", READY, || {
            if log().iter().any(|line| line["message"] == "ready") {
                Ok(true)
            } else if matches!(child.try_wait(), Ok(None)) {
                Err(())
            } else {
                Ok(false)
            }
        });
        let agent = Self {
            child,
            load_time: started.elapsed(),
        };
        if !ready? {
            let last = log().pop().unwrap_or_default();
            bail!("the agent has ended: {}", words(&last["message"]));
        }
        Ok(agent)
    }

    /// Returns the agent's attach table.
    pub fn hooks(&self) -> Vec<Hook> {
        let verified = self.verified().unwrap_or_default();
        let mut hooks: Vec<Hook> = log()
            .iter()
            .filter(|line| line["message"] == "hook")
            .map(|line| Hook {
                name: words(&line["program"]),
                instructions: 0,
                refusal: (line["attached"] != true).then(|| words(&line["reason"])),
            })
            .collect();
        for hook in &mut hooks {
            let found = verified.iter().find(|(program, _)| {
                // The kernel may have truncated the program's name.
                program.ends_with(&hook.name) || hook.name.starts_with(program.as_str())
            });
            hook.instructions = found.map_or(0, |(_, &count)| count);
        }
        hooks
    }

    /// Returns how many subflows older than the agent it adopted, and refused.
    pub fn adopted(&self) -> [u64; 2] {
        let log = log();
        let sum = |field| log.iter().filter_map(|line| line[field].as_u64()).max();
        ["adopted", "refused"].map(|field| sum(field).unwrap_or(0))
    }

    /// Reads the agent's metrics.
    pub fn scrape(&self) -> Result<Metrics> {
        let mut stream = TcpStream::connect(LISTEN)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").context("no answer")?.1;
        Metrics::parse(body)
    }

    /// Ends the agent with SIGKILL, as the kernel does when memory runs out.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends the agent with SIGINT, as an operator does.
    pub fn stop(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        wait::try_until("the agent to end", SOON, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        })
    }

    /// Returns the instructions that the verifier walked through, by program. A
    /// program's symbol gives its name and its tag; its file descriptor gives the
    /// tag and the number.
    fn verified(&self) -> Result<BTreeMap<String, u64>> {
        let mut by_tag = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            let info = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name| {
                let mut lines = info.lines().filter_map(|line| line.split_once(":\t"));
                lines
                    .find(|(field, _)| *field == name)
                    .map(|(_, value)| value)
            };
            if let (Some(tag), Some(count)) = (field("prog_tag"), field("verified_insns")) {
                by_tag.insert(tag.to_owned(), count.parse()?);
            }
        }
        let symbols = fs::read_to_string("/proc/kallsyms")?;
        let programs = symbols.split_whitespace().filter_map(|symbol| {
            let (tag, name) = symbol.strip_prefix("bpf_prog_")?.split_once('_')?;
            Some((name.to_owned(), *by_tag.get(tag)?))
        });
        Ok(programs.collect())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Ignore errors: both calls fail if the agent has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints the complaints of the agent and of the verifier.
pub fn print_complaints() {
    for line in log() {
        let text = words(&line["message"]);
        if let Some(log) = text.strip_prefix("verifier log:\n") {
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(VERIFIER_LINES)..];
            println!("--- the end of the verifier's log\n{}", tail.join("\n"));
        } else if line["level"] == "WARN" || line["level"] == "ERROR" {
            println!("--- {line}");
        }
    }
}

fn log() -> Vec<Value> {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    // Skip the last line if it is not complete yet.
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
