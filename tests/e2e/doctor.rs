//! `mptcp-agent doctor`: each test makes a fault, sees it reported, runs the
//! command that the report prints, and sees the fault gone.
//!
//! Where the report names no command (its line begins with `#`, since the fault
//! is another host's or takes a boot), the test takes the cause away itself.

mod agent;
mod connections;
mod counters;
mod endpoints;
mod kernel;
mod paths;
mod programs;
mod settings;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use mptcp_lab::{Host, Lab, Process, wait};
use serde_json::Value;

use crate::SETTLE;
use crate::support::{failure_of, require_agent};

/// The exit code of wrong arguments.
const USAGE: i32 = 64;

/// A host whose doctor is asked, and a shell on it.
struct Patient {
    _shell: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The words of the command.
    doctor: String,
}

/// The finding of a check.
#[derive(Clone, Debug, PartialEq)]
struct Check {
    name: String,
    result: String,
    seen: String,
    mend: String,
}

impl Patient {
    /// Takes a shell on the host.
    fn new(host: &Host, binary: &Path) -> Result<Self> {
        Self::with(host, binary, host.command("sh"))
    }

    /// Takes a shell with mounts and processes of its own.
    fn contained(host: &Host, binary: &Path) -> Result<Self> {
        let mut command = host.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh"]);
        Self::with(host, binary, command)
    }

    fn with(host: &Host, binary: &Path, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let shell = host.spawn(&mut command)?;
        let (stdin, stdout) = shell.with_child(|child| (child.stdin.take(), child.stdout.take()));
        Ok(Self {
            _shell: shell,
            stdin: stdin.context("no pipe")?,
            stdout: BufReader::new(stdout.context("no pipe")?),
            doctor: format!("{} doctor", binary.display()),
        })
    }

    /// Runs a script in the shell, and returns its exit code and its output.
    fn run(&mut self, script: &str) -> Result<(i32, String)> {
        const END: &str = "end of the script:";
        writeln!(
            self.stdin,
            "sh <<'SCRIPT'\n{script}\nSCRIPT\necho \"{END} $?\""
        )?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            ensure!(self.stdout.read_line(&mut line)? > 0, "the shell ended");
            if let Some(code) = line.strip_prefix(END) {
                return Ok((code.trim().parse()?, said));
            }
            said += &line;
        }
    }

    /// Runs a script that must succeed.
    fn does(&mut self, script: &str) -> Result<()> {
        let (code, said) = self.run(script)?;
        ensure!(code == 0, "{script}: {code}: {said}");
        Ok(())
    }

    /// Asks the doctor. Checks that the sums and the exit code fit the findings.
    fn findings(&mut self) -> Result<Vec<Check>> {
        let (code, said) = self.run(&format!("{} --json", self.doctor.clone()))?;
        let report: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let checks: Vec<Check> = report["checks"]
            .as_array()
            .context("no checks")?
            .iter()
            .map(|check| Check {
                name: text(&check["name"]),
                result: text(&check["result"]),
                seen: text(&check["seen"]),
                mend: text(&check["mend"]),
            })
            .collect();
        let count = |result: &str| checks.iter().filter(|one| one.result == result).count();
        let (problems, warnings) = (count("problem"), count("warning"));
        assert_eq!(report["problems"], problems, "{said}");
        assert_eq!(report["warnings"], warnings, "{said}");
        let expected = match (problems, warnings) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        };
        assert_eq!(code, expected, "{said}");
        for check in &checks {
            let bad = ["warning", "problem"].contains(&check.result.as_str());
            assert_eq!(bad, !check.mend.is_empty(), "{check:?}");
            assert!(
                !check.seen.is_empty() && !check.seen.contains('\n'),
                "{check:?}"
            );
        }
        Ok(checks)
    }

    fn finding(&mut self, name: &str) -> Result<Check> {
        let mut findings = self.findings()?.into_iter();
        let found = findings.find(|check| check.name == name);
        found.with_context(|| format!("there is no check {name}"))
    }

    /// Waits until a check has this result, and returns it.
    fn until(&mut self, name: &str, result: &str) -> Result<Check> {
        let what = format!("{name} to be {result}");
        wait::try_until(&what, SETTLE, || match self.finding(name) {
            Ok(check) if check.result == result => Ok(check),
            other => Err(other),
        })
    }

    fn is_well(&mut self, name: &str) -> Result<()> {
        self.until(name, "ok").map(drop)
    }

    /// Sees a fault reported, with these words. Runs what the report prints, which
    /// must be these commands, and sees the fault gone.
    fn is_mended(&mut self, name: &str, result: &str, seen: &[&str], mend: &str) -> Result<()> {
        let check = self.until(name, result)?;
        for word in seen {
            assert!(check.seen.contains(word), "{word}: {check:?}");
        }
        assert_eq!(check.mend, mend);
        self.does(&check.mend)?;
        self.is_well(name)
    }

    /// Sees a fault reported, with these words, for which the report names no
    /// command of this host.
    fn is_told(&mut self, name: &str, result: &str, seen: &[&str], mend: &str) -> Result<()> {
        let check = self.until(name, result)?;
        for word in seen {
            assert!(check.seen.contains(word), "{word}: {check:?}");
        }
        assert!(check.mend.starts_with('#'), "{check:?}");
        assert!(check.mend.contains(mend), "{check:?}");
        // Pasted into a shell it does nothing.
        self.does(&check.mend)
    }
}

