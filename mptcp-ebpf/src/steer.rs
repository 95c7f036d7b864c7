//! The policy's hand: runs the controller, sets and lifts socket options.

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_getsockopt, bpf_setsockopt},
};
use mptcp_common::{
    abi::{Connection, Subflow, event_kind, mode, subflow_flag},
    controller::{HELD_OUT, Limits, MAX_SLOTS, NO_CAP, REST_NS, STEP_NS, Slot, is_quiet},
    word::Word,
};

use crate::{
    emit::path_event,
    maps::{PATHS, add, config, totals},
    socket::{Socket, offset},
};

const SOL_SOCKET: i32 = 1;
const SO_MAX_PACING_RATE: i32 = 47;
const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
const TCP_CA_NAME_MAX: usize = 16;
const TCP_NOTSENT_LOWAT: i32 = 25;

/// What `bpf_setsockopt` takes: a sockops context or, in `iter/tcp`, a socket.
#[derive(Clone, Copy)]
pub struct Options(pub *mut c_void);

impl Options {
    /// Sets a 32-bit option of the socket; a refusal is counted.
    #[inline(always)]
    pub fn set(self, level: i32, option: i32, value: u32) -> bool {
        let done = self.try_set(level, option, value);
        if !done {
            totals(|totals| add(&mut totals.setsockopt_failed, 1));
        }
        done
    }

    /// Sets a 32-bit option that the kernel may not have.
    #[inline(always)]
    pub fn try_set(self, level: i32, option: i32, mut value: u32) -> bool {
        // SAFETY: the verifier checks the pointer; `value` is 4 bytes, which is
        // what the kernel wants of each option used here.
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

/// The subflow's slot, plus one; 0: none. Read and written in memory: the
/// verifier would otherwise follow each choice through all that comes after.
#[inline(always)]
fn chosen(subflow: &Subflow) -> u16 {
    // SAFETY: a reference.
    unsafe { (&raw const subflow.slot).read_volatile() }
}

#[inline(always)]
fn choose(subflow: &mut Subflow, slot: u16) {
    // SAFETY: a reference.
    unsafe { (&raw mut subflow.slot).write_volatile(slot) }
}

/// The slot that `subflow` is steered by, if any.
#[inline(always)]
pub fn slot<'a>(connection: &'a Connection, subflow: &Subflow) -> Option<&'a Slot> {
    slot_at(connection, u64::from(chosen(subflow)))
}

/// The slot of this number, which is its index plus one; none for 0.
#[inline(always)]
fn slot_at(connection: &Connection, number: u64) -> Option<&Slot> {
    let index = (number as usize).wrapping_sub(1);
    // `get` alone would do for rustc; the mask is for the verifier.
    if index < MAX_SLOTS {
        connection.controller.slots.get(index & (MAX_SLOTS - 1))
    } else {
        None
    }
}

/// Gives a subflow the slot of its path: the one that its path has, else a
/// free one, else one that a vanished path has left. None if all eight are in
/// use. `subflow` must be in a map.
#[inline(always)]
pub fn take_slot(connection: &Connection, subflow: &mut Subflow) {
    let wanted = u64::from(subflow.path) + 1;
    let slots = &connection.controller.slots;
    choose(subflow, 0);
    for (index, slot) in slots.iter().enumerate() {
        if chosen(subflow) == 0 && slot.path.get() == wanted {
            choose(subflow, index as u16 + 1);
        }
    }
    for (index, slot) in slots.iter().enumerate() {
        let found = slot.path.get();
        let free = found == 0 || slot.subflows.get() == 0;
        // Another CPU may take it first.
        if chosen(subflow) == 0 && free && slot.path.replace(found, wanted) {
            slot.timeouts.set(0);
            slot.backups.set(0);
            slot.cap.set(u64::from(NO_CAP));
            weigh(slot);
            choose(subflow, index as u16 + 1);
        }
    }
    match slot(connection, subflow) {
        Some(slot) => {
            slot.subflows.add(1);
        }
        None => totals(|totals| add(&mut totals.slots_full, 1)),
    }
    count_backup(connection, subflow);
}

