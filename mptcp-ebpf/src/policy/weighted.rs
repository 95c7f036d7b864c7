//! Carries out the policy: runs the controller, sets and lifts socket options.

use core::ptr::null;

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_getsockopt, bpf_setsockopt},
};
use mptcp_common::{
    abi::{Connection, MAX_PATHS, capability, event_kind, subflow_flag},
    controller::{
        Controller, HELD_OUT, Ledger, Limits, MAX_SLOTS, NO_CAP, REST_NS, STEP_NS, Slot, is_quiet,
    },
};

use crate::policy::overflow;
use crate::shared::emit::path_event;
use crate::shared::entry::Entry;
use crate::shared::maps::{add, capabilities, config, ledger, totals, weight};
use crate::shared::socket::{Socket, offset};

const SOL_SOCKET: i32 = 1;
const SO_MAX_PACING_RATE: i32 = 47;
const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
const TCP_CA_NAME_MAX: usize = 16;
const TCP_NOTSENT_LOWAT: i32 = 25;

/// The first argument of `bpf_setsockopt`: a sockops context or, in `iter/tcp`,
/// a socket.
#[derive(Clone, Copy)]
pub struct Options(pub *mut c_void);

impl Options {
    /// Sets a 32-bit option of the socket. Counts a refusal and returns
    /// `false`.
    #[inline(always)]
    pub fn set(self, level: i32, option: i32, value: u32) -> bool {
        let done = self.try_set(level, option, value);
        if !done {
            totals(|totals| add(&totals.setsockopt_failed, 1));
        }
        done
    }

    /// Sets a 32-bit option that the kernel may not have. Does not count a
    /// refusal.
    #[inline(always)]
    pub fn try_set(self, level: i32, option: i32, mut value: u32) -> bool {
        // SAFETY: the verifier checks the pointer. `value` has 4 bytes, the
        // size that the kernel expects for each option used here.
        let error = unsafe {
            bpf_setsockopt(
                self.0,
                level,
                option,
                (&raw mut value).cast(),
                size_of::<u32>() as i32,
            )
        };
        error == 0
    }
}

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
/// of this subflow: see [`obey`].
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
        let queued = socket.queued() != 0;
        connection.controller.notice(given, unassigned, queued);
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
    obey(socket, options, connection, subflow, now_ns);
}

