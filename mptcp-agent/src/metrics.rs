//! What Prometheus gets.
//!
//! A [`Snapshot`] goes in, the text format comes out; each concern describes
//! its own families. Pure: no IO, so every name and value is tested without a
//! kernel.

mod agent;
mod connections;
mod families;
mod kernel_events;
mod path;
mod policy;
mod redundant;
mod scheduler;
mod snapshot;

pub use redundant::{CopyRow, RedundantRows};
pub use snapshot::{PathRow, ProgramRow, Snapshot};

use families::Families;

/// The snapshot in the text format.
///
/// # Errors
/// Only on a programming error: the encoder refuses what Prometheus would.
pub fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    let mut families = Families::default();
    connections::describe(snapshot, &mut families);
    path::describe(snapshot, &mut families);
    scheduler::describe(snapshot, &mut families);
    policy::describe(snapshot, &mut families);
    redundant::describe(snapshot, &mut families);
    kernel_events::describe(snapshot, &mut families);
    agent::describe(snapshot, &mut families);
    families.encode()
}

#[cfg(test)]
mod tests;
