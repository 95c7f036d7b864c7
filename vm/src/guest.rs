//! Inside the virtual machine: this program is the first process, and the
//! machine ends with it.

mod agent;
mod checks;
mod exec;
mod hosts;
mod subflows;
mod traffic;

use std::ffi::CStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

use xtask::cross::Arch;

use crate::platform::Platform;
use crate::report;

/// The verb that only a guest uses.
pub const VERB: &str = "vm-guest";
/// The path of this program in the initramfs.
pub const INIT: &str = "/bin/mptcp-vm";
/// The path of the agent.
pub const AGENT: &str = "/bin/mptcp-agent";
/// The path of the program that shows what a TCP socket is.
pub const SOCKET: &str = "/bin/mptcp-vm-socket";
/// The path of iproute2's `ip`.
pub const IP: &str = "/sbin/ip";
/// The path of iproute2's `tc`.
pub const TC: &str = "/sbin/tc";
/// The paths of kmod, which acts according to its name. The guest starts the
/// first, the kernel the second.
pub const KMOD: [&str; 2] = ["/sbin/depmod", "/sbin/modprobe"];
/// The directories that the initramfs must also have.
pub const DIRECTORIES: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/tmp", "/var"];

/// Runs the checks in the guest.
pub fn run() -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "only `cargo xtask vm` uses this verb"
    );
    let limit = Platform::of(Arch::own()?).limit;
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        report::send_check("in time", false, &format!("not finished after {limit:?}"));
        reboot(RebootCommand::PowerOff)
    });
    match set_up().and_then(|()| checks::all()) {
        Ok(()) => report::send_done(),
        Err(error) => report::send_check("all checks made", false, &format!("{error:#}")),
    }
    Ok(reboot(RebootCommand::PowerOff)?)
}

fn set_up() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("securityfs", "/sys/kernel/security"),
        ("devtmpfs", "/dev"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        mount(kind, place, kind, MountFlags::empty(), None::<&CStr>)
            .with_context(|| format!("mount {kind} on {place}"))?;
    }
    // iproute2 keeps the names of network namespaces in /var/run.
    symlink("/run", "/var/run")?;
    // depmod makes the list in which the kernel finds its modules.
    command(KMOD[0], "")?;
    ip("link set lo up")?;
    ip(&format!("address add {}/8 dev lo", traffic::OTHER))?;
    ip("mptcp limits set subflows 2 add_addr_accepted 2")?;
    ip(&format!(
        "mptcp endpoint add {} dev lo subflow",
        traffic::OTHER
    ))
}

fn ip(words: &str) -> Result<()> {
    command(IP, words)
}

fn command(program: &str, words: &str) -> Result<()> {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output();
    let output = output.with_context(|| format!("start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {words}: {}",
        said.trim()
    );
    Ok(())
}

/// Returns the kernel's complaints since it was booted.
fn complaints() -> Result<Vec<String>> {
    let mut log = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open("/dev/kmsg")?;
    let (mut found, mut record) = (Vec::new(), [0; 8192]);
    // Each call reads one record. At the end a blocking call would wait.
    while let Ok(count) = log.read(&mut record) {
        let text = String::from_utf8_lossy(&record[..count]);
        let first = text.lines().next().unwrap_or_default();
        let words = ["WARNING:", "BUG:", "Oops"];
        if words.iter().any(|word| first.contains(word)) {
            let text = first.split_once(';').map_or(first, |(_, text)| text);
            found.push(text.to_owned());
        }
    }
    Ok(found)
}
