//! Timers of the protocol: at most one for each subflow and each channel.

use std::collections::{BTreeSet, HashMap};

const MS: u64 = 1_000_000;

/// Time between a subflow's hellos while the peer has not answered. They go out
/// at 0, 200 ms, 600 ms, 1.5 s, 3 s and 6 s, then each [`ASK_SLOWLY`].
const ASK: [u64; 5] = [200 * MS, 400 * MS, 900 * MS, 1500 * MS, 3000 * MS];

/// Time between its later hellos, when there is probably no agent.
const ASK_SLOWLY: u64 = 15_000 * MS;

/// Number of unanswered hellos after which there seems to be no agent.
pub const NO_AGENT_TRIES: u32 = ASK.len() as u32;

/// Time that sending them takes. A server waits as long for the first hello.
pub const NO_AGENT_AFTER: u64 = 6000 * MS;

/// Time that a valid message keeps its channel alive.
pub const ALIVE: u64 = 2500 * MS;

/// Time between hellos on a channel while they are answered.
pub const KEEP: u64 = 500 * MS;

/// Time between hellos on a channel over which much is copied: the answers control
/// the rate of the copies, so they must come often.
pub const KEEP_LIVELY: u64 = 100 * MS;

/// With more channels than this, [`KEEP_LIVELY`] is not used.
pub const FEW_CHANNELS: usize = 64;

/// Time until the next hello if one is not answered. It is short, so that a few
/// losses do not make a channel look dead.
pub const KEEP_UNANSWERED: u64 = 250 * MS;

/// How long a channel outlives its last subflow, at the end that sends hellos.
/// The next connection between the two agents then has copies from the start.
pub const LINGER: u64 = 60_000 * MS;

/// How long a channel outlives its last subflow at the end that answers. It is longer,
/// so that this end does not forget the channel first.
pub const LINGER_SERVER: u64 = 65_000 * MS;

/// Time between hellos to a peer that fell silent, at first.
const SILENT: u64 = 500 * MS;

/// Time between such hellos later.
const SILENT_LATER: u64 = 2000 * MS;

/// Silence after which [`SILENT_LATER`] applies.
const SILENT_LATER_AFTER: u64 = 10_000 * MS;

/// Time between hellos on a channel whose peer was replaced. They move its
/// subflows to the new peer's channel.
pub const REPLACED: u64 = 10 * MS;

/// Time for which a wrong HMAC counts as recent; longer than [`ASK_SLOWLY`].
pub const REFUSED: u64 = 30_000 * MS;

/// Returns the time from a subflow's `tries`-th hello (from 1) to the next.
pub fn ask_again(tries: u32) -> u64 {
    let at = tries.saturating_sub(1) as usize;
    ASK.get(at).copied().unwrap_or(ASK_SLOWLY)
}

/// Returns the time between hellos on a channel that has been silent for this
/// long.
pub fn keep_silent(silent_ns: u64) -> u64 {
    if silent_ns < SILENT_LATER_AFTER {
        SILENT
    } else {
        SILENT_LATER
    }
}

/// The owner of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A subflow, by its socket's cookie.
    Subflow(u64),
    /// A channel, by its index.
    Channel(u32),
}

/// Timers in order. Setting, cancelling and popping cost log n.
#[derive(Debug, Default)]
pub struct Schedule {
    ordered: BTreeSet<(u64, Timer)>,
    due: HashMap<Timer, u64>,
}

impl Schedule {
    /// Sets a timer, or moves it; `None` cancels it.
    pub fn set(&mut self, timer: Timer, due_ns: Option<u64>) {
        let before = match due_ns {
            Some(due_ns) => self.due.insert(timer, due_ns),
            None => self.due.remove(&timer),
        };
        if let Some(before) = before {
            self.ordered.remove(&(before, timer));
        }
        if let Some(due_ns) = due_ns {
            self.ordered.insert((due_ns, timer));
        }
    }

    /// Takes the first timer that is due.
    pub fn pop(&mut self, now_ns: u64) -> Option<Timer> {
        let (due_ns, timer) = *self.ordered.first()?;
        if due_ns > now_ns {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }

    /// Returns the time of the first timer.
    pub fn next_ns(&self) -> Option<u64> {
        self.ordered.first().map(|(due_ns, _)| *due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_come_when_the_design_says() {
        let mut at = 0;
        let times: Vec<u64> = (1..=8)
            .map(|tries| {
                at += ask_again(tries);
                at / MS
            })
            .collect();
        assert_eq!(times, [200, 600, 1500, 3000, 6000, 21_000, 36_000, 51_000]);
        let before: u64 = (1..=NO_AGENT_TRIES).map(ask_again).sum();
        assert_eq!(before, NO_AGENT_AFTER);
        const { assert!(REFUSED > ASK_SLOWLY) };
    }

    #[test]
    fn a_timer_has_one_time() {
        let mut schedule = Schedule::default();
        schedule.set(Timer::Channel(1), Some(20));
        schedule.set(Timer::Subflow(7), Some(30));
        schedule.set(Timer::Channel(1), Some(40));
        assert_eq!(schedule.next_ns(), Some(30));
        assert_eq!(schedule.pop(29), None);
        assert_eq!(schedule.pop(50), Some(Timer::Subflow(7)));
        assert_eq!(schedule.pop(50), Some(Timer::Channel(1)));
        assert_eq!(schedule.pop(50), None);
        schedule.set(Timer::Channel(1), Some(60));
        schedule.set(Timer::Channel(1), None);
        assert_eq!(schedule.next_ns(), None);
    }
}