/// Returns whether a subflow needs no steering until it becomes less quiet, the
/// agent changes its settings, or [`REST_NS`] have passed.
#[inline(always)]
pub fn may_rest(connection: &Connection, subflow: Entry, now_ns: u64) -> bool {
    let capabilities = capabilities(connection, now_ns);
    let free = subflow.cap() == NO_CAP && subflow.lowat() == 0;
    // A policy that copies needs recent looks: they tell whether the path has
    // room for copies (`mptcp_common::spare`).
    if !free || capabilities & capability::COPIES != 0 {
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

/// Sets the limits that follow from the last step for this subflow. Lifts them
/// if the present policy sets none, or if the agent is no longer there.
#[inline(always)]
pub fn obey(
    socket: Socket,
    options: Options,
    connection: &Connection,
    subflow: Entry,
    now_ns: u64,
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
    if limits.cap == HELD_OUT && subflow.flags() & subflow_flag::LOCKED != 0 {
        // `revive` could not bring it back later: its route locks the
        // congestion control.
        limits = Limits::NONE;
    }
    apply(socket, options, subflow, limits);
}

/// Runs one step of the controller and emits the events that follow from it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn step(
    connection: *const Connection,
    key: u64,
    now_ns: u64,
    elapsed_ns: u64,
    capabilities: u32,
) -> u32 {
    // SAFETY: null, or a map value, of which only atomic fields are used here.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    weigh_all(connection);
    let controller = &connection.controller;
    let token = connection.token.get() as u32;
    controller.lot.set(u64::from(token));
    let spills = capabilities & capability::SPILLS != 0;
    let ledger = if capabilities & capability::HOST != 0 {
        ledger(connection)
    } else {
        None
    };
    let account = ledger.map_or(null(), |ledger| &raw const *ledger);
    controller.step_with(
        now_ns,
        elapsed_ns,
        spills,
        ledger,
        |ledger| {
            settle(ledger, now_ns);
        },
        |index, fits| {
            cap_path(controller, account, index as u64, now_ns, fits);
        },
    );
    if connection.controller.has_given_up() {
        totals(|totals| add(&totals.left_alone, 1));
    }
    for slot in &connection.controller.slots {
        let path = slot.path.get().wrapping_sub(1) as u32;
        match slot.turned.get() {
            Slot::DIED => path_event(event_kind::PATH_DOWN, key, token, path),
            Slot::RETURNED => path_event(event_kind::PATH_UP, key, token, path),
            _ => {}
        }
    }
    1
}

/// Does the work of [`Controller::cap_path`]; `ledger` may be null. A global
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cap_path(
    controller: *const Controller,
    ledger: *const Ledger,
    index: u64,
    now_ns: u64,
    fits: u64,
) -> u32 {
    // SAFETY: null, or parts of map values, of atomics.
    let (controller, ledger) = unsafe { (controller.as_ref(), ledger.as_ref()) };
    let Some(controller) = controller else {
        return 0;
    };
    let index = index as usize & (MAX_SLOTS - 1);
    let Some(slot) = controller.slots.get(index) else {
        return 0;
    };
    let before = slot.cap.get();
    controller.cap_path(index, now_ns, fits, ledger);
    let after = slot.cap.get();
    let held_out = u64::from(HELD_OUT);
    if before != after && (before == held_out || after == held_out) {
        totals(|totals| {
            let counter = if before == held_out {
                &totals.readmitted
            } else {
                &totals.spared
            };
            add(counter, 1);
        });
    }
    0
}

/// Runs a step of a ledger, as [`Ledger::step`] does. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle(ledger: *const Ledger, now_ns: u64) -> u32 {
    // SAFETY: null, or a map value of atomics.
    let Some(ledger) = (unsafe { ledger.as_ref() }) else {
        return 0;
    };
    ledger.begin();
    for index in 0..MAX_PATHS as u64 {
        sum_path(ledger, index, now_ns);
    }
    ledger.follow(now_ns);
    for index in 0..MAX_PATHS as u64 {
        settle_path(ledger, index);
    }
    0
}

/// Does the work of [`Ledger::sum_path`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sum_path(ledger: *const Ledger, index: u64, now_ns: u64) -> u32 {
    // SAFETY: null, or a map value of atomics.
    if let Some(ledger) = unsafe { ledger.as_ref() } {
        ledger.sum_path(index, now_ns);
    }
    0
}

/// Does the work of [`Ledger::settle_path`]. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn settle_path(ledger: *const Ledger, index: u64) -> u32 {
    // SAFETY: null, or a map value of atomics.
    if let Some(ledger) = unsafe { ledger.as_ref() } {
        ledger.settle_path(index);
    }
    0
}

/// Sets the options that differ from what the agent has set, and restores the
/// earlier value of an option that `limits` leaves free. Keeps an option that
/// would move by 1/128 or less, since each call costs time.
#[inline(always)]
pub fn apply(socket: Socket, options: Options, subflow: Entry, limits: Limits) {
    // The wanted values go through memory, and one option is set after the
    // other. Otherwise the verifier would follow each choice for the first
    // option through all of the code for the second.
    subflow.set_wanted_cap(limits.cap);
    subflow.set_wanted_lowat(limits.lowat);
    let free = subflow.cap() == NO_CAP && subflow.lowat() == 0;
    if free && subflow.wanted_cap() == NO_CAP && subflow.wanted_lowat() == 0 {
        return;
    }
    let found = socket.limits();
    let entry = subflow.as_ptr();
    // SAFETY: a map value; makes no reference.
    let (cap, lowat) = unsafe {
        (
            Setting {
                set: &raw mut (*entry).cap,
                prior: &raw mut (*entry).prior_cap,
                none: NO_CAP,
            },
            Setting {
                set: &raw mut (*entry).lowat,
                prior: &raw mut (*entry).prior_lowat,
                none: 0,
            },
        )
    };
    cap.follow(found.cap, subflow.wanted_cap(), |rate| {
        options.set(SOL_SOCKET, SO_MAX_PACING_RATE, rate)
    });
    lowat.follow(found.lowat, subflow.wanted_lowat(), |bytes| {
        options.set(SOL_TCP, TCP_NOTSENT_LOWAT, bytes)
    });
}

