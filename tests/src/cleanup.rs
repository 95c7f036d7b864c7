//! Actions that undo what a lab did. Each runs once: when its guard is dropped
//! (also while a panic unwinds), or when the process gets SIGINT, SIGTERM or
//! SIGHUP, whichever comes first. After SIGKILL no action runs; the next
//! [`Lab::new`](crate::Lab::new) removes what is left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

type Action = Box<dyn FnOnce() + Send>;

static ACTIONS: Mutex<BTreeMap<u64, Action>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static HANDLER: Once = Once::new();
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The exit status after a signal, once the clean-up is done.
const EXIT_INTERRUPTED: i32 = 130;

/// A guard that runs its action once, at the latest when it is dropped.
#[derive(Debug)]
#[must_use = "dropping a Cleanup runs its action at once"]
pub struct Cleanup(u64);

impl Cleanup {
    /// Registers `action`. The first call also installs the signal handler, unless
    /// the program has its own; that handler should then call [`run_all`].
    pub fn new(action: impl FnOnce() + Send + 'static) -> Self {
        HANDLER.call_once(|| {
            // This also replaces "ignore", which a shell sets for SIGINT in its
            // background jobs: otherwise nothing would be cleaned up.
            let set = ctrlc::set_handler(|| {
                INTERRUPTED.store(true, Ordering::Relaxed);
                run_all();
                std::process::exit(EXIT_INTERRUPTED);
            });
            if let Err(error) = set {
                eprintln!("lab: the program's own signal handler stays: {error}");
            }
        });
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        locked().insert(id, Box::new(action));
        Self(id)
    }

    /// Runs the action now.
    pub fn now(self) {}
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let action = locked().remove(&self.0);
        if let Some(action) = action {
            action();
        }
    }
}

/// Runs every action that has not run yet, the newest first.
pub fn run_all() {
    while let Some((_, action)) = { locked().pop_last() } {
        action();
    }
}

/// Blocks for ever if a signal has arrived; otherwise returns at once. After a
/// signal the handler is about to end the process, and any failure in the
/// meantime is only a consequence of that.
pub fn rest_if_interrupted() {
    while INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::park();
    }
}

fn locked() -> MutexGuard<'static, BTreeMap<u64, Action>> {
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
