//! The requirements of a test on the machine. A test that cannot run says so on
//! the real standard error (the test harness does not capture it) and returns.
//! With `MPTCP_REQUIRE_ALL=1` in the environment the test fails instead.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::process;

/// Returns from the test with a message, unless the condition holds:
/// `require!(require::tun(), "delay links need /dev/net/tun")`. For tests that
/// return `()` or a `Result<(), _>`.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            $crate::require::skip(module_path!(), line!(), &format!($($why)+));
            return $crate::require::Skipped::skipped();
        }
    };
}

/// Returns from the test with a message, unless this machine can run a
/// [`Lab`](crate::Lab) with any kind of path.
#[macro_export]
macro_rules! require_lab {
    () => {
        if let Err(why) = $crate::require::lab() {
            $crate::require::skip(module_path!(), line!(), &why);
            return $crate::require::Skipped::skipped();
        }
    };
}

/// A return type of tests that may be skipped.
pub trait Skipped {
    /// Returns the value of a test that passed.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Prints why a test does not run, or fails it under `MPTCP_REQUIRE_ALL=1`.
///
/// # Panics
/// If `MPTCP_REQUIRE_ALL` is `1`.
pub fn skip(module: &str, line: u32, why: &str) {
    let everything = std::env::var("MPTCP_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(
        !everything,
        "MPTCP_REQUIRE_ALL=1, but {module} (line {line}) cannot run: {why}"
    );
    // The harness would swallow the output of eprintln! if the test passes.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED: {module} (line {line}): {why}\n"
    );
}

/// Checks the requirements of a lab with any kind of path; the error says which
/// one is missing.
pub fn lab() -> Result<(), String> {
    hosts()?;
    if !tun() {
        return Err("needs /dev/net/tun for paths with a delay".to_owned());
    }
    tools(&["nft"])
}

/// Checks the requirements of a lab whose paths have no delay; the error says
/// which one is missing.
pub fn hosts() -> Result<(), String> {
    if !root() {
        return Err("needs root".to_owned());
    }
    if !mptcp() {
        return Err("needs a kernel with MPTCP (net.mptcp.enabled)".to_owned());
    }
    tools(&["ip", "tc"])
}

fn tools(names: &[&str]) -> Result<(), String> {
    match names.iter().find(|name| !tool(name)) {
        Some(name) => Err(format!("needs the program `{name}`")),
        None => Ok(()),
    }
}

/// Returns whether this process is root.
pub fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Returns whether the kernel has MPTCP.
pub fn mptcp() -> bool {
    Path::new("/proc/sys/net/mptcp/enabled").exists()
}

/// Returns whether TUN devices can be made.
pub fn tun() -> bool {
    Path::new("/dev/net/tun").exists()
}

/// Returns whether the program `name` can be started.
pub fn tool(name: &str) -> bool {
    let version = if name == "nft" { "--version" } else { "-V" };
    let mut command = process::command(name);
    command
        .arg(version)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}
