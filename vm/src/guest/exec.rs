//! `mptcp-agent exec`: by BPF where the kernel has the function that this takes, and
//! by the preload library anywhere.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::loaded_programs;
use mptcp_lab::wait;

use super::checks::check;
use super::traffic::SOON;
use super::{AGENT, SOCKET};

/// The function that the BPF program is attached to.
const FUNCTION: &str = "update_socket_protocol";
/// The name of the BPF program.
const PROGRAM: &str = "mptcp_exec_sk";
const TCP: &str = "6";
const MPTCP: &str = "262";
/// The exit code of [`SOCKET`].
const CODE: u8 = 7;

/// Checks both ways.
pub fn all() {
    check("exec by preload", || {
        let mut program = Program::start("preload")?;
        ensure!(program.line()? == MPTCP, "no MPTCP");
        program.end(MPTCP)
    });
    check("exec by bpf", || {
        let symbols = fs::read_to_string("/proc/kallsyms")?;
        if !symbols.lines().any(|line| line.ends_with(FUNCTION)) {
            return refused();
        }
        bpf()
    });
}

/// [`SOCKET`] under `exec`.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(way: &str) -> Result<Self> {
        let mut child = Command::new(AGENT)
            .args(["exec", "--way", way, "--", SOCKET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no pipe")?;
        Ok(Self {
            child,
            stdout: BufReader::new(stdout),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Lets the program end, which must print `last` before.
    fn end(mut self, last: &str) -> Result<String> {
        drop(self.child.stdin.take());
        let line = self.line()?;
        ensure!(line == last, "at last a socket has the protocol {line:?}");
        let status = self.child.wait()?;
        ensure!(status.code() == Some(CODE.into()), "{status}");
        // Nobody else holds the pipe, or this would wait.
        ensure!(self.line()?.is_empty(), "more output");
        Ok("MPTCP, and the program's own exit code".to_owned())
    }
}

/// Checks that a kernel without the function is refused, by name.
fn refused() -> Result<String> {
    let output = Command::new(AGENT)
        .args(["exec", "--way", "bpf", "--", SOCKET])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(125), "{}", output.status);
    ensure!(said.contains(&format!("no {FUNCTION}")), "{said}");
    ensure!(groups()?.is_empty(), "{:?} are left", groups()?);
    Ok(format!("refused: {}", said.trim()))
}

/// Checks that only the program has MPTCP, and that nothing is left of it.
fn bpf() -> Result<String> {
    let mut first = Program::start("bpf")?;
    let mut second = Program::start("bpf")?;
    for program in [&mut first, &mut second] {
        let line = program.line()?;
        ensure!(line == MPTCP, "a socket has the protocol {line:?}");
    }
    let other = Command::new(SOCKET).stdin(Stdio::null()).output()?;
    let seen = String::from_utf8_lossy(&other.stdout).into_owned();
    ensure!(seen == format!("{TCP}\n{TCP}\n"), "outside: {seen:?}");
    let found = (groups()?.len(), loaded()?);
    ensure!(found == (2, 2), "{found:?} cgroups and programs");
    first.end(MPTCP)?;
    wait_for(1)?;
    let seen = second.end(MPTCP)?;
    wait_for(0)?;
    Ok(seen + " for that cgroup alone; nothing is left")
}

/// Waits until so many cgroups and programs are there.
fn wait_for(count: usize) -> Result<()> {
    wait::try_until("cgroups and programs", SOON, || {
        match (groups(), loaded()) {
            (Ok(groups), Ok(loaded)) if (groups.len(), loaded) == (count, count) => Ok(()),
            other => Err(other),
        }
    })
}

/// Returns the cgroups that `exec` has made.
fn groups() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/fs/cgroup")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("mptcp-agent-exec-") {
            found.push(name);
        }
    }
    Ok(found)
}

/// Returns how many of the programs of `exec` are loaded.
fn loaded() -> Result<usize> {
    let mut count = 0;
    for program in loaded_programs() {
        match program {
            Ok(program) if program.name_as_str() == Some(PROGRAM) => count += 1,
            Ok(_) => {}
            Err(error) => bail!("cannot list programs: {error}"),
        }
    }
    Ok(count)
}
