//! Traffic over one connection, made by a thread of its own.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::Socket;

use crate::kernel::{self, SubflowInfo};

/// The state that the thread shares with the test.
pub trait Progress: Default + Send + Sync + 'static {
    /// Ends the traffic soon.
    fn stop(&self);

    /// Ends the traffic at once, because nobody waits for its result any more.
    fn abandon(&self) {
        self.stop();
    }
}

/// Running traffic. Dropping it stops it. The thread counts in `P` and
/// returns `R`.
#[derive(Debug)]
pub struct Running<P: Progress, R> {
    socket: Arc<Socket>,
    pub(super) progress: Arc<P>,
    thread: Option<JoinHandle<Result<R>>>,
}

impl<P: Progress, R: Send + 'static> Running<P, R> {
    /// Starts a thread that makes the traffic with `work`.
    pub(super) fn start(
        socket: Socket,
        work: impl FnOnce(&Socket, &P) -> Result<R> + Send + 'static,
    ) -> Self {
        let (socket, progress) = (Arc::new(socket), Arc::new(P::default()));
        let of_thread = (Arc::clone(&socket), Arc::clone(&progress));
        let thread = std::thread::spawn(move || work(&of_thread.0, &of_thread.1));
        Self {
            socket,
            progress,
            thread: Some(thread),
        }
    }
}

impl<P: Progress, R> Running<P, R> {
    /// Returns the connection's socket, for questions to the kernel.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Returns the current subflows, on the client's side.
    pub fn subflows(&self) -> Result<Vec<SubflowInfo>> {
        kernel::subflows(&self.socket)
    }

    /// Waits until the connection has at least `count` established subflows,
    /// including its first, and returns them.
    pub fn wait_for_subflows(&self, count: usize, within: Duration) -> Result<Vec<SubflowInfo>> {
        super::wait_for_subflows(&self.socket, count, within)
    }

    /// Stops soon and waits for the end: sends nothing more, and waits for a
    /// response only if that comes at once.
    pub fn stop(self) -> Result<R> {
        self.progress.stop();
        self.finish()
    }

    /// Waits until the traffic ends by itself.
    pub fn finish(mut self) -> Result<R> {
        let thread = self.thread.take().context("finished before")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<P: Progress, R> Drop for Running<P, R> {
    fn drop(&mut self) {
        self.progress.abandon();
        if let Some(thread) = self.thread.take() {
            // The thread ends soon, and nobody needs its result.
            let _ = thread.join();
        }
    }
}
