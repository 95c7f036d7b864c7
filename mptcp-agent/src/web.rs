//! TLS and passwords of HTTP: the file of `--web.config.file`.
//!
//! The format is that of the Prometheus exporter toolkit, so that one file serves
//! the agent and the exporters of a host.
//!
//! ```text
//!   file        the text: its keys, and the place of each value
//!   tls         certificate and key: what rustls needs
//!   passwords   users, and whether a request names one with the password
//! ```
//!
//! [`Web`] holds what the file says, and reads it anew when it or the files that
//! it names change. A file that is wrong changes nothing, and neither does one that
//! would take TLS or the passwords away: it may have been emptied or cut by mistake.

mod file;
mod passwords;
mod tls;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

pub use passwords::{Passwords, Verdict};

/// How often the agent looks whether the files have changed.
const LOOK: Duration = Duration::from_secs(2);

/// The most bytes of the file, and of each that it names.
const LONGEST: u64 = 1024 * 1024;

/// The settings of the file. Without a file there is neither TLS nor a password.
#[derive(Default)]
pub struct Settings {
    /// Makes TLS connections, if there is TLS.
    pub tls: Option<TlsAcceptor>,
    /// The users, if requests need a password.
    pub passwords: Option<Passwords>,
}

impl Settings {
    /// Returns what of these settings `fresh` would take away, if there is something.
    fn lost_by(&self, fresh: &Self) -> Option<&'static str> {
        let tls = self.tls.is_some() && fresh.tls.is_none();
        let passwords = self.passwords.is_some() && fresh.passwords.is_none();
        match (tls, passwords) {
            (true, true) => Some("TLS and the passwords"),
            (true, false) => Some("TLS"),
            (false, true) => Some("the passwords"),
            (false, false) => None,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("tls", &self.tls.is_some())
            .field("passwords", &self.passwords.is_some())
            .finish()
    }
}

/// The settings in force, as whoever serves HTTP sees them.
pub type InForce = watch::Receiver<Arc<Settings>>;

/// The settings in force, and where they come from.
#[derive(Debug)]
pub struct Web {
    path: Option<PathBuf>,
    settings: watch::Sender<Arc<Settings>>,
    stamp: Stamp,
}

impl Web {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It cannot be used; one line with the place and the reason.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let (settings, stamp) = read(path);
        let settings = settings?;
        Ok(Self {
            path: Some(path.to_owned()),
            settings: watch::Sender::new(Arc::new(settings)),
            stamp,
        })
    }

    /// Returns whether there is TLS or a password now.
    pub fn guards(&self) -> bool {
        let settings = self.settings.borrow();
        settings.tls.is_some() || settings.passwords.is_some()
    }

    /// Returns the settings in force, from now on.
    pub fn in_force(&self) -> InForce {
        self.settings.subscribe()
    }

    /// Reads the file anew when it has changed, or when `again` is notified. Never
    /// ends.
    pub async fn follow(mut self, again: Arc<Notify>) -> Result<()> {
        let Some(path) = self.path.clone() else {
            return std::future::pending().await;
        };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = looks.tick() => false,
                () = again.notified() => true,
            };
            let (own, before) = (path.clone(), self.stamp.clone());
            // A file system may take its time.
            let news = spawn_blocking(move || (asked || before.differs()).then(|| read(&own)));
            let Some((settings, stamp)) = news.await.context("cannot read files")? else {
                continue;
            };
            self.stamp = stamp;
            match settings {
                Ok(settings) => self.put_in_force(settings, &path),
                Err(error) => tracing::error!(
                    "the web configuration is not reloaded, what it said before holds: {error:#}"
                ),
            }
        }
    }

    /// Puts settings in force, unless they would take TLS or the passwords away.
    fn put_in_force(&self, mut fresh: Settings, path: &Path) {
        let before = Arc::clone(&self.settings.borrow());
        let lost = before.lost_by(&fresh);
        let file = path.display();
        if let Some(lost) = lost {
            tracing::warn!(
                "the web configuration is not reloaded, what it said before holds: {file} would \
                 take {lost} away from a running agent. If that is meant, restart the agent"
            );
            return;
        }
        if let (Some(fresh), Some(before)) = (&mut fresh.passwords, &before.passwords) {
            fresh.remember(before);
        }
        self.settings.send_replace(Arc::new(fresh));
        tracing::info!(%file, "read the web configuration anew");
    }
}

/// Reads the file, and those that it names. Returns their state as well, of as
/// many as are known.
fn read(path: &Path) -> (Result<Settings>, Stamp) {
    let mut stamp = Stamp::default();
    // The state comes first: a change while the file is read is seen later.
    stamp.note(path);
    let settings = file::read(path).and_then(|file| {
        file.paths().for_each(|path| stamp.note(path));
        file.settings()
    });
    (settings, stamp)
}

impl Default for Web {
    /// Returns what holds without a file.
    fn default() -> Self {
        Self {
            path: None,
            settings: watch::Sender::default(),
            stamp: Stamp::default(),
        }
    }
}

/// The states of files, which tell whether they have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stamp(Vec<(PathBuf, Option<State>)>);

/// Device, inode, size, and the time of the last change in seconds and nanoseconds.
type State = (u64, u64, u64, i64, i64);

impl Stamp {
    fn note(&mut self, path: &Path) {
        self.0.push((path.to_owned(), state(path)));
    }

    fn differs(&self) -> bool {
        self.0.iter().any(|(path, before)| state(path) != *before)
    }
}

fn state(path: &Path) -> Option<State> {
    let found = fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

#[cfg(test)]
mod tests;