/// Returns whether bpftool is there, which the reports name to detach programs.
fn bpftool() -> bool {
    mptcp_lab::require::tool("bpftool")
}

#[test]
fn a_host_in_order_has_no_findings_and_wrong_arguments_are_told() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = crate::support::two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let findings = patient.findings()?;
    assert!(findings.len() >= 20, "{findings:?}");
    for check in &findings {
        // Without a file to look at, lockdown is unknown.
        let expected = match check.name.as_str() {
            "lockdown" => &["ok", "unknown"][..],
            _ => &["ok"],
        };
        assert!(expected.contains(&check.result.as_str()), "{check:?}");
    }
    let (code, text) = patient.run(&patient.doctor.clone())?;
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.lines().count(), findings.len() + 1, "{text}");

    let long = format!("--control /{}", "x".repeat(200));
    for (arguments, expected) in [
        ("--nonsense", "--nonsense"),
        ("nonsense", "nonsense"),
        ("--cgroup /tmp", "cgroup2"),
        ("--cgroup /nonexistent", "No such file"),
        (long.as_str(), "too long"),
    ] {
        let mut command = net.client.command(PathBuf::from(&binary));
        command.arg("doctor").args(arguments.split(' '));
        let line = failure_of(&net.client, &mut command)?;
        assert!(line.contains(expected), "{arguments}: {line}");
        let (code, _) = patient.run(&format!("{} {arguments} 2>/dev/null", patient.doctor))?;
        assert_eq!(code, USAGE, "{arguments}");
    }
    Ok(())
}

#[test]
fn a_user_without_rights_gets_what_can_be_seen() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = crate::support::two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    patient.doctor = format!("setpriv --reuid=65534 --clear-groups {}", patient.doctor);
    for check in patient.findings()? {
        let unseen = [
            "sockops-exclusive",
            "sockops-beside",
            "tc-order",
            "lockdown",
        ];
        match unseen.contains(&check.name.as_str()) {
            true => assert!(
                ["unknown", "ok"].contains(&check.result.as_str()),
                "{check:?}"
            ),
            false => assert_ne!(check.result, "unknown", "{check:?}"),
        }
    }
    net.client.sysctl("net.ipv4.tcp_timestamps", "0")?;
    let check = patient.until("timestamps", "warning")?;
    assert_eq!(check.mend, "sysctl -w net.ipv4.tcp_timestamps=1");
    Ok(())
}