/// Lifts the limits that an agent has set on a socket that is in no map, as far
/// as they can be told from limits that others have set.
#[inline(always)]
pub fn lift_unknown(socket: Socket, options: Options) {
    let (ours, prior) = socket.limits().split();
    if ours.cap != NO_CAP {
        options.set(SOL_SOCKET, SO_MAX_PACING_RATE, prior.cap);
    }
    if ours.lowat != 0 {
        options.set(SOL_TCP, TCP_NOTSENT_LOWAT, prior.lowat);
    }
}

/// A socket option that the agent may set, and the fields of the subflow in the
/// map that keep track of it.
struct Setting {
    /// The value that the agent has set.
    set: *mut u32,
    /// The value that the socket had before that.
    prior: *mut u32,
    /// The value that stands for no limit.
    none: u32,
}

impl Setting {
    /// Moves the option to `wanted` with `call`. `found` is its value now. If
    /// that is not the value that the agent has set, somebody else has set it
    /// since, and the agent keeps their value as `prior`. Their limit holds
    /// beside the agent's: the smaller one is set.
    #[inline(always)]
    fn follow(self, found: u32, wanted: u32, call: impl Fn(u32) -> bool) {
        let Self { set, prior, none } = self;
        // SAFETY: fields of a map value, under its socket's lock.
        unsafe {
            let ours = set.read_volatile();
            if ours == none || ours != found {
                set.write_volatile(none);
                prior.write_volatile(found);
            }
            let (ours, theirs) = (set.read_volatile(), prior.read_volatile());
            if wanted == none {
                if ours != none && call(theirs) {
                    set.write_volatile(none);
                }
                return;
            }
            // A `TCP_NOTSENT_LOWAT` of 0 means no limit. Only the agent itself
            // sets a rate of 0.
            let least = if theirs == 0 || wanted < theirs {
                wanted
            } else {
                theirs
            };
            if (ours == none || has_moved(ours, least)) && call(least) {
                set.write_volatile(least);
            }
        }
    }
}

/// Brings an idle subflow that was held out back into the scheduler's choice.
///
/// Raising `SO_MAX_PACING_RATE` from 0 leaves `sk_pacing_rate` at 0 until data
/// is acked. An idle subflow has no data to be acked, so the scheduler would
/// pass it over for ever. BBR sets the rate anew when it starts (`bbr_init`),
/// so this switches the socket to another congestion control and back.
#[inline(always)]
pub fn revive(socket: Socket, options: Options) {
    if socket.tcp::<u64>(&offset::SK_PACING_RATE) != 0 || socket.limits().cap == HELD_OUT {
        return;
    }
    let mut name = [0_u8; TCP_CA_NAME_MAX];
    let length = TCP_CA_NAME_MAX as i32;
    // SAFETY: the verifier checks the pointers; `name` has `length` bytes.
    unsafe {
        if bpf_getsockopt(
            options.0,
            SOL_TCP,
            TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            length,
        ) != 0
        {
            return;
        }
        let mut other = if name[..4] == *b"bbr\0" {
            *b"reno\0"
        } else {
            *b"bbr\0\0"
        };
        let other = other.as_mut_ptr().cast();
        let switched = bpf_setsockopt(options.0, SOL_TCP, TCP_CONGESTION, other, 5) == 0
            && bpf_setsockopt(
                options.0,
                SOL_TCP,
                TCP_CONGESTION,
                name.as_mut_ptr().cast(),
                length,
            ) == 0;
        if !switched {
            totals(|totals| add(&totals.setsockopt_failed, 1));
        }
    }
}

/// Returns whether an option has moved far enough to be set again.
#[inline(always)]
fn has_moved(set: u32, wanted: u32) -> bool {
    set.abs_diff(wanted) > set / 128
}
