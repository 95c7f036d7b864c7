//! Writes events, which are changes of state, to the ring buffer. Counts the
//! events that do not fit.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use mptcp_common::abi::{Event, Subflow};

use crate::shared::entry::Entry;
use crate::shared::maps::{EVENTS, add, totals};

/// Tells user space that `kind` happened to a subflow in its map. If that is its
/// end, `ending` holds the reason in its lowest byte, and what is known of a
/// reset in the next.
#[inline(always)]
pub fn subflow_event(kind: u8, ending: u32, cookie: u64, token: u32, subflow: Entry) {
    emit_subflow(kind, ending, cookie, token, subflow.as_ptr());
}

/// Does the work of [`subflow_event`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn emit_subflow(
    kind: u8,
    ending: u32,
    cookie: u64,
    token: u32,
    subflow: *const Subflow,
) -> u32 {
    if subflow.is_null() {
        return 0;
    }
    // SAFETY: a map value, read word by word.
    unsafe {
        emit(Event {
            connection: (*subflow).connection,
            cookie,
            sent_bytes: (*subflow).sent_bytes,
            acked_bytes: (*subflow).acked_bytes,
            received_bytes: (*subflow).received_bytes,
            opened_ns: (*subflow).opened_ns,
            token,
            path: (*subflow).path,
            tuple: (*subflow).tuple,
            kind,
            reason: ending as u8,
            reset: (ending >> 8) as u8,
            ifindex: (*subflow).ifindex,
            ..Event::default()
        })
    }
}

/// Tells user space that `kind` happened to a path of a connection.
#[inline(always)]
pub fn path_event(kind: u8, connection: u64, token: u32, path: u32) {
    emit_path(kind, connection, token, path);
}

/// Does the work of [`path_event`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn emit_path(kind: u8, connection: u64, token: u32, path: u32) -> u32 {
    emit(Event {
        connection,
        token,
        path,
        kind,
        ..Event::default()
    })
}

/// Writes an event with the time of now. Returns 1, or 0 if the ring buffer is
/// full.
#[inline(always)]
fn emit(event: Event) -> u32 {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        totals(|totals| add(&totals.events_lost, 1));
        return 0;
    };
    totals(|totals| {
        if let Some(count) = totals.events.get(usize::from(event.kind).wrapping_sub(1)) {
            add(count, 1);
        }
    });
    entry.write(Event {
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
        ..event
    });
    entry.submit(0);
    1
}
