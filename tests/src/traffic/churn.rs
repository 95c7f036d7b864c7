//! Short connections: each sends one request to a [`Behaviour::Echo`] server.

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

/// The size of a request and of its response, in bytes.
const SIZE: usize = 200;

/// The description of a series of short connections.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// How many are open at the same time.
    pub at_once: usize,
    /// How many connections to make in all; stopping makes fewer.
    pub count: usize,
    /// How long each of the [`Churn::at_once`] threads waits between connections.
    pub pause: Duration,
}

/// A running series of connections. Dropping it stops it.
#[derive(Debug)]
pub struct Churning {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Connections begun so far.
    begun: AtomicU64,
    /// Connections that ended well so far.
    served: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<Error>>,
}

/// The result of a series of connections.
#[derive(Debug)]
pub struct Churned {
    /// Connections that were opened, answered and closed.
    pub served: u64,
    /// Why the other connections failed.
    pub failures: Vec<Error>,
}

impl Churn {
    /// Describes `count` connections, six at a time, without pauses.
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
    /// Returns how many connections have been answered so far.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Relaxed)
    }

    /// Returns whether the last connection has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Opens no more connections and waits for those that are open.
    pub fn stop(self) -> Churned {
        self.shared.stop.store(true, Relaxed);
        self.finish()
    }

    /// Waits until the last connection has ended.
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
            // The thread ends with its connection; ignore a panic.
            let _ = thread.join();
        }
    }
}

impl Churned {
    /// Returns the number of connections if none failed.
    ///
    /// # Errors
    /// Some connections failed; the error contains the first failure.
    pub fn all(self) -> Result<u64> {
        let count = self.failures.len();
        match self.failures.into_iter().next() {
            None => Ok(self.served),
            Some(first) => bail!(first.context(format!("{count} connections failed, first"))),
        }
    }
}
