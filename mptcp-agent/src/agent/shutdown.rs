//! The signals that the agent acts on: SIGINT and SIGTERM end it in good order,
//! SIGUSR2 does and leaves everything in place for the next agent, SIGHUP makes it
//! read its configuration anew, and never ends it.

use anyhow::{Context as _, Result};
use nix::sys::signal::{self as sys, SigHandler};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How the agent treats SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The agent was started with SIGHUP ignored, as `nohup` does. It stays
    /// ignored.
    StaysIgnored,
    /// The agent may handle it.
    Handled,
}

impl Hangup {
    /// Ignores SIGHUP until [`Signals::new`] handles it, so that one which
    /// arrives while the agent starts does not end it.
    ///
    /// # Errors
    /// The process cannot change how it treats signals.
    pub fn ignore() -> Result<Self> {
        // SAFETY: ignoring a signal runs no code of this process.
        let before = unsafe { sys::signal(sys::Signal::SIGHUP, SigHandler::SigIgn) };
        match before.context("cannot ignore SIGHUP")? {
            SigHandler::SigIgn => Ok(Self::StaysIgnored),
            _ => Ok(Self::Handled),
        }
    }
}

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// The one of this name, which ends the agent.
    Shutdown(&'static str),
    /// SIGUSR2, which ends the agent and leaves everything in place.
    Leave,
    /// SIGHUP.
    Hangup,
}

/// The handlers of SIGINT, SIGTERM, SIGUSR2 and, unless it stays ignored, SIGHUP.
///
/// From its creation on, none of these signals ends the process by itself, so
/// that nothing which was attached is left behind.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    leave: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Takes the signals over. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The process cannot handle signals.
    pub fn new(hangup: Hangup) -> Result<Self> {
        let handler = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: handler(SignalKind::interrupt())?,
            terminate: handler(SignalKind::terminate())?,
            leave: handler(SignalKind::user_defined2())?,
            hangup: match hangup {
                Hangup::StaysIgnored => None,
                Hangup::Handled => Some(handler(SignalKind::hangup())?),
            },
        })
    }

    /// Waits for a signal.
    pub async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.interrupt.recv() => Caught::Shutdown("SIGINT"),
            _ = self.terminate.recv() => Caught::Shutdown("SIGTERM"),
            _ = self.leave.recv() => Caught::Leave,
            () = received(self.hangup.as_mut()) => Caught::Hangup,
        }
    }
}

/// Waits for the signal, or for ever if it is not handled.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
