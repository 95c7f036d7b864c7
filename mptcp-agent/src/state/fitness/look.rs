//! Measures what a path did, and judges whether that is within its bounds.

use std::collections::VecDeque;

use crate::policy::Bound;

/// Loss is judged over so many seconds.
const WINDOW: usize = 5;

/// Loss is judged by so many segments at least, and by so many that one lost
/// segment is no more than half of the bound.
const ENOUGH: f64 = 100.0;

/// So many retransmissions tell enough, however few segments were sent.
const MANY: u64 = 10;

/// The last seconds in which a path sent so many segments have to pass the bound
/// as well: a burst of losses is over by then.
const LATEST: u64 = 20;

/// A path comes back if its loss is at most this part of the bound.
const GOOD_LOSS: f64 = 0.5;

/// A path comes back if its round trip is at most this part of the bound.
const GOOD_RTT: f64 = 0.8;

/// Why a path was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It lost too many segments.
    Loss,
    /// Its round trips took too long.
    Rtt,
    /// It was tried, and nothing was sent over it.
    Idle,
}

impl Reason {
    /// How many of them are reasons to leave out a path that is used.
    pub const COUNT: usize = 2;

    /// The names of these, by [`Reason::index`].
    pub const NAMES: [&str; Self::COUNT] = ["loss", "rtt"];

    /// Returns the name, as in events and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Rtt => "rtt",
            Self::Idle => "idle",
        }
    }

    /// Returns the place in [`Reason::NAMES`].
    pub fn index(self) -> usize {
        usize::from(self != Self::Loss)
    }
}

/// The traffic of a path in one second, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Segments sent, retransmissions included.
    pub sent: u64,
    /// Segments retransmitted.
    pub retransmitted: u64,
    /// Round trips measured.
    pub rtts: u64,
    /// Their sum, in microseconds.
    pub rtt_sum_us: u64,
}

/// The loss and round trip of a path, where they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// The part of the segments that was retransmitted, 0 to 1.
    pub loss: Option<f64>,
    /// The mean of the round trips, in seconds.
    pub rtt_seconds: Option<f64>,
}

impl Second {
    /// Returns the sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            retransmitted: self.retransmitted + other.retransmitted,
            rtts: self.rtts + other.rtts,
            rtt_sum_us: self.rtt_sum_us + other.rtt_sum_us,
        }
    }

    /// Returns what was measured.
    pub fn measured(&self) -> Measured {
        // A retransmission may be counted a second before its sending is.
        let loss = self.retransmitted as f64 / self.sent.max(1) as f64;
        let rtt = self.rtt_sum_us as f64 / self.rtts.max(1) as f64 / 1e6;
        Measured {
            loss: (self.sent != 0).then_some(loss.min(1.0)),
            rtt_seconds: (self.rtts != 0).then_some(rtt),
        }
    }

    /// Returns how far the path is beyond its bounds: the larger of its loss and
    /// its round trip, each as a part of its bound.
    pub fn badness(&self, bound: &Bound) -> f64 {
        let Measured { loss, rtt_seconds } = self.measured();
        let part = |(measured, bound): (f64, f64)| measured / bound;
        let loss = loss.zip(bound.loss()).map_or(0.0, part);
        let rtt = rtt_seconds.zip(bound.rtt_seconds()).map_or(0.0, part);
        loss.max(rtt)
    }

    /// Returns whether there is enough to tell the loss from chance.
    fn is_enough(&self, bound: f64) -> bool {
        self.retransmitted >= MANY || self.sent as f64 >= ENOUGH.max(2.0 / bound)
    }
}

/// The judgement of a path by its last second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It has passed this bound.
    Passed(Reason),
    /// It has kept its bounds.
    Kept,
    /// Nothing that would tell has happened.
    Abstained,
}

/// The last seconds of a path.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<Second>);

