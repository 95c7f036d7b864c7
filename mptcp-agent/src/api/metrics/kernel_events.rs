//! The kernel's own counters.

use super::Families;
use crate::state::snapshot::Snapshot;

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let mut events = families.counter(
        "mptcp_kernel_events_total",
        "What the kernel counted (a choice of MPTcpExt in /proc/net/netstat).",
    );
    for &(event, count) in &snapshot.kernel_events {
        events.add_count(&[("event", event)], count);
    }
}
