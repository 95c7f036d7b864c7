//! `cargo xtask screenshots`: makes the pictures of the documentation. A test does it,
//! in the lab and with a real browser, so that they show what the agent does.

use anyhow::{Result, ensure};

use xtask::{
    build,
    command::{self, Steps},
    machine::Machine,
    tools,
    workspace::Workspace,
};

/// The test that makes them.
const TEST: &str = "page::screenshots::of_the_page";

/// Runs `cargo xtask screenshots`.
///
/// # Errors
/// It is not run as root, or the build or the test fails.
pub fn run(machine: &Machine) -> Result<()> {
    ensure!(
        Machine::is_root(),
        "screenshots need root: the lab builds network namespaces and loads eBPF programs"
    );
    let workspace = Workspace::find()?;
    let mut steps = Steps::new(build::STEPS + 2);
    let built = build::agent(machine, &workspace, &mut steps)?;
    steps.next("commands that the tests use");
    tools::prepare(machine, &workspace)?;
    steps.next("screenshots");
    let mut cargo = built.cargo(&workspace);
    cargo
        .env("MPTCP_AGENT_BIN", &built.agent)
        .env("MPTCP_REQUIRE_ALL", "1")
        .env("PATH", tools::path(&workspace)?)
        .args(["test", "--locked", "--release", "-p", "mptcp-tests"])
        .args(["--test", "e2e", "--", "--ignored", "--exact", TEST]);
    command::run(&mut cargo)?;
    println!("the pictures are in docs/images");
    Ok(())
}
