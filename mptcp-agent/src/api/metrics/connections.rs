//! Connections of the network namespace.

use mptcp_common::abi::side;

use super::Families;
use crate::state::snapshot::Snapshot;

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let totals = &snapshot.totals;
    families
        .gauge("mptcp_connections", "MPTCP connections that are open.")
        .add_count(&[], totals.connections);
    let mut opened = families.counter(
        "mptcp_connections_opened_total",
        "MPTCP connections opened, by this host's side.",
    );
    opened.add_count(
        &[("side", "client")],
        totals.opened[usize::from(side::CLIENT)],
    );
    opened.add_count(
        &[("side", "server")],
        totals.opened[usize::from(side::SERVER)],
    );
    families
        .counter(
            "mptcp_connections_closed_total",
            "MPTCP connections closed.",
        )
        .add_count(&[], totals.closed);
}