/// Counts the subflow among the backups of its slot if its flags say that it is
/// one, else no longer. `subflow` must be in a map.
///
/// The socket's callbacks and the tracepoint both call this, under different
/// locks: `backup_of` tells where the subflow is counted, and whoever replaces it
/// moves the count. If two see different flags, the next callback corrects it.
#[inline(always)]
pub fn count_backup(connection: &Connection, subflow: &mut Subflow) {
    let is_backup = u64::from(subflow.tuple.flags & subflow_flag::BACKUP);
    // `BACKUP` is 1: no branch, which the verifier would follow.
    let wanted = u64::from(chosen(subflow)) * is_backup;
    // SAFETY: a valid reference, of the size and alignment of a `Word`.
    let word = unsafe { &*(&raw mut subflow.backup_of).cast::<Word>() };
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

/// Gives a slot the weight of its path.
#[inline(always)]
fn weigh(slot: &Slot) {
    let path = slot.path.get().wrapping_sub(1) as u32;
    let weight = PATHS.get(path).map_or(1, |path| path.weight);
    slot.weight.set(u64::from(weight));
}

/// Gives each slot the weight of its path, as it is now.
#[inline(always)]
pub fn weigh_all(connection: &Connection) {
    connection.controller.slots.iter().for_each(weigh);
}

/// Gives the slot back. `subflow` must be in a map.
#[inline(always)]
pub fn leave_slot(connection: &Connection, subflow: &mut Subflow) {
    let number = u64::from(chosen(subflow));
    choose(subflow, 0);
    count_backup(connection, subflow);
    if let Some(slot) = slot_at(connection, number) {
        slot.subflows.sub(1);
    }
}

/// Runs a step of the controller if one is due, then sets what it wants of
/// this subflow, or lifts what is set: see [`obey`].
#[inline(always)]
pub fn steer(
    socket: Socket,
    options: Options,
    connection: &mut Connection,
    subflow: &mut Subflow,
    now_ns: u64,
) {
    let config = config().at(now_ns);
    if config.is_weighted() && subflow.slot != 0 {
        let (given, unassigned) = socket.given();
        let queued = socket.queued() != 0;
        connection.controller.notice(given, unassigned, queued);
        if let Some(elapsed_ns) = connection.controller.claim_step(now_ns) {
            connection.controller.send_buffer.set(socket.send_buffer());
            step(
                connection,
                subflow.connection,
                now_ns,
                elapsed_ns,
                config.mode,
            );
        }
    }
    obey(socket, options, connection, subflow, now_ns);
}

/// Whether there is nothing to steer for a subflow until it is less quiet, the
/// agent wants something else, or [`REST_NS`] have passed.
#[inline(always)]
pub fn may_rest(connection: &Connection, subflow: &Subflow, now_ns: u64) -> bool {
    let config = config().at(now_ns);
    let free = subflow.cap == NO_CAP && subflow.lowat == 0;
    // Copies go by what is known of round trips.
    if !free || config.is_redundant() {
        return false;
    }
    match slot(connection, subflow) {
        Some(slot) if config.is_weighted() => connection.controller.may_rest(slot),
        _ => true,
    }
}

/// Whether a callback of a subflow of which `acked` bytes were acked in all is
/// passed over. It goes by what the last look at it found, and by nothing else
/// than the subflow: what is in no cache of the CPU's takes longest.
#[inline(always)]
pub fn rests(subflow: &mut Subflow, acked: u64, now_ns: u64) -> bool {
    let elapsed_ns = now_ns.wrapping_sub(subflow.quiet_ns);
    let fresh = acked.wrapping_sub(subflow.quiet_bytes);
    if elapsed_ns >= STEP_NS {
        (subflow.quiet_ns, subflow.quiet_bytes) = (now_ns, acked);
    }
    subflow.resting != 0
        && subflow.generation == config().generation
        && now_ns - subflow.seen_ns < REST_NS
        && is_quiet(fresh, elapsed_ns)
}

/// Sets what the last step wants of this subflow; lifts what the agent has set if
/// the policy is another, or the agent is no longer there.
#[inline(always)]
pub fn obey(
    socket: Socket,
    options: Options,
    connection: &Connection,
    subflow: &mut Subflow,
    now_ns: u64,
) {
    let mut limits = match slot(connection, subflow) {
        Some(slot) if config().at(now_ns).is_weighted() => connection
            .controller
            .limits(slot, u64::from(socket.queued())),
        _ => Limits::NONE,
    };
    if limits.cap == HELD_OUT && subflow.tuple.flags & subflow_flag::LOCKED != 0 {
        // See `revive`, which could not bring it back.
        limits = Limits::NONE;
    }
    apply(socket, options, subflow, limits);
}

/// One step of the controller, and the events that it gives rise to.
#[inline(always)]
fn step(connection: &mut Connection, key: u64, now_ns: u64, elapsed_ns: u64, mode: u32) {
    weigh_all(connection);
    connection
        .controller
        .step(now_ns, elapsed_ns, mode == mode::SPILL);
    if connection.controller.has_given_up() {
        totals(|totals| add(&mut totals.left_alone, 1));
    }
    let token = connection.token.get() as u32;
    for slot in &connection.controller.slots {
        let path = slot.path.get().wrapping_sub(1) as u32;
        match slot.turned.get() {
            Slot::DIED => path_event(event_kind::PATH_DOWN, key, token, path),
            Slot::RETURNED => path_event(event_kind::PATH_UP, key, token, path),
            _ => {}
        }
    }
}

/// Sets what differs from what the agent has set, and brings back what was there
/// before where it wants nothing. A cap that moved by less than a hundredth is
/// left: each call costs. `subflow` must be in a map.
#[inline(always)]
pub fn apply(socket: Socket, options: Options, subflow: &mut Subflow, limits: Limits) {
    // Through memory, and one option after the other: the verifier would
    // otherwise follow each choice of the first through all of the second.
    want(subflow, limits);
    let free = subflow.cap == NO_CAP && subflow.lowat == 0;
    if free && wanted_cap(subflow) == NO_CAP && wanted_lowat(subflow) == 0 {
        return;
    }
    let found = socket.limits();
    Setting {
        set: &raw mut subflow.cap,
        prior: &raw mut subflow.prior_cap,
        none: NO_CAP,
    }
    .follow(found.cap, wanted_cap(subflow), |rate| {
        options.set(SOL_SOCKET, SO_MAX_PACING_RATE, rate)
    });
    Setting {
        set: &raw mut subflow.lowat,
        prior: &raw mut subflow.prior_lowat,
        none: 0,
    }
    .follow(found.lowat, wanted_lowat(subflow), |bytes| {
        options.set(SOL_TCP, TCP_NOTSENT_LOWAT, bytes)
    });
}

#[inline(always)]
fn want(subflow: &mut Subflow, limits: Limits) {
    // SAFETY: references.
    unsafe {
        (&raw mut subflow.wanted_cap).write_volatile(limits.cap);
        (&raw mut subflow.wanted_lowat).write_volatile(limits.lowat);
    }
}

#[inline(always)]
fn wanted_cap(subflow: &Subflow) -> u32 {
    // SAFETY: a reference.
    unsafe { (&raw const subflow.wanted_cap).read_volatile() }
}

#[inline(always)]
fn wanted_lowat(subflow: &Subflow) -> u32 {
    // SAFETY: a reference.
    unsafe { (&raw const subflow.wanted_lowat).read_volatile() }
}

/// Lifts what an agent has set on a socket that no map knows, as far as it can be
/// told from what others set.
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

/// An option of a socket that the agent may have set, by the fields of its
/// subflow in the map.
struct Setting {
    /// What the agent has set.
    set: *mut u32,
    /// What was there before that.
    prior: *mut u32,
    /// The value of `set` that means nothing.
    none: u32,
}

impl Setting {
    /// Moves the option to `wanted` with `call`. `found` is its value now: if it
    /// is not what the agent has set, somebody else has set it since, and it is
    /// theirs to keep. Their limit holds beside the agent's.
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
            // A `TCP_NOTSENT_LOWAT` of 0 is no limit; a rate is never 0, unless
            // it is the agent's own.
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
/// is acked, which an idle subflow has none of; the scheduler would pass it
/// over for ever. What sets the rate anew is the start of BBR (`bbr_init`), so
/// the socket is given another congestion control for a moment.
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
            totals(|totals| add(&mut totals.setsockopt_failed, 1));
        }
    }
}

/// Whether an option has moved far enough to be set again.
#[inline(always)]
fn has_moved(set: u32, wanted: u32) -> bool {
    set.abs_diff(wanted) > set / 128
}
