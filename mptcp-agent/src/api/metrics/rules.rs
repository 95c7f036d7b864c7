//! The policies beside the default one, and the rules.

use super::Families;
use crate::state::snapshot::Snapshot;

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let rules = &snapshot.rules;
    let mut connections = families.gauge(
        "mptcp_policy_connections",
        "Connections that are open, by the policy that rules have given them.",
    );
    for (policy, count) in rules.connections() {
        connections.add_count(&[("policy", policy)], count);
    }
}
