//! `cargo xtask dist --check`: what was built does what an operator expects.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::debian::{self, Packing};
use super::guest::Guest;
use super::leftovers::Files;
use super::release::Release;
use xtask::command;
use xtask::cross::Arch;
use xtask::machine::Machine;
use xtask::tools;
use xtask::workspace::Workspace;

/// Programs that the check needs, with their packages.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("lintian", &["lintian"]),
    ("mmdebstrap", &["mmdebstrap"]),
    ("nsenter", &["util-linux"]),
];

const CONFIG: &str = "/etc/mptcp-agent/config.toml";
const LIBRARY: &str = "/usr/lib/mptcp-agent/libmptcp-preload.so";
const UNIT: &str = "mptcp-agent.service";

/// The most resident memory of an agent without connections, KiB. The aim is
/// 16 MiB; the rest allows for another allocator state or kernel.
const RESIDENT_KIB: u64 = 18 * 1024;

/// Checks the package: lintian finds nothing; in a chroot it installs and purges
/// and starts nothing; on a booted Debian the agent runs at once and observes, an
/// upgrade replaces it and keeps the configuration, and a purge leaves nothing.
///
/// # Errors
/// One of these is not so, or this machine cannot tell.
pub fn run(
    machine: &Machine,
    workspace: &Workspace,
    release: &Release,
    package: &Path,
) -> Result<()> {
    ensure!(
        Machine::is_root(),
        "the check installs the package into a Debian of its own, which takes root"
    );
    tools::from_debian(
        machine,
        workspace,
        "it checks the Debian package",
        &PROGRAMS,
    )?;
    lintian(package)?;
    let next = workspace.target.join("release/package");
    let version = format!("{}+next", release.debian);
    let next = debian::build(
        machine,
        workspace,
        &version,
        &next,
        Packing::Fast,
        Arch::own()?,
    )?;

    let mut guest = Guest::fresh(workspace)?;
    for file in [package, &next] {
        guest.give(file)?;
    }
    let before = Files::of(&guest.root)?;
    in_a_chroot(&guest, package, &before)?;
    eprintln!("      installed and purged in a chroot: nothing was started, nothing is left");
    guest.boot()?;
    on_a_host(&guest, package, &next, &before)
}

/// Checks what was built for another architecture, as far as this machine can: lintian
/// finds nothing, and the agent starts in an emulator of the other's programs.
///
/// # Errors
/// One of these is not so, or this machine cannot tell.
pub fn elsewhere(
    machine: &Machine,
    workspace: &Workspace,
    arch: Arch,
    package: &Path,
    agent: Option<&Path>,
) -> Result<()> {
    let emulator = format!("qemu-{}-static", arch.name());
    let programs: [(&str, &'static [&'static str]); 2] = [
        ("lintian", &["lintian"]),
        (&emulator, &["qemu-user-static"]),
    ];
    tools::from_debian(machine, workspace, "it checks what was built", &programs)?;
    lintian(package)?;
    let Some(agent) = agent else {
        return Ok(());
    };
    let config = agent.with_file_name("config.toml");
    for arguments in [
        &["--version"][..],
        &["config", "check", &*config.to_string_lossy()],
    ] {
        let mut emulated = Command::new(&emulator);
        command::run(emulated.arg(agent).args(arguments))
            .with_context(|| format!("the agent for {} does not run", arch.name()))?;
    }
    Ok(())
}

fn lintian(package: &Path) -> Result<()> {
    let lintian = ["--allow-root", "--fail-on=error,warning", "--info"];
    command::run(Command::new("lintian").args(lintian).arg(package))
}

/// Installs a package that was given to the guest.
fn install(guest: &Guest, package: &Path) -> Result<()> {
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    guest.run(&format!("dpkg --install /{name} 2>&1"))?;
    Ok(())
}

fn in_a_chroot(guest: &Guest, package: &Path, before: &Files) -> Result<()> {
    install(guest, package)?;
    guest.run(&format!("mptcp-agent config check {CONFIG}"))?;
    let started = guest.root.join("run/mptcp-agent");
    ensure!(
        !started.exists(),
        "the installation into a chroot has started the agent: {} exists",
        started.display()
    );
    guest.run("dpkg --purge mptcp-agent")?;
    nothing_is_left(guest, before)
}