impl Recent {
    /// Adds a second, and forgets one that is too old.
    pub fn push(&mut self, second: Second) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(second);
    }

    fn sum(&self) -> Second {
        self.0.iter().copied().fold(Second::default(), Second::plus)
    }

    /// Returns whether the path carried anything lately.
    pub fn carried(&self) -> bool {
        self.sum().sent != 0
    }

    /// Returns what was measured over these seconds.
    pub fn measured(&self) -> Measured {
        self.sum().measured()
    }

    /// Returns [`Second::badness`] over these seconds.
    pub fn badness(&self, bound: &Bound) -> f64 {
        self.sum().badness(bound)
    }

    /// Returns whether the last second has passed a bound.
    pub fn vote(&self, bound: &Bound) -> Vote {
        let latest = self.0.back().copied().unwrap_or_default();
        if latest.sent == 0 && latest.rtts == 0 {
            return match self.carried() {
                true => Vote::Abstained,
                false => Vote::Kept,
            };
        }
        if bound.loss().is_some_and(|bound| self.loses(bound)) {
            return Vote::Passed(Reason::Loss);
        }
        let rtt = latest.measured().rtt_seconds;
        match rtt.zip(bound.rtt_seconds()) {
            Some((rtt, bound)) if rtt > bound => Vote::Passed(Reason::Rtt),
            _ => Vote::Kept,
        }
    }

    fn loses(&self, bound: f64) -> bool {
        let beyond = |second: &Second| second.measured().loss.is_some_and(|loss| loss > bound);
        let mut latest = Second::default();
        for &second in self.0.iter().rev() {
            latest = latest.plus(second);
            if latest.sent >= LATEST {
                break;
            }
        }
        let all = self.sum();
        all.is_enough(bound) && beyond(&all) && beyond(&latest)
    }
}

/// The result of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// Whether the loss is good, and whether it is beyond the bound; `None`
    /// while too little was sent to tell.
    loss: Option<(bool, bool)>,
    /// Whether the round trip is good, and whether it is beyond the bound; `None`
    /// while too few were measured to tell.
    rtt: Option<(bool, bool)>,
    /// Whether no segment was retransmitted of those that were sent.
    clean: bool,
}

impl Finding {
    /// Judges what a path did while it was tried.
    pub fn of(trial: &Second, bound: &Bound) -> Self {
        let Measured { loss, rtt_seconds } = trial.measured();
        let loss = match bound.loss() {
            Some(bound) if trial.is_enough(bound) => {
                loss.map(|loss| (loss <= GOOD_LOSS * bound, loss > bound))
            }
            Some(_) => None,
            None => Some((true, false)),
        };
        let rtt = match bound.rtt_seconds() {
            Some(bound) => rtt_seconds.map(|rtt| (rtt <= GOOD_RTT * bound, rtt > bound)),
            None => Some((true, false)),
        };
        Self {
            loss,
            rtt,
            clean: trial.sent != 0 && trial.retransmitted == 0,
        }
    }

    /// Returns whether more would not change the verdict.
    pub fn decides(&self) -> bool {
        let bad = |one: Option<(bool, bool)>| one.is_some_and(|(good, _)| !good);
        bad(self.loss) || bad(self.rtt) || self.loss.is_some() && self.rtt.is_some()
    }

    /// Returns whether the path is beyond a bound.
    pub fn passes(&self) -> bool {
        let beyond = |one: Option<(bool, bool)>| one.is_some_and(|(_, beyond)| beyond);
        beyond(self.loss) || beyond(self.rtt)
    }

    /// Returns whether the path may come back. Too few segments to judge the loss
    /// by are good if none was lost.
    pub fn is_good(&self) -> bool {
        let loss = self.loss.map_or(self.clean, |(good, _)| good);
        loss && self.rtt.is_some_and(|(good, _)| good)
    }

    /// Returns which bound keeps the path out.
    pub fn reason(&self) -> Reason {
        let loss = self.loss.map_or(self.clean, |(good, _)| good);
        if loss { Reason::Rtt } else { Reason::Loss }
    }
}
