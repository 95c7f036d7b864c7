//! Carries out the policy: runs the controller, and sets what it decides.

mod options;
mod step;
pub mod waking;

use mptcp_common::{
    abi::{Connection, capability, subflow_flag},
    controller::{Found, HELD_OUT, Limits, MAX_SLOTS, NO_CAP, REST_NS, STEP_NS, Slot, is_quiet},
};

use crate::policy::{limit, overflow};
use crate::shared::entry::Entry;
use crate::shared::maps::{add, capabilities, config, totals, weight};
use crate::shared::socket::Socket;

pub use options::{Options, enforce, lift_unknown, revive, want};
use step::step;
pub use step::turns;

/// Returns the slot that `subflow` is steered by, if any.
#[inline(always)]
pub fn slot(connection: &Connection, subflow: Entry) -> Option<&Slot> {
    slot_at(connection, u64::from(subflow.slot()))
}

/// Returns the slot of this number, which is its index plus one; `None` for 0.
#[inline(always)]
fn slot_at(connection: &Connection, number: u64) -> Option<&Slot> {
    let index = (number as usize).wrapping_sub(1);
    // `get` alone would satisfy rustc. The verifier needs the mask as well.
    if index < MAX_SLOTS {
        connection.controller.slots.get(index & (MAX_SLOTS - 1))
    } else {
        None
    }
}

/// Gives a subflow the slot of its path. If the path has no slot yet, takes a
/// free one, or one whose path has no subflows left. Leaves the subflow without
/// a slot if all eight are in use.
///
/// The choice so far is read from the entry: in a register the verifier would
/// follow each value that it could have through all the code that comes after.
#[inline(always)]
pub fn take_slot(connection: &Connection, subflow: Entry) {
    let wanted = u64::from(subflow.path()) + 1;
    let slots = &connection.controller.slots;
    subflow.set_slot(0);
    for (index, slot) in slots.iter().enumerate() {
        if subflow.slot() == 0 && slot.path.get() == wanted {
            subflow.set_slot(index as u16 + 1);
        }
    }
    for (index, slot) in slots.iter().enumerate() {
        let found = slot.path.get();
        let free = found == 0 || slot.subflows.get() == 0;
        // Another CPU may take the same slot first; then try the next one.
        if subflow.slot() == 0 && free && slot.path.replace(found, wanted) {
            slot.timeouts.set(0);
            slot.backups.set(0);
            slot.cap.set(u64::from(NO_CAP));
            weigh(connection, slot);
            subflow.set_slot(index as u16 + 1);
        }
    }
    match slot(connection, subflow) {
        Some(slot) => {
            slot.subflows.add(1);
        }
        None => totals(|totals| add(&totals.slots_full, 1)),
    }
    count_backup(connection, subflow);
}

/// Counts the subflow among the backups of its slot if its flags say that it is
/// one, and stops counting it if they do not.
///
/// The socket's callbacks and the tracepoint both call this, under different
/// locks. `backup_of` holds the slot in which the subflow is counted, and the
/// caller that replaces this value moves the count. If the two callers see
/// different flags, the next callback corrects the count.
#[inline(always)]
pub fn count_backup(connection: &Connection, subflow: Entry) {
    let is_backup = u64::from(subflow.flags() & subflow_flag::BACKUP);
    // `BACKUP` is 1, so a product does without a branch, both sides of which
    // the verifier would follow.
    let wanted = u64::from(subflow.slot()) * is_backup;
    let word = subflow.backup_of();
    let counted = word.get();
    if counted == wanted || !word.replace(counted, wanted) {
        return;
    }
    if let Some(slot) = slot_at(connection, counted) {
        slot.backups.sub(1);
    }
    if let Some(slot) = slot_at(connection, wanted) {
        slot.backups.add(1);
    }
}

/// Gives a slot the weight that its path has under the connection's policy.
#[inline(always)]
fn weigh(connection: &Connection, slot: &Slot) {
    let path = slot.path.get().wrapping_sub(1) as u32;
    slot.weight.set(u64::from(weight(connection, path)));
}

/// Gives each slot the current weight of its path.
#[inline(always)]
pub fn weigh_all(connection: &Connection) {
    for slot in &connection.controller.slots {
        weigh(connection, slot);
    }
}

/// Gives the subflow's slot back.
#[inline(always)]
pub fn leave_slot(connection: &Connection, subflow: Entry) {
    let number = u64::from(subflow.slot());
    subflow.set_slot(0);
    count_backup(connection, subflow);
    if let Some(slot) = slot_at(connection, number) {
        slot.subflows.sub(1);
    }
}

