//! Connections that come and go: each asks a [`Behaviour::Echo`] server once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Error, Result, bail};

use super::{RequestResponse, lock};
use crate::host::Host;

#[cfg(doc)]
use super::Behaviour;

/// Bytes of the request, and of its response.
const SIZE: usize = 200;

/// Connections to be.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// How many are open at the same time.
    pub at_once: usize,
    /// How many in all; fewer if it is stopped.
    pub count: usize,
    /// How long each of [`Churn::at_once`] waits before its next.
    pub pause: Duration,
}

/// Connections under way; its drop stops them.
#[derive(Debug)]
pub struct Churning {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Begun so far.
    begun: AtomicU64,
    /// Ended well so far.
    served: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<Error>>,
}

/// What has come of them.
#[derive(Debug)]
pub struct Churned {
    /// Connections that were opened, answered and closed.
    pub served: u64,
    /// Why others were not.
    pub failures: Vec<Error>,
}

impl Churn {
    /// So many connections, six at a time, as fast as it goes.
    pub fn new(count: usize) -> Self {
        Self {
            at_once: 6,
            count,
            pause: Duration::ZERO,
        }
    }

    /// Starts to connect from `host` to `server`.
    pub fn start(&self, host: &Host, server: SocketAddr) -> Churning {
        let shared = Arc::new(Shared::default());
        let work = |_| {
            let (this, host, shared) = (*self, host.clone(), Arc::clone(&shared));
            std::thread::spawn(move || this.run(&host, server, &shared))
        };
        Churning {
            threads: (0..self.at_once).map(work).collect(),
            shared,
        }
    }

    fn run(&self, host: &Host, server: SocketAddr, shared: &Shared) {
        let ping = RequestResponse::new(SIZE, Duration::ZERO, 1);
        while !shared.stop.load(Relaxed) && shared.begun.fetch_add(1, Relaxed) < self.count as u64 {
            match ping.run_to_end(host, server) {
                Ok(_) => {
                    shared.served.fetch_add(1, Relaxed);
                }
                Err(error) => lock(&shared.failures).push(error),
            }
            std::thread::sleep(self.pause);
        }
    }
}

impl Churning {
    /// Connections that have been answered so far.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Relaxed)
    }

    /// Whether the last one is over.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Opens no more, and waits for those that are open.
    pub fn stop(self) -> Churned {
        self.shared.stop.store(true, Relaxed);
        self.finish()
    }

    /// Waits for the last one.
    pub fn finish(mut self) -> Churned {
        self.join();
        Churned {
            served: self.served(),
            failures: std::mem::take(&mut lock(&self.shared.failures)),
        }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Churning {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic has no taker; it ends with its connection.
            let _ = thread.join();
        }
    }
}

impl Churned {
    /// How many there were.
    ///
    /// # Errors
    /// Some failed; the first failure is in the error.
    pub fn all(self) -> Result<u64> {
        let count = self.failures.len();
        match self.failures.into_iter().next() {
            None => Ok(self.served),
            Some(first) => bail!(first.context(format!("{count} connections failed, first"))),
        }
    }
}
