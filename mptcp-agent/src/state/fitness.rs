//! Decides which paths are left out because they pass a bound that the user gave
//! for their loss or round trip, and when they are tried again.
//!
//! ```text
//!             bound passed for STREAK s, and another path can carry
//!      used -------------------------------------------------------> left out
//!       ^                                                             |   ^
//!       |  loss below half of its bound, round trip               wait s  |
//!       |  below four fifths of its                                   |   | else
//!       +-------------------------------- tried <---------------------+   |
//!                                           |                             |
//!                                           +-----------------------------+
//!      wait   10 s, then twice as long after each trial that fails, and each time
//!             the path does not stay in for CALM; up to MAX_WAIT
//!      trial  TRIAL s, of which the first does not count; up to LONG_TRIAL while
//!             too little is sent to judge by
//! ```
//!
//! Limits:
//! * At least one path that has a weight and subflows is always used: the best
//!   one, as far as they are known. It stays even if it passes its bounds. If it
//!   is gone, the best one that is left out comes back.
//! * One path is tried at a time, and only while connections send something.
//! * What a path does is known from what is sent over it: a path that nobody uses
//!   passes no bound.
//!
//! Pure: what each path did comes in once a second, with the time.

mod look;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::policy::Bound;
use look::{Finding, Recent, Vote};
pub use look::{Measured, Reason, Second};

/// A path is left out after a bound was passed for so many seconds in a row.
const STREAK: u32 = 3;

/// How long a path is left out at first.
const WAIT: Duration = Duration::from_secs(10);

/// How long a path is left out at most before it is tried again.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// A path that passes a bound again after it was in for less than this is left
/// out for twice as long as the last time.
const CALM: Duration = MAX_WAIT;

/// How many seconds a trial takes. The first does not count, since a subflow that
/// starts again may overshoot.
const TRIAL: u32 = 4;

/// After so many seconds a trial ends with whatever was sent.
const LONG_TRIAL: u32 = 30;

/// A path that is the last one is left out for another if that one is as bad as
/// this part of it, or better.
const BETTER: f64 = 0.8;

/// A tried path gets about one part of so many.
const SMALL: u32 = 20;

/// The knowledge of one path after a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its bounds.
    pub bound: Bound,
    /// The weight that the user gave it; 0 while its quota is spent.
    pub weight: u16,
    /// Open subflows.
    pub live: u64,
    /// Its traffic during this second.
    pub did: Second,
}

/// A change of a path's standing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The path.
    pub path: u32,
    /// Its standing from now on.
    pub to: Standing,
    /// Why it was left out, at first or again; otherwise why it had been.
    pub reason: Reason,
    /// The last measurement; that of just now if there was one.
    pub measured: Measured,
}

/// The traffic that a path may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It carries what the policy gives it.
    #[default]
    Used,
    /// Nothing while another path carries.
    LeftOut,
    /// A small part, to see whether it is better now.
    Tried,
}

/// Weights other than those of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The weights of paths that are left out (0) or tried.
    pub weights: BTreeMap<u32, u16>,
    /// The weights of all others are multiplied by this, if it is not 0.
    pub scale: u32,
}

/// The memory of one path.
#[derive(Clone, Debug, Default)]
struct Path {
    seen: Seen,
    recent: Recent,
    standing: Standing,
    /// For how many seconds in a row a bound was passed.
    streak: u32,
    /// Why it is left out, and what was measured then.
    why: Option<(Reason, Measured)>,
    /// How far it is beyond its bounds, as it was last known: more than 1 if it is.
    badness: f64,
    /// When it was left out, and how long it is.
    since: Option<Instant>,
    until: Option<Instant>,
    wait: Duration,
    /// When it last came back.
    back: Option<Instant>,
    /// Seconds of the trial so far, and what was seen in those that count.
    tried: u32,
    trial: Second,
    /// How often it was left out, by reason.
    count: [u64; Reason::COUNT],
}

impl Path {
    /// Returns whether connections could use it.
    fn usable(&self) -> bool {
        self.seen.weight > 0 && (self.seen.live > 0 || self.recent.carried())
    }

    /// Returns whether it could take the place of another path.
    fn relieves(&self) -> bool {
        self.standing == Standing::Used && self.usable()
    }

    /// Ends its being left out.
    fn come_back(&mut self, now: Instant) {
        self.standing = Standing::Used;
        (self.streak, self.since, self.until) = (0, None, None);
        self.back = Some(now);
    }

    /// Starts its being left out.
    fn leave(&mut self, reason: Reason, now: Instant) {
        let soon = self.back.is_some_and(|back| now - back < CALM);
        self.wait = if soon && !self.wait.is_zero() {
            (2 * self.wait).min(MAX_WAIT)
        } else {
            WAIT
        };
        self.standing = Standing::LeftOut;
        self.why = Some((reason, self.recent.measured()));
        self.badness = self.recent.badness(&self.seen.bound);
        self.since = Some(now);
        self.until = Some(now + self.wait);
        let count = &mut self.count[reason.index()];
        *count = count.saturating_add(1);
    }
}

