//! Tells systemd that the agent is ready, alive, reloading or ending: sd_notify(3).
//! Without `NOTIFY_SOCKET` in the environment, as outside of a unit of type
//! notify, nothing is sent.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The part of the watchdog's time after which the agent says that it is alive.
const PART: u32 = 4;

/// Tells a service manager what the agent's loop does.
#[derive(Debug, Default)]
pub struct Systemd {
    /// The time between two signs of life; `None` if nobody waits for them.
    period: Option<Duration>,
    last: Option<Instant>,
    status: String,
}

impl Systemd {
    /// Looks for who wants to be told, in the environment.
    pub fn new() -> Self {
        Self {
            period: sd_notify::watchdog_enabled().map(|within| within / PART),
            ..Self::default()
        }
    }

    /// Says that everything is in place.
    pub fn ready(&mut self, status: String) {
        send(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// Says what the agent does, if that has changed.
    pub fn status(&mut self, status: String) {
        if self.status != status {
            send(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Says that the loop is alive, if that is due.
    pub fn beat(&mut self, now: Instant) {
        if self.is_due(now) {
            self.last = Some(now);
            send(&[NotifyState::Watchdog]);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let waited = |last| now.saturating_duration_since(last);
        let long_ago = |period| self.last.is_none_or(|last| waited(last) >= period);
        self.period.is_some_and(long_ago)
    }
}

/// Says that the configuration is being read anew. [`reloaded`] has to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("cannot read the clock: {error}"),
    }
}

/// Says that what was read is in force, or that it was refused.
pub fn reloaded() {
    send(&[NotifyState::Ready]);
}

/// Says that the agent ends, and what it still does.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn send(state: &[NotifyState<'_>]) {
    // A service manager that cannot be reached is no reason to stop: it ends the
    // agent if it misses it.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_four_times_as_often_as_they_have_to() {
        let start = Instant::now();
        let mut systemd = Systemd {
            period: Some(Duration::from_secs(2)),
            ..Systemd::default()
        };
        assert!(systemd.is_due(start));
        systemd.last = Some(start);
        assert!(!systemd.is_due(start + Duration::from_millis(1999)));
        assert!(systemd.is_due(start + Duration::from_secs(2)));
        assert!(!Systemd::default().is_due(start));
    }
}
