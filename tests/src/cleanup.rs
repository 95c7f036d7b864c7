//! Actions that undo what a lab did: each runs once, when its guard is dropped
//! (also while a panic unwinds) or when the process gets SIGINT, SIGTERM or
//! SIGHUP, whichever comes first. After SIGKILL nothing runs; the next
//! [`Lab::new`](crate::Lab::new) sweeps what is left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

type Action = Box<dyn FnOnce() + Send>;

static ACTIONS: Mutex<BTreeMap<u64, Action>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static HANDLER: Once = Once::new();
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The exit status of a process that a signal ended after its clean-up.
const EXIT_INTERRUPTED: i32 = 130;

/// Runs an action once, at the latest when it is dropped.
#[derive(Debug)]
#[must_use = "dropping a Cleanup runs its action at once"]
pub struct Cleanup(u64);

impl Cleanup {
    /// Registers `action`, and with the first one the signal handler (unless
    /// the program has set one of its own; that one should call [`run_all`]).
    pub fn new(action: impl FnOnce() + Send + 'static) -> Self {
        HANDLER.call_once(|| {
            // Also where the signals are ignored, as a shell's background jobs
            // find SIGINT: else nothing would be cleaned up.
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

/// Runs every action that is still to run, the newest first.
pub fn run_all() {
    while let Some((_, action)) = { locked().pop_last() } {
        action();
    }
}

/// Returns only if no signal has come: after one, the handler is about to end
/// the process, and whatever fails meanwhile fails because of that.
pub fn rest_if_interrupted() {
    while INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::park();
    }
}

fn locked() -> MutexGuard<'static, BTreeMap<u64, Action>> {
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
