use super::*;
use crate::controller::DEAD_TIMEOUTS;

const MS: u64 = 1_000_000;

/// Time between two looks, which is the round trip as well.
const TRIP_MS: u64 = 20;

/// A connection with a path for each weight, looked at once per round trip.
struct Looked {
    overflow: Overflow,
    slots: [Slot; MAX_SLOTS],
    now_ms: u64,
}

impl Looked {
    fn new(weights: &[u64]) -> Self {
        let slots: [Slot; MAX_SLOTS] = Default::default();
        for (index, (slot, &weight)) in slots.iter().zip(weights).enumerate() {
            slot.path.set(index as u64 + 1);
            slot.subflows.set(1);
            slot.weight.set(weight);
            slot.srtt_us.set(TRIP_MS * 1000);
        }
        Self {
            overflow: Overflow::default(),
            slots,
            now_ms: 10_000,
        }
    }

    /// Looks at every path for `ms`, and finds so many bytes unsent on each.
    /// Returns what the steps did.
    fn look(&mut self, ms: u64, queued: &[u64], waits: bool) -> Vec<u32> {
        let end_ms = self.now_ms + ms;
        let mut done = Vec::new();
        while self.now_ms < end_ms {
            self.now_ms += TRIP_MS;
            for (index, &queued) in queued.iter().enumerate() {
                let look = Look { queued, waits };
                let slot = &self.slots[index];
                self.overflow.look(index, slot, look, self.now_ms * MS);
            }
            match self.overflow.step(&self.slots, self.now_ms * MS) {
                Overflow::NONE => {}
                other => done.push(other),
            }
        }
        done
    }

    /// Returns the weights that may be chosen.
    fn let_in(&self) -> Vec<u64> {
        let slots = self.slots.iter().filter(|slot| slot.open());
        slots
            .filter(|slot| !self.overflow.holds_out(&self.slots, slot))
            .map(|slot| slot.weight.get())
            .collect()
    }
}

const LET_IN: u32 = Overflow::LET_IN;
const HELD_OUT: u32 = Overflow::HELD_OUT;

#[test]
fn the_largest_weight_alone_is_let_in_while_it_has_room() {
    let mut looked = Looked::new(&[1, 3, 2]);
    assert_eq!(looked.let_in(), [3]);
    assert_eq!(looked.look(5000, &[0, 0, 0], false), []);
    // A queue that runs empty now and then is no full path.
    for _ in 0..50 {
        assert_eq!(looked.look(40, &[0, 9000, 0], true), []);
        assert_eq!(looked.look(20, &[0, 0, 0], false), []);
    }
    // Neither is one behind which nothing waits.
    assert_eq!(looked.look(200, &[0, 0, 0], false), []);
    assert_eq!(looked.look(5000, &[0, 9000, 0], false), []);
    assert_eq!(looked.let_in(), [3]);
}

#[test]
fn one_weight_after_the_other_is_let_in_and_held_out() {
    let mut looked = Looked::new(&[1, 3, 2]);
    assert_eq!(looked.look(80, &[0, 9000, 0], true), [LET_IN]);
    assert_eq!(
        (looked.let_in(), looked.overflow.moved.get()),
        (vec![3, 2], 2)
    );
    // The second path has to be full as well.
    assert_eq!(looked.look(400, &[0, 9000, 0], true), []);
    assert_eq!(looked.look(80, &[0, 9000, 9000], true), [LET_IN]);
    assert_eq!(looked.let_in(), [1, 3, 2]);
    assert_eq!(looked.look(3000, &[9000; 3], true), []);
    // The queue of the least path does not matter.
    assert_eq!(looked.look(600, &[9000, 9000, 0], false), [HELD_OUT]);
    assert_eq!(
        (looked.let_in(), looked.overflow.moved.get()),
        (vec![3, 2], 1)
    );
    assert_eq!(looked.look(600, &[0, 0, 9000], false), [HELD_OUT]);
    assert_eq!(looked.let_in(), [3]);
}

#[test]
fn paths_of_one_weight_are_let_in_together() {
    let mut looked = Looked::new(&[1, 2, 1, 2]);
    assert_eq!(looked.let_in(), [2, 2]);
    assert_eq!(looked.look(400, &[0, 9000, 0, 0], true), []);
    assert_eq!(looked.look(80, &[0, 9000, 0, 9000], true), [LET_IN]);
    assert_eq!(looked.let_in(), [1, 2, 1, 2]);
    assert_eq!(looked.look(600, &[0, 9000, 0, 0], false), [HELD_OUT]);
}

#[test]
fn a_short_shortage_of_data_holds_nothing_out() {
    let mut looked = Looked::new(&[2, 1]);
    assert_eq!(looked.look(80, &[9000, 0], true), [LET_IN]);
    for _ in 0..20 {
        assert_eq!(looked.look(400, &[0, 0], false), []);
        assert_eq!(looked.look(20, &[9000, 0], true), []);
    }
    // Nor does it matter that the preferred path is not looked at for a moment.
    looked.now_ms += 150;
    assert_eq!(looked.look(400, &[9000, 9000], true), []);
}

