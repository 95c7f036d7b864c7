//! `cargo xtask lint`: checks the format, the rooms, the dependencies and the
//! documentation, and runs clippy in user space and for the eBPF target.

use anyhow::Result;

use crate::{dependencies, rooms};
use xtask::{
    build::{EBPF_TARGET, ebpf_target_dir},
    command::{self, Steps},
    machine::Machine,
    toolchain::{self, Toolchain},
    workspace::Workspace,
};

/// Runs `cargo xtask lint`.
pub fn run(machine: &Machine) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut steps = Steps::new(6);

    steps.next("format");
    command::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;

    steps.next("rooms");
    rooms::check(&workspace.sources)?;

    steps.next("dependencies");
    dependencies::check(&workspace)?;

    steps.next("clippy: user space");
    // Use the release profile: a build then reuses its build scripts and macros.
    command::run(
        workspace
            .cargo()
            .args([
                "clippy",
                "--locked",
                "--release",
                "--workspace",
                "--all-targets",
            ])
            .args(["--exclude", "mptcp-ebpf", "--", "-D", "warnings"]),
    )?;
    steps.done("ok");

    steps.next("documentation");
    command::run(
        workspace
            .cargo()
            .args(["doc", "--locked", "--release", "--workspace", "--no-deps"])
            .args(["--document-private-items", "--exclude", "mptcp-ebpf"])
            // Private items are documented too, so that links to them work.
            .env(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private_intra_doc_links",
            ),
    )?;
    steps.done("ok");

    let toolchain = prepare(machine, &workspace)?;
    steps.next(format_args!("clippy: eBPF, with {toolchain}"));
    command::run(
        toolchain
            .cargo_clippy(&workspace)
            .args(["clippy", "--locked", "--release", "-p", "mptcp-ebpf"])
            .args(["-Z", "build-std=core", "--target", EBPF_TARGET])
            .arg("--target-dir")
            .arg(ebpf_target_dir(&workspace))
            .args(["--", "-D", "warnings"]),
    )?;
    steps.done("ok");
    Ok(())
}

fn prepare(machine: &Machine, workspace: &Workspace) -> Result<Toolchain> {
    let Some(toolchain) = Toolchain::find() else {
        let needs = [Toolchain::need(), Toolchain::debian_clippy_need()];
        machine.supply(workspace, &needs)?;
        return toolchain::find_after_install();
    };
    let need: Vec<_> = toolchain.clippy_need().into_iter().collect();
    machine.supply(workspace, &need)?;
    Ok(toolchain)
}