fn on_a_host(guest: &Guest, package: &Path, next: &Path, before: &Files) -> Result<()> {
    install(guest, package)?;
    let status = status(guest)?;
    let policy = &status["policy"]["policy"]["name"];
    ensure!(
        policy == "default",
        "a fresh install must only observe, but its policy is {policy}: {status}"
    );
    ensure!(
        status["agent"]["outlived"] == true,
        "the programs of a fresh install would not outlive their agent: {status}"
    );
    let way = guest.run("mptcp-agent exec --way preload -- true 2>&1")?;
    ensure!(
        way.contains(LIBRARY),
        "`exec` does not use the installed library {LIBRARY}: {way}"
    );
    let (first, kept) = (main_pid(guest)?, pins(guest)?);
    let memory = resident_kib(guest, first)?;
    eprintln!("      installed on a host: the agent runs, and observes ({memory} KiB resident)");
    ensure!(
        memory <= RESIDENT_KIB,
        "an agent without connections has {memory} KiB of resident memory, and may have \
         {RESIDENT_KIB}"
    );

    guest.run(&format!("echo '# of the operator' >> {CONFIG}"))?;
    install(guest, next)?;
    guest.wait(&format!(
        "test $(systemctl show -P MainPID {UNIT}) != {first}; systemctl is-active {UNIT}"
    ))?;
    self::status(guest)?;
    let second = main_pid(guest)?;
    // The unit has mounts of its own, in which the program has another name.
    guest
        .run(&format!("test /proc/{second}/exe -ef /usr/bin/mptcp-agent"))
        .context("after the upgrade, the agent that runs is not the installed one")?;
    let same = pins(guest)?;
    ensure!(
        same == kept,
        "the agent after the upgrade does not go on with the maps of the earlier one: {kept} \
         before, {same} after"
    );
    guest.run(&format!("grep -q 'of the operator' {CONFIG}"))?;
    eprintln!("      upgraded: the new agent goes on with the maps of the earlier one");

    guest.run("dpkg --remove mptcp-agent")?;
    guest.run(&format!(
        "test -f {CONFIG}; ! systemctl is-active --quiet {UNIT}"
    ))?;
    guest.run("dpkg --purge mptcp-agent")?;
    nothing_is_left(guest, before)?;
    let left = guest.run("find /sys/fs/bpf -mindepth 1 -type d; ls /run | grep mptcp || true")?;
    ensure!(
        left.is_empty(),
        "the purge has left in the kernel or in /run: {left}"
    );
    eprintln!("      removed and purged: nothing is left");
    Ok(())
}

/// Returns the identity of the directory with the agent's pinned maps. An agent
/// that stops for good removes it.
fn pins(guest: &Guest) -> Result<String> {
    guest.run("stat --format='%i %n' /sys/fs/bpf/mptcp-agent/*/abi-*")
}

/// Waits for the agent, and returns what `status --json` says.
fn status(guest: &Guest) -> Result<Value> {
    let text = guest.wait(&format!(
        "systemctl is-active --quiet {UNIT}; mptcp-agent status --json"
    ))?;
    serde_json::from_str(&text).with_context(|| format!("`status --json` printed {text}"))
}

fn main_pid(guest: &Guest) -> Result<u32> {
    let text = guest.run(&format!("systemctl show -P MainPID {UNIT}"))?;
    text.parse()
        .with_context(|| format!("systemd names no process of {UNIT}: {text}"))
}

/// Returns the resident memory of a process of the guest, KiB.
fn resident_kib(guest: &Guest, process: u32) -> Result<u64> {
    let line = guest.run(&format!("grep VmRSS /proc/{process}/status"))?;
    let number = line.split_whitespace().nth(1);
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no resident memory in {line:?}"))
}

fn nothing_is_left(guest: &Guest, before: &Files) -> Result<()> {
    let after = Files::of(&guest.root)?;
    let left = after.since(before);
    ensure!(left.is_empty(), "the purge has left {left:?}");
    Ok(())
}