/// Runs a step of the controller if one is due, then sets or lifts the limits
/// of this subflow, as [`obey`] decides.
#[inline(always)]
pub fn steer(
    socket: Socket,
    options: Options,
    connection: &Connection,
    subflow: Entry,
    now_ns: u64,
) {
    let capabilities = capabilities(connection, now_ns);
    if capabilities & capability::CAPS != 0 && subflow.slot() != 0 {
        let (given, unassigned) = socket.given();
        let found = Found {
            given,
            received: socket.received(),
            unassigned,
            queued: socket.queued() != 0,
        };
        connection.controller.notice(found, now_ns);
        if let Some(elapsed_ns) = connection.controller.claim_step(now_ns) {
            connection.controller.send_buffer.set(socket.send_buffer());
            step(
                connection,
                subflow.connection(),
                now_ns,
                elapsed_ns,
                capabilities,
            );
        }
    } else if capabilities & capability::OVERFLOWS != 0 && subflow.slot() != 0 {
        overflow::look(socket, connection, subflow, now_ns);
    }
    // The callback that is running gives the subflow what wakes it.
    obey(socket, connection, subflow, now_ns, || true);
    enforce(socket, options, subflow);
}

/// Returns whether a subflow needs no steering until it becomes less quiet, the
/// agent changes its settings, or [`REST_NS`] have passed.
#[inline(always)]
pub fn may_rest(connection: &Connection, subflow: Entry, now_ns: u64) -> bool {
    let capabilities = capabilities(connection, now_ns);
    let free = subflow.cap() == NO_CAP && subflow.lowat() == 0;
    // A policy that copies needs recent looks: they tell whether the path has
    // room for copies (`mptcp_common::spare`). On a limited path each byte counts.
    if !free || capabilities & capability::COPIES != 0 || limit::is_limited(subflow.path(), now_ns)
    {
        return false;
    }
    match slot(connection, subflow) {
        Some(slot) if capabilities & capability::CAPS != 0 => connection.controller.may_rest(slot),
        Some(_) if capabilities & capability::OVERFLOWS != 0 => {
            overflow::may_rest(connection, subflow)
        }
        _ => true,
    }
}

/// Returns whether to pass over a callback of a subflow that has had `acked`
/// bytes acked in total. Decides by what the last look found, and reads nothing
/// but the subflow and the configuration: memory that is in none of the CPU's
/// caches takes longest.
#[inline(always)]
pub fn rests(subflow: Entry, acked: u64, now_ns: u64) -> bool {
    let elapsed_ns = now_ns.wrapping_sub(subflow.quiet_ns());
    let fresh = acked.wrapping_sub(subflow.quiet_bytes());
    if elapsed_ns >= STEP_NS {
        subflow.set_quiet_ns(now_ns);
        subflow.set_quiet_bytes(acked);
    }
    subflow.resting() != 0
        && subflow.generation() == config().generation
        && now_ns.wrapping_sub(subflow.seen_ns()) < REST_NS
        && is_quiet(fresh, elapsed_ns)
}

/// Decides which limits this subflow is to have, for [`enforce`]: those that follow
/// from the last step and from the host's limit for its path; none if the agent is
/// no longer there.
///
/// `can_wake` tells whether the subflow would wake if it were held out and the
/// agent died; if not, it is not held out.
#[inline(always)]
pub fn obey(
    socket: Socket,
    connection: &Connection,
    subflow: Entry,
    now_ns: u64,
    can_wake: impl FnOnce() -> bool,
) {
    let capabilities = capabilities(connection, now_ns);
    let mut limits = match slot(connection, subflow) {
        Some(slot) if capabilities & capability::CAPS != 0 => connection
            .controller
            .limits(slot, u64::from(socket.queued())),
        Some(_) if capabilities & capability::OVERFLOWS != 0 => {
            overflow::limits(connection, subflow)
        }
        _ => Limits::NONE,
    };
    if limits.cap == HELD_OUT {
        // `revive` could not bring a subflow back later whose route locks the
        // congestion control.
        let is_locked = subflow.flags() & subflow_flag::LOCKED != 0;
        if is_locked || !config().holds_out_at(now_ns) || !can_wake() {
            limits = Limits::NONE;
        }
    }
    want(subflow, limits);
    limit::lower(subflow, now_ns);
}