/// The part that is shown of a path that has bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fitness {
    /// The traffic that it may carry.
    pub standing: Standing,
    /// Its bounds.
    pub bound: Bound,
    /// Why it is left out, and for how long it has been; `None` if it is used.
    pub why: Option<(Reason, Measured, Duration)>,
    /// How often it was left out, by [`Reason::index`].
    pub count: [u64; Reason::COUNT],
}

/// All paths that have bounds, and the others that could take their place.
#[derive(Debug, Default)]
pub struct Judge {
    paths: BTreeMap<u32, Path>,
    /// For how many seconds in a row no path was used that can be.
    lonely: u32,
}

impl Judge {
    /// Takes what each path did during the last second, and returns what has
    /// become of them, in the order of events.
    pub fn step(&mut self, now: Instant, seen: &[(u32, Seen)]) -> Vec<Change> {
        for &(index, seen) in seen {
            let path = self.paths.entry(index).or_default();
            path.seen = seen;
            path.recent.push(seen.did);
        }
        let mut changes = Vec::new();
        self.try_out(now, &mut changes);
        self.leave_out(now, &mut changes);
        self.keep_one(now, &mut changes);
        self.start_trial(now, &mut changes);
        changes
    }

    /// Forgets a path, because its index went to another.
    pub fn forget(&mut self, path: u32) {
        self.paths.remove(&path);
    }

    /// Follows a change of policy: each path for which `stays` does not hold is
    /// used again. The others go on, but for a trial, which starts anew.
    pub fn follow(&mut self, now: Instant, stays: impl Fn(u32) -> bool) {
        for (&index, path) in &mut self.paths {
            if !stays(index) {
                let count = path.count;
                *path = Path {
                    count,
                    ..Path::default()
                };
            } else if path.standing == Standing::Tried {
                path.standing = Standing::LeftOut;
                path.until = Some(now);
            }
        }
    }

    /// Returns the weights that paths have now, if the policy's weights are not
    /// theirs. `shares` says whether weights are parts of the traffic, rather
    /// than ranks.
    pub fn overlay(&self, shares: bool) -> Overlay {
        let used = || self.paths.values().filter(|path| path.relieves());
        let mut overlay = Overlay::default();
        for (&index, path) in &self.paths {
            let weight = match path.standing {
                Standing::Used => continue,
                Standing::LeftOut => 0,
                Standing::Tried if shares => {
                    let sum: u32 = used().map(|path| u32::from(path.seen.weight)).sum();
                    // Small weights have no twentieth, so that all are scaled.
                    let scale = (SMALL - 1).div_ceil(sum.max(1));
                    overlay.scale = scale;
                    let small = sum * scale / (SMALL - 1);
                    let own = u32::from(path.seen.weight) * scale;
                    small.min(own).max(1)
                }
                // It comes before no path that carries now.
                Standing::Tried => {
                    let most = used().map(|path| path.seen.weight).max();
                    most.map_or(path.seen.weight, |most| most.min(path.seen.weight))
                        .into()
                }
            };
            let weight = u16::try_from(weight).unwrap_or(u16::MAX);
            overlay.weights.insert(index, weight);
        }
        overlay
    }

    /// Returns the part of a path that is shown; `None` if it has no bounds.
    pub fn fitness(&self, index: u32, now: Instant) -> Option<Fitness> {
        let path = self.paths.get(&index)?;
        let why = path.why.filter(|_| path.standing != Standing::Used);
        (!path.seen.bound.is_none()).then(|| Fitness {
            standing: path.standing,
            bound: path.seen.bound,
            why: why.map(|(reason, measured)| {
                let since = path.since.map_or(Duration::ZERO, |since| now - since);
                (reason, measured, since)
            }),
            count: path.count,
        })
    }

    /// Leaves paths out that have passed a bound for long enough, the worst one
    /// first, as long as another one can take their place.
    fn leave_out(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let mut beyond: Vec<(u32, Reason, f64)> = Vec::new();
        for (&index, path) in &mut self.paths {
            if path.standing != Standing::Used || path.seen.weight == 0 {
                path.streak = 0;
                continue;
            }
            match path.recent.vote(&path.seen.bound) {
                Vote::Passed(reason) => {
                    path.streak += 1;
                    if path.streak >= STREAK {
                        let badness = path.recent.badness(&path.seen.bound);
                        beyond.push((index, reason, badness));
                    }
                }
                Vote::Kept => path.streak = 0,
                Vote::Abstained => {}
            }
        }
        beyond.sort_by(|one, other| other.2.total_cmp(&one.2));
        for (index, reason, _) in beyond {
            if self.has_other(index) {
                self.leave(index, reason, now, changes);
            }
        }
    }

