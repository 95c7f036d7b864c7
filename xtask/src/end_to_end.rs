//! Runs the end-to-end tests: first those that can share the machine, three at a
//! time, then those that need it for themselves. A test that fails runs once
//! more, alone, and the second result counts: on a machine with other load,
//! timing within milliseconds may be disturbed once.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use xtask::command;

/// The module of the tests that need the machine for themselves.
const ALONE: &str = "alone::";

/// If more tests than this fail, the reason is not a disturbance, and none runs
/// again.
const MAX_AGAIN: usize = 4;

/// Runs the tests that `filter` names, or all. `cargo` returns a cargo command
/// with the environment of the tests.
///
/// # Errors
/// Tests failed, or cargo did.
pub fn run(cargo: impl Fn() -> Result<Command>, filter: &[String]) -> Result<()> {
    let test = |what: &[&str]| -> Result<Command> {
        let mut cargo = cargo()?;
        cargo
            .args(["test", "--locked", "--release", "--no-fail-fast"])
            .args(["-p", "mptcp-tests"])
            .args(what);
        Ok(cargo)
    };
    if !filter.is_empty() {
        let mut one = test(&["--", "--test-threads=1"])?;
        return command::run(one.args(filter));
    }
    command::run(&mut test(&["--lib"])?)?;
    command::run(&mut test(&["--doc"])?)?;
    let mut failed = Vec::new();
    for how in [
        ["--test-threads=3", "--skip", ALONE].as_slice(),
        ["--test-threads=1", ALONE].as_slice(),
    ] {
        let mut tests = test(&["--test", "e2e", "--"])?;
        failed.extend(failures(tests.args(how))?);
    }
    if failed.is_empty() {
        return Ok(());
    }
    if failed.len() > MAX_AGAIN {
        bail!("{} tests failed: {}", failed.len(), failed.join(", "));
    }
    eprintln!("      failed: {}; running again, alone", failed.join(", "));
    let mut again = test(&["--test", "e2e", "--", "--test-threads=1", "--exact"])?;
    let still = failures(again.args(&failed))?;
    if !still.is_empty() {
        bail!("failed twice: {}", still.join(", "));
    }
    eprintln!(
        "      UNSTABLE, passed when run again: {}",
        failed.join(", ")
    );
    Ok(())
}

/// Runs a test program, shows its output and returns the names of the tests
/// that failed.
///
/// # Errors
/// The program failed without naming a test, or ended before all tests had run.
fn failures(tests: &mut Command) -> Result<Vec<String>> {
    let mut child = tests
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("no pipe")?;
    let (mut failed, mut finished) = (Vec::new(), false);
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the tests print")?;
        println!("{line}");
        failed.extend(failed_test(&line).map(str::to_owned));
        finished |= line.starts_with("test result: ");
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() && (failed.is_empty() || !finished) {
        bail!("{status} from the end-to-end tests, which did not all run");
    }
    Ok(failed)
}

/// Returns the test that a line of a test program reports as failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_of_tests_are_failures() {
        let of = failed_test;
        assert_eq!(
            of("test weights::by_device ... FAILED"),
            Some("weights::by_device")
        );
        assert_eq!(of("test weights::by_device ... ok"), None);
        assert_eq!(of("test result: FAILED. 1 passed; 1 failed"), None);
        assert_eq!(of("    weights::by_device"), None);
    }

    fn shell(script: &str) -> Result<Vec<String>> {
        failures(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_program_that_fails_early_or_without_naming_a_test_is_an_error() {
        assert!(shell("exit 101").is_err());
        assert!(shell("echo 'test a::b ... FAILED'; exit 101").is_err());
        let failed =
            shell("echo 'test a::b ... FAILED'; echo 'test result: FAILED. 0 passed'; exit 101");
        assert_eq!(failed.ok(), Some(vec!["a::b".to_owned()]));
        assert_eq!(shell("echo 'test a::b ... ok'").ok(), Some(Vec::new()));
    }
}
