//! Tells one boot of the host from another.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Returns the kernel's name of the time since the last boot; an empty text if it
/// does not tell.
pub fn id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Returns when the host was booted, by the present clock, in seconds since 1970.
pub fn time() -> Option<i64> {
    let up = clock_gettime(ClockId::Boottime);
    let up = Duration::new(up.tv_sec.try_into().ok()?, 0);
    let booted = SystemTime::now().checked_sub(up)?;
    let since = booted.duration_since(UNIX_EPOCH).ok()?;
    since.as_secs().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_was_booted_before_now() {
        assert_eq!(id(), id());
        assert!(!id().contains(char::is_whitespace));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        assert!(time().is_some_and(|booted| booted <= now));
    }
}
