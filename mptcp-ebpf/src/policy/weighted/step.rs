//! Steps of the controller and of the ledger, as global functions.

use core::ptr::null;

use mptcp_common::{
    abi::{Connection, MAX_PATHS, capability, event_kind},
    controller::{Asked, Controller, HELD_OUT, Ledger, MAX_SLOTS, Phase, Slot},
};

use super::weigh_all;
use crate::policy::limit;
use crate::shared::emit::path_event;
use crate::shared::maps::{add, ledger, totals};
use crate::shared::member::{REVIVES, global};

/// Runs one step of the controller and emits the events that follow from it.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn step(
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
    let asked = Asked {
        spill: capabilities & capability::SPILLS != 0,
        place: capabilities & capability::PLACES != 0,
        revives: global(&REVIVES) != 0,
    };
    let ledger = if capabilities & capability::HOST != 0 {
        ledger(connection)
    } else {
        None
    };
    let account = ledger.map_or(null(), |ledger| &raw const *ledger);
    controller.step_with(
        now_ns,
        elapsed_ns,
        asked,
        ledger,
        |phase, index| {
            look(controller, account, index as u64, now_ns, phase as u64);
        },
        |ledger| {
            settle(ledger, now_ns);
        },
    );
    if connection.controller.has_given_up() {
        totals(|totals| add(&totals.left_alone, 1));
    }
    turns(connection, key);
    1
}

/// Emits an event for each path that the last step found to have stopped making
/// progress, or to make progress again, or that it let the connection use again.
#[inline(always)]
pub fn turns(connection: &Connection, key: u64) {
    let token = connection.token.get() as u32;
    for slot in &connection.controller.slots {
        let path = slot.path.get().wrapping_sub(1) as u32;
        match slot.turned.get() {
            Slot::DIED => path_event(event_kind::PATH_DOWN, key, token, path),
            Slot::RETURNED => path_event(event_kind::PATH_UP, key, token, path),
            Slot::READMITTED => path_event(event_kind::PATH_READMITTED, key, token, path),
            _ => {}
        }
    }
}

/// Does the work of [`Controller::look`] in the phase of this number; `ledger`
/// may be null. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look(
    controller: *const Controller,
    ledger: *const Ledger,
    index: u64,
    now_ns: u64,
    phase: u64,
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
    if phase == Phase::Judge as u64 {
        limit::tell(slot, now_ns);
    }
    let before = slot.cap.get();
    controller.look(Phase::from_number(phase), index, now_ns, ledger);
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
    let paths = || (0..MAX_PATHS as u64).take_while(|index| ledger.knows(*index));
    for index in paths() {
        sum_path(ledger, index, now_ns);
    }
    ledger.follow(now_ns);
    for index in paths() {
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
