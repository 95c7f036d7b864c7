//! The metrics for Prometheus.
//!
//! Renders a [`Snapshot`] in the text format; each submodule describes its own
//! families. Pure: it does no IO, so every name and value can be tested without
//! a kernel.

mod agent;
mod connections;
mod families;
mod kernel_events;
mod path;
mod peering;
mod policy;
mod quota;
mod redundant;
mod rules;
mod scheduler;

use crate::state::snapshot::Snapshot;
use families::Families;

/// Renders the snapshot in the text format.
///
/// # Errors
/// Only after a programming error: the encoder refuses what Prometheus would
/// refuse.
pub fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    let mut families = Families::default();
    connections::describe(snapshot, &mut families);
    path::describe(snapshot, &mut families);
    scheduler::describe(snapshot, &mut families);
    policy::describe(snapshot, &mut families);
    rules::describe(snapshot, &mut families);
    quota::describe(snapshot, &mut families);
    redundant::describe(snapshot, &mut families);
    peering::describe(snapshot, &mut families);
    kernel_events::describe(snapshot, &mut families);
    agent::describe(snapshot, &mut families);
    families.encode()
}

#[cfg(test)]
mod tests;
