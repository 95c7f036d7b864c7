//! `cargo xtask test`: runs the unit tests, then the end-to-end tests.

use std::env;

use anyhow::{Result, bail};

use crate::end_to_end;
use xtask::{
    build,
    command::{self, Steps},
    machine::Machine,
    tools,
    workspace::Workspace,
};

/// The message if a test run cannot be complete.
const NEED_ROOT: &str = "the end-to-end tests need root: they build network namespaces and load \
    eBPF programs. Run them with: sudo -E env \"PATH=$PATH\" cargo xtask test";

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Passed on to the test programs: a filter, or for example --nocapture
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Runs `cargo xtask test`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut steps = Steps::new(build::STEPS + 3);
    let built = build::agent(machine, &workspace, &mut steps)?;

    steps.next("commands that the tests use");
    let root = Machine::is_root();
    if root {
        tools::prepare(machine, &workspace)?;
    }

    steps.next("unit tests");
    let mut unit = built.cargo(&workspace);
    unit.env("PATH", tools::path(&workspace)?)
        .args([
            "test",
            "--locked",
            "--release",
            "--no-fail-fast",
            "--workspace",
        ])
        .args(["--exclude", "mptcp-ebpf", "--exclude", "mptcp-tests"])
        .arg("--")
        .args(&args.filter);
    let unit = command::run(&mut unit);
    steps.done(verdict(&unit));

    steps.next("end-to-end tests");
    let end_to_end = if root {
        let cargo = || {
            let mut cargo = built.cargo(&workspace);
            cargo
                .env("MPTCP_AGENT_BIN", &built.agent)
                .env("PATH", tools::path(&workspace)?);
            Ok(cargo)
        };
        end_to_end::run(cargo, &args.filter)
    } else if requires_all() {
        Err(anyhow::anyhow!("MPTCP_REQUIRE_ALL is set, and {NEED_ROOT}"))
    } else {
        eprintln!("      SKIPPED: {NEED_ROOT}");
        Ok(())
    };
    steps.done(verdict(&end_to_end));

    // Both kinds have run by now, so that one failure does not hide another.
    match (unit, end_to_end) {
        (Ok(()), Ok(())) if root => println!("all unit tests and end-to-end tests passed"),
        (Ok(()), Ok(())) => println!("all unit tests passed; the end-to-end tests did not run"),
        (Err(unit), Err(end_to_end)) => bail!("{unit}\n{end_to_end}"),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    }
    Ok(())
}

fn verdict(result: &Result<()>) -> &'static str {
    if result.is_ok() { "ok" } else { "FAILED" }
}

fn requires_all() -> bool {
    env::var_os("MPTCP_REQUIRE_ALL").is_some_and(|value| value == "1")
}