    fn has_other(&self, index: u32) -> bool {
        let mut others = self.paths.iter().filter(|(other, _)| **other != index);
        others.any(|(_, path)| path.relieves())
    }

    fn leave(&mut self, index: u32, reason: Reason, now: Instant, changes: &mut Vec<Change>) {
        if let Some(path) = self.paths.get_mut(&index) {
            path.leave(reason, now);
            changes.extend(change(index, path));
        }
    }

    /// Lets the best path back in if no path with a weight is left that is used.
    fn keep_one(&mut self, now: Instant, changes: &mut Vec<Change>) {
        if self.paths.values().any(Path::relieves) {
            self.lonely = 0;
            return;
        }
        let out = |path: &Path| {
            path.standing != Standing::Used && path.seen.live > 0 && path.seen.weight > 0
        };
        let left = self.paths.iter_mut().filter(|(_, path)| out(path));
        let best = left.min_by(|(_, one), (_, other)| one.badness.total_cmp(&other.badness));
        let Some((&index, path)) = best else {
            self.lonely = 0;
            return;
        };
        // The subflows of the others may be about to open.
        self.lonely += 1;
        if self.lonely >= STREAK {
            self.lonely = 0;
            path.come_back(now);
            changes.extend(change(index, path));
        }
    }

    /// Starts the trial of the path that has waited longest, if none is tried.
    fn start_trial(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let tried = |path: &Path| path.standing == Standing::Tried;
        let busy = self.paths.values().any(|path| path.recent.carried());
        if self.paths.values().any(tried) || !busy {
            return;
        }
        let due = |path: &Path| {
            let waited = path.until.is_some_and(|until| until <= now);
            path.standing == Standing::LeftOut && path.seen.live > 0 && waited
        };
        let waiting = self.paths.iter_mut().filter(|(_, path)| due(path));
        if let Some((&index, path)) = waiting.min_by_key(|(_, path)| path.until) {
            path.standing = Standing::Tried;
            (path.tried, path.trial) = (0, Second::default());
            changes.extend(change(index, path));
        }
    }

    /// Judges the path that is tried.
    fn try_out(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let tried = |(_, path): &(&u32, &Path)| path.standing == Standing::Tried;
        let Some(index) = self.paths.iter().find(tried).map(|(&index, _)| index) else {
            return;
        };
        let last = self.last_beyond();
        let Some(path) = self.paths.get_mut(&index) else {
            return;
        };
        path.tried += 1;
        if path.tried > 1 {
            path.trial = path.trial.plus(path.seen.did);
        }
        let finding = Finding::of(&path.trial, &path.seen.bound);
        let long = path.tried >= LONG_TRIAL;
        let enough = match path.tried {
            0..=2 => false,
            // A path that is bad already need not become worse.
            3..TRIAL => finding.passes(),
            _ => long || finding.decides(),
        };
        if !enough {
            return;
        }
        let measured = path.trial.measured();
        if finding.is_good() {
            path.come_back(now);
            changes.extend(change(index, path).map(|change| Change { measured, ..change }));
            return;
        }
        if path.trial.sent == 0 {
            // Nothing is known. It waits as long as before.
            path.standing = Standing::LeftOut;
            path.until = Some(now + path.wait);
            changes.push(Change {
                path: index,
                to: Standing::LeftOut,
                reason: Reason::Idle,
                measured,
            });
            return;
        }
        path.badness = path.trial.badness(&path.seen.bound);
        let reason = finding.reason();
        if let Some((other, why, badness)) = last
            && path.badness < BETTER * badness
        {
            path.come_back(now);
            changes.extend(change(index, path));
            self.leave(other, why, now, changes);
            return;
        }
        path.standing = Standing::LeftOut;
        path.wait = (2 * path.wait).min(MAX_WAIT);
        path.until = Some(now + path.wait);
        path.why = Some((reason, measured));
        changes.extend(change(index, path));
    }

    /// Returns the only path that is used, if it has passed a bound for long
    /// enough, with the bound and how far it is beyond.
    fn last_beyond(&self) -> Option<(u32, Reason, f64)> {
        let mut used = self.paths.iter().filter(|(_, path)| path.relieves());
        let ((&index, path), None) = (used.next()?, used.next()) else {
            return None;
        };
        let bound = &path.seen.bound;
        let Vote::Passed(reason) = path.recent.vote(bound) else {
            return None;
        };
        (path.streak >= STREAK).then(|| (index, reason, path.recent.badness(bound)))
    }
}

/// Returns what has become of a path; `None` if it was never left out.
fn change(index: u32, path: &Path) -> Option<Change> {
    path.why.map(|(reason, measured)| Change {
        path: index,
        to: path.standing,
        reason,
        measured,
    })
}

#[cfg(test)]
mod tests;
