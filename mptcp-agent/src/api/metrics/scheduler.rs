//! The choices of the kernel's packet scheduler, and the subflows it chose
//! from.

use mptcp_common::abi::candidate;

use super::Families;
use crate::state::snapshot::Snapshot;

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let mut decisions = families.counter(
        "mptcp_scheduler_decisions_total",
        "Scheduling decisions that chose the path.",
    );
    for row in snapshot.traffic() {
        decisions.add_count(&[("path", &row.label)], row.stats.decisions);
    }
    let mut blocked = families.counter(
        "mptcp_scheduler_blocked_total",
        "Scheduling decisions for the path that sent nothing, since its send queue was full.",
    );
    for row in snapshot.traffic() {
        blocked.add_count(&[("path", &row.label)], row.stats.blocked);
    }
    let mut candidates = families.counter(
        "mptcp_scheduler_candidates_total",
        "Subflows of the path that scheduling decisions looked at, by what kept them out.",
    );
    for row in snapshot.traffic() {
        for (state, &count) in candidate::NAMES.iter().zip(&row.stats.candidates) {
            candidates.add_count(&[("path", &row.label), ("state", state)], count);
        }
    }
}
