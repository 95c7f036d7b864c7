//! Writes events, which are changes of state, to the ring buffer. Counts the
//! events that do not fit.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mptcp_common::abi::{Event, Subflow};

use crate::shared::maps::{EVENTS, add, totals};

/// Tells user space that `kind` happened to a subflow.
#[inline(always)]
pub fn subflow_event(kind: u8, reason: u8, cookie: u64, token: u32, subflow: &Subflow) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        totals(|totals| add(&mut totals.events_lost, 1));
        return;
    };
    totals(|totals| {
        if let Some(count) = totals.events.get_mut(usize::from(kind).wrapping_sub(1)) {
            add(count, 1);
        }
    });
    entry.write(Event {
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
        connection: subflow.connection,
        cookie,
        sent_bytes: subflow.sent_bytes,
        acked_bytes: subflow.acked_bytes,
        received_bytes: subflow.received_bytes,
        token,
        path: subflow.path,
        tuple: subflow.tuple,
        kind,
        reason,
        reserved: [0; 2],
        ifindex: subflow.ifindex,
    });
    entry.submit(0);
}

/// Tells user space that `kind` happened to a path of a connection.
#[inline(always)]
pub fn path_event(kind: u8, connection: u64, token: u32, path: u32) {
    let subflow = Subflow {
        connection,
        path,
        ..Subflow::default()
    };
    subflow_event(kind, 0, 0, token, &subflow);
}
