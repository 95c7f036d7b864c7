//! Waiting for something to become true, instead of sleeping and hoping.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a wait sleeps between two probes.
const POLL: Duration = Duration::from_millis(5);

/// Calls `probe` until it returns `Ok`, and returns that value. `Err` carries
/// what was seen instead.
///
/// # Panics
/// After `within`, naming `what` and the last thing seen.
#[track_caller]
pub fn until<T, S: Debug>(what: &str, within: Duration, probe: impl FnMut() -> Result<T, S>) -> T {
    match poll(within, probe) {
        Ok(value) => value,
        Err(seen) => panic!("waited {within:?} for {what}; last seen: {seen:?}"),
    }
}

/// Calls `probe` until it returns `true`.
///
/// # Panics
/// After `within`, naming `what`.
#[track_caller]
pub fn until_true(what: &str, within: Duration, mut probe: impl FnMut() -> bool) {
    until(what, within, || if probe() { Ok(()) } else { Err(false) });
}

/// Waits until `value` has stayed the same for the time `steady`, and returns
/// it.
///
/// # Panics
/// After `within`, naming `what` and the last value.
#[track_caller]
pub fn until_steady<T: PartialEq + Debug>(
    what: &str,
    within: Duration,
    steady: Duration,
    mut value: impl FnMut() -> T,
) -> T {
    let (mut last, mut since) = (value(), Instant::now());
    until(what, within, || {
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
            return Err(format!("{last:?}"));
        }
        if since.elapsed() >= steady {
            Ok(())
        } else {
            Err(format!("{last:?}"))
        }
    });
    last
}

/// Like [`until`], but returns an error after `within` instead of a panic.
pub fn try_until<T, S: Debug>(
    what: &str,
    within: Duration,
    probe: impl FnMut() -> Result<T, S>,
) -> Result<T> {
    match poll(within, probe) {
        Ok(value) => Ok(value),
        Err(seen) => bail!("waited {within:?} for {what}; last seen: {seen:?}"),
    }
}

/// Probes at least once, and once more after the deadline has passed.
fn poll<T, S>(within: Duration, mut probe: impl FnMut() -> Result<T, S>) -> Result<T, S> {
    let deadline = Instant::now() + within;
    loop {
        let late = Instant::now() >= deadline;
        match probe() {
            Err(_) if !late => std::thread::sleep(POLL),
            last => return last,
        }
    }
}