#[test]
fn a_path_that_is_needed_again_soon_stays_for_longer() {
    let mut looked = Looked::new(&[2, 1]);
    for room_ms in [500, 1000, 2000, 2000] {
        assert_eq!(looked.look(80, &[9000, 0], true), [LET_IN]);
        assert_eq!(looked.look(room_ms - 40, &[0, 0], false), []);
        assert_eq!(looked.look(80, &[0, 0], false), [HELD_OUT]);
    }
    looked.look(3000, &[0, 0], false);
    assert_eq!(looked.look(80, &[9000, 0], true), [LET_IN]);
    assert_eq!(looked.look(600, &[0, 0], false), [HELD_OUT]);
}

#[test]
fn a_dead_path_lets_the_next_in_and_returns() {
    let mut looked = Looked::new(&[1, 3, 2]);
    looked.slots[1].timeouts.set(DEAD_TIMEOUTS);
    assert_eq!(looked.let_in(), [3, 2], "no step has run yet");
    looked.look(20, &[0, 0, 0], false);
    assert_eq!(looked.let_in(), [3, 2]);
    // The next one is the preferred one meanwhile.
    assert_eq!(looked.look(80, &[0, 0, 9000], true), [LET_IN]);
    assert_eq!(looked.let_in(), [1, 3, 2]);
    looked.slots[1].timeouts.set(0);
    looked.look(1000, &[0, 0, 0], false);
    looked.look(1000, &[0, 0, 0], false);
    assert_eq!(looked.let_in(), [3]);
}

#[test]
fn one_timeout_is_as_good_as_a_full_path() {
    let mut looked = Looked::new(&[2, 1]);
    looked.slots[0].timeouts.set(1);
    looked.slots[0].progress_ns.set(looked.now_ms * MS);
    assert_eq!(looked.look(20, &[0, 0], true), [LET_IN]);
    looked.slots[0].timeouts.set(0);
    assert_eq!(looked.look(600, &[0, 0], false), [HELD_OUT]);
}

#[test]
fn a_backup_takes_no_part_and_relieves_no_ordinary_path() {
    let mut looked = Looked::new(&[3, 2, 1]);
    looked.slots[0].backups.set(1);
    assert_eq!(
        looked.let_in(),
        [3, 2],
        "the kernel gives the backup nothing"
    );
    assert_eq!(looked.look(80, &[0, 9000, 0], true), [LET_IN]);
    assert_eq!(looked.let_in(), [3, 2, 1]);
}

#[test]
fn what_was_seen_before_a_pause_counts_for_nothing() {
    let mut looked = Looked::new(&[2, 1]);
    for _ in 0..20 {
        assert_eq!(looked.look(40, &[9000, 0], true), []);
        looked.now_ms += 1000;
    }
    // Nor does a full path from before a pause keep the next one in.
    assert_eq!(looked.look(80, &[9000, 0], true), [LET_IN]);
    looked.now_ms += 1000;
    assert_eq!(
        looked.overflow.step(&looked.slots, looked.now_ms * MS),
        HELD_OUT
    );
}

#[test]
fn a_long_round_trip_needs_longer_looks() {
    let mut looked = Looked::new(&[2, 1]);
    looked.slots[0].srtt_us.set(600_000);
    assert_eq!(looked.look(480, &[9000, 0], true), []);
    assert_eq!(looked.look(20, &[9000, 0], false), []);
    assert_eq!(looked.look(480, &[9000, 0], true), []);
    assert_eq!(looked.look(20, &[9000, 0], false), []);
    assert_eq!(looked.look(480, &[9000, 0], true), []);
    assert_eq!(looked.look(20, &[9000, 0], false), []);
    assert_eq!(looked.look(400, &[9000, 0], true), [LET_IN]);
}

#[test]
fn only_a_path_with_nothing_to_do_may_rest() {
    let mut looked = Looked::new(&[2, 1]);
    let may_rest = |looked: &Looked| looked.overflow.may_rest(0, &looked.slots[0]);
    looked.look(20, &[0, 0], false);
    assert!(may_rest(&looked));
    looked.look(20, &[1, 0], false);
    assert!(!may_rest(&looked));
    looked.look(80, &[9000, 0], true);
    looked.look(20, &[0, 0], false);
    assert!(!may_rest(&looked), "the next path has to be held out");
}

#[test]
fn data_that_waits_for_long_lets_the_next_in_though_a_path_runs_dry() {
    let mut looked = Looked::new(&[3, 2, 1]);
    assert_eq!(looked.look(480, &[0, 0, 0], true), []);
    assert_eq!(looked.look(40, &[0, 0, 0], true), [LET_IN]);
    // Each further one waits as long, and none is held out meanwhile.
    assert_eq!(looked.look(480, &[0, 0, 0], true), []);
    assert_eq!(looked.look(40, &[0, 0, 0], true), [LET_IN]);
    assert_eq!(looked.look(5000, &[0, 0, 0], true), []);
}
