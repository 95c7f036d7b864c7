//! The overflow policy: what its controller is told, and what it decides.
//!
//! Everything that has many states is in global functions, of which the hooks
//! see one number each.

use mptcp_common::{
    abi::{Connection, event_kind},
    controller::{
        HELD_OUT, Limits, MAX_SLOTS, NO_CAP,
        overflow::{Look, Overflow, Phase},
    },
};

use crate::policy::weighted::{turns, weigh_all};
use crate::shared::emit::path_event;
use crate::shared::entry::Entry;
use crate::shared::global::any;
use crate::shared::socket::Socket;

/// About the payload of a full-size segment.
const SEGMENT: u32 = 1448;

/// Less than this is no queue that would show that data waits, whatever the
/// window.
const SHORT_QUEUE: u32 = 32_768;

/// Set in an argument beside the number of a slot: data waits.
const WAITS: u32 = 1 << 16;

/// Results of [`overflow_verdict`].
const HOLD_OUT: u32 = 1;
const MAY_REST: u32 = 2;

/// Tells the controller what a callback found, and runs a step if one is due.
#[inline(always)]
pub fn look(socket: Socket, connection: &Connection, subflow: Entry, now_ns: u64) {
    let (_, unassigned) = socket.given();
    let queued = socket.queued();
    // Written without branches, which the verifier would follow.
    let window = (subflow.cwnd() & 0xffff) * SEGMENT;
    let waits = u32::from(unassigned) | u32::from(queued > window.max(SHORT_QUEUE));
    let place = u32::from(subflow.slot()) + waits * WAITS;
    overflow_look(connection, subflow.connection(), now_ns, place, queued);
}

/// Runs a step if one is due, for a connection whose subflows may all be idle.
/// Returns 1 if paths of more than one weight are let in, else 0.
#[inline(always)]
pub fn visit(connection: &Connection, subflow: Entry, now_ns: u64) -> u32 {
    any(overflow_look(
        connection,
        subflow.connection(),
        now_ns,
        0,
        0,
    ))
}

/// Returns the limits of a subflow that has a slot.
#[inline(always)]
pub fn limits(connection: &Connection, subflow: Entry) -> Limits {
    let verdict = any(overflow_verdict(connection, u32::from(subflow.slot())));
    // `HELD_OUT` is 0, so a product does without a branch.
    const _: () = assert!(HELD_OUT == 0);
    Limits {
        cap: NO_CAP * (1 - (verdict & HOLD_OUT)),
        lowat: 0,
    }
}

/// Returns whether a subflow that has a slot needs no look while it is quiet.
#[inline(always)]
pub fn may_rest(connection: &Connection, subflow: Entry) -> bool {
    any(overflow_verdict(connection, u32::from(subflow.slot()))) & MAY_REST != 0
}

/// Does the work of [`look`] and [`visit`]. `place` is the number of a slot, which
/// is its index plus one (0: no subflow was looked at), and [`WAITS`]. A global
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn overflow_look(
    connection: *const Connection,
    key: u64,
    now_ns: u64,
    place: u32,
    queued: u32,
) -> u32 {
    // SAFETY: null, or a map value, of which only atomic fields are used here.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    let (controller, overflow) = (&connection.controller, &connection.overflow);
    let index = (place & !WAITS).wrapping_sub(1) as usize;
    if index < MAX_SLOTS
        && let Some(slot) = controller.slots.get(index & (MAX_SLOTS - 1))
    {
        let look = Look {
            queued: u64::from(queued),
            waits: place & WAITS != 0,
        };
        overflow.look(index, slot, look, now_ns);
    }
    if controller.claim_step(now_ns).is_some() {
        weigh_all(connection);
        let done = overflow.step_with(now_ns, |phase, index| {
            overflow_count(connection, phase as u64, index as u64, now_ns);
        });
        report(connection, key, done);
    }
    u32::from(overflow.least.get() != 0)
}

/// Does the work of [`Overflow::count`] in the phase of this number. A global
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn overflow_count(
    connection: *const Connection,
    phase: u64,
    index: u64,
    now_ns: u64,
) -> u32 {
    // SAFETY: as in `overflow_look`.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    let index = index as usize & (MAX_SLOTS - 1);
    if let Some(slot) = connection.controller.slots.get(index) {
        let phase = Phase::from_number(phase);
        connection.overflow.count(phase, index, slot, now_ns);
    }
    0
}

/// Emits the events that follow from a step, which returned `done`.
#[inline(always)]
fn report(connection: &Connection, key: u64, done: u32) {
    let token = connection.token.get() as u32;
    turns(connection, key);
    if done == Overflow::NONE {
        return;
    }
    let kind = if done == Overflow::LET_IN {
        event_kind::PATH_LET_IN
    } else {
        event_kind::PATH_HELD_OUT
    };
    for slot in &connection.controller.slots {
        if slot.open() && slot.weight.get() == connection.overflow.moved.get() {
            let path = slot.path.get().wrapping_sub(1) as u32;
            path_event(kind, key, token, path);
        }
    }
}

/// Returns what the controller decides about a subflow of the slot of this
/// number: [`HOLD_OUT`], [`MAY_REST`] or 0. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn overflow_verdict(connection: *const Connection, number: u32) -> u32 {
    // SAFETY: as in `overflow_look`.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    let index = number.wrapping_sub(1) as usize;
    let (slots, overflow) = (&connection.controller.slots, &connection.overflow);
    if index >= MAX_SLOTS {
        return 0;
    }
    let Some(slot) = slots.get(index & (MAX_SLOTS - 1)) else {
        return 0;
    };
    if overflow.holds_out(slots, slot) {
        HOLD_OUT
    } else if overflow.may_rest(index, slot) {
        MAY_REST
    } else {
        0
    }
}
