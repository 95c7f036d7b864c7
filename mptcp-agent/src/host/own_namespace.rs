//! A network namespace for a unit test.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::skip::skip;

/// Moves the thread into a network namespace of its own, which ends with the
/// thread. Returns false, and skips the test, if this machine allows none.
pub fn enter() -> bool {
    let entered = unshare(CloneFlags::CLONE_NEWNET);
    if let Err(error) = entered {
        skip(&format!("only root may make a namespace: {error}"));
    }
    entered.is_ok()
}

/// Runs `ip` with these arguments.
///
/// # Panics
/// It cannot be run, or fails.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "{arguments}");
}
