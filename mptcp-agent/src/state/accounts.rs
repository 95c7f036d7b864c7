//! How much of its quota each path has used.
//!
//! ```text
//!   counters of the device, totals of the connections      (once a second)
//!        |  what is new since they were last seen
//!        v
//!   used in this period  -- period over -->  0, and a note of the period before
//!        |  at least the quota
//!        v
//!   spent: the path is held out, or the operator is warned
//! ```
//!
//! * Counters that are lower than before, or that belong to another device or
//!   another boot, have started anew: all that they say is new.
//! * Counters that are seen for the first time count from then on. Only if the
//!   file with what was used is lost, and the host was booted in this period, all
//!   that a device has counted is taken for used, because that is known.
//! * What passed while no agent ran counts in the period in which it is seen.
//! * A clock that jumps back never lowers what was used. If it returns into the
//!   period before, both periods are one; otherwise the present period goes on
//!   until its end.
//!
//! Pure: counters, the time and the time zone are arguments.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mptcp_api::saved::{self, Before, Bytes};

use crate::policy::{Action, Direction, Quota, Quotas, Span};

/// The most accounts that are kept of paths that have no quota any more.
const MOST: usize = 256;

/// The traffic that a path has carried, as its quota counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The counters of its device.
    Device(saved::Device),
    /// The totals of its connections.
    Connections(Bytes),
}

/// The time, and where.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The time of the clock on the wall.
    pub time: Timestamp,
    /// The time zone whose days count.
    pub zone: &'a TimeZone,
}

/// A change of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The label of the path.
    pub path: String,
    /// The kind of change.
    pub to: Turn,
    /// The quota now.
    pub standing: Standing,
}

/// How a quota changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is spent.
    Spent,
    /// It is no longer spent, or a new period has begun.
    Renewed(Cause),
}

/// Why a quota was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A new period has begun.
    Period,
    /// Somebody reset it.
    Reset,
    /// The policy gives it another quota.
    Policy,
}

impl Cause {
    /// Returns the name, as in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Period => "period",
            Self::Reset => "reset",
            Self::Policy => "policy",
        }
    }
}

/// The part of a quota that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The quota.
    pub quota: Quota,
    /// Bytes used in this period, of the direction that counts.
    pub used: u64,
    /// The present period.
    pub span: Span,
}

impl Standing {
    /// Returns whether the quota is spent.
    pub fn is_spent(&self) -> bool {
        self.used >= self.quota.amount.bytes()
    }
}

/// The memory of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    /// The period, as its quota writes it.
    every: String,
    span: Span,
    used: Bytes,
    before: Option<Before>,
    device: Option<saved::Device>,
    connections: Option<Bytes>,
    /// Whether it was reported that the quota is spent.
    spent: bool,
    /// Whether what was used in this period is not known, because the file is
    /// lost.
    lost: bool,
    /// Why the quota is no longer spent, if it is not.
    cause: Option<Cause>,
}

/// The accounts of all paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    by_path: BTreeMap<String, Account>,
}

impl Accounts {
    /// Returns the accounts that were saved.
    pub fn load(saved: &[saved::Account]) -> Self {
        let by_path = saved.iter().map(|one| {
            let account = Account {
                every: one.every.clone(),
                span: Span {
                    start: one.start,
                    end: one.end,
                },
                used: one.used,
                before: one.before,
                device: one.device.clone(),
                connections: one.connections,
                spent: one.spent,
                ..Account::default()
            };
            (one.path.clone(), account)
        });
        Self {
            by_path: by_path.collect(),
        }
    }

    /// Returns what to save.
    pub fn save(&self) -> Vec<saved::Account> {
        let accounts = self.by_path.iter().map(|(path, one)| saved::Account {
            path: path.clone(),
            every: one.every.clone(),
            start: one.span.start,
            end: one.span.end,
            used: one.used,
            before: one.before,
            device: one.device.clone(),
            connections: one.connections,
            spent: one.spent,
        });
        accounts.collect()
    }

    /// Opens an account for each quota that has none, and closes those whose path
    /// has no quota any more once their period is over. `booted` is given if the
    /// file with earlier accounts is lost: then it is when the host was booted, in
    /// seconds since 1970.
    pub fn follow(&mut self, quotas: &Quotas, now: Now<'_>, booted: Option<i64>) {
        let second = now.time.as_second();
        let mut room = MOST;
        self.by_path.retain(|path, one| {
            let listed = quotas.of(path).is_some();
            let kept = listed || second < one.span.end && room > 0;
            room -= usize::from(kept && !listed);
            kept
        });
        for quota in quotas.iter() {
            let label = quota.selector.to_string();
            self.by_path.entry(label).or_insert_with(|| {
                let span = quota.every.span(now.time, now.zone);
                Account {
                    every: quota.every.to_string(),
                    span,
                    lost: booted.is_some_and(|booted| span.contains(booted)),
                    ..Account::default()
                }
            });
        }
    }

    /// Takes note that the programs count the totals of connections from 0 on: those
    /// of `path`, or of every path.
    pub fn restart_totals(&mut self, path: Option<&str>) {
        for (label, account) in &mut self.by_path {
            if path.is_none_or(|path| path == label) {
                account.connections = Some(Bytes::default());
            }
        }
    }

    /// Begins new periods that are due, adds what was carried since the last call,
    /// and returns what has become of the quotas. `read` returns what a path has
    /// carried so far, if that is known.
    pub fn step(
        &mut self,
        quotas: &Quotas,
        now: Now<'_>,
        read: impl Fn(&Quota, &str) -> Option<Reading>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for quota in quotas.iter() {
            let label = quota.selector.to_string();
            let Some(account) = self.by_path.get_mut(&label) else {
                continue;
            };
            account.renew(quota, now);
            if let Some(reading) = read(quota, &label) {
                account.count(reading);
            }
            let turn = account.turn(quota);
            changes.extend(turn.map(|to| Change {
                path: label,
                to,
                standing: account.standing(quota),
            }));
        }
        changes
    }

    /// Forgets what a path has used, and begins its period anew. Returns false if
    /// it has no quota.
    pub fn reset(&mut self, path: &str, quotas: &Quotas, now: Now<'_>) -> bool {
        let Some((quota, account)) = quotas.of(path).zip(self.by_path.get_mut(path)) else {
            return false;
        };
        account.span = quota.every.span(now.time, now.zone);
        account.every = quota.every.to_string();
        (account.used, account.before) = (Bytes::default(), None);
        account.lost = false;
        account.cause = Some(Cause::Reset);
        true
    }

    /// Returns the part of a path's quota that is shown, if it has one.
    pub fn standing(&self, path: &str, quotas: &Quotas) -> Option<Standing> {
        let (quota, account) = quotas.of(path).zip(self.by_path.get(path))?;
        Some(account.standing(quota))
    }

    /// Returns whether the path of this label carries nothing while another can,
    /// because its quota is spent.
    pub fn holds_out(&self, path: &str, quotas: &Quotas) -> bool {
        let standing = self.standing(path, quotas);
        standing.is_some_and(|one| one.is_spent() && one.quota.action == Action::Standby)
    }
}

impl Account {
    /// Lets the period be the present one.
    fn renew(&mut self, quota: &Quota, now: Now<'_>) {
        let every = quota.every.to_string();
        let second = now.time.as_second();
        if every != self.every {
            // It is unknown how much of the use falls into the new period, so all of it
            // counts.
            self.every = every;
            self.span = quota.every.span(now.time, now.zone);
            self.before = None;
        } else if second >= self.span.end {
            self.before = Some(Before {
                start: self.span.start,
                end: self.span.end,
                used: self.used,
            });
            self.span = quota.every.span(now.time, now.zone);
            (self.used, self.lost) = (Bytes::default(), false);
            self.cause = Some(Cause::Period);
        } else if second < self.span.start
            && let Some(before) = self.before
            && (before.start..before.end).contains(&second)
        {
            self.span = Span {
                start: before.start,
                end: before.end,
            };
            self.used = plus(self.used, before.used);
            self.before = None;
        }
    }

    /// Adds what is new.
    fn count(&mut self, reading: Reading) {
        let fresh = match reading {
            Reading::Device(now) => {
                self.connections = None;
                let fresh = match &self.device {
                    Some(last) if (&last.boot, last.ifindex) == (&now.boot, now.ifindex) => {
                        since(now.bytes, last.bytes)
                    }
                    Some(_) => now.bytes,
                    None if self.lost => now.bytes,
                    None => Bytes::default(),
                };
                self.device = Some(now);
                fresh
            }
            Reading::Connections(now) => {
                self.device = None;
                let last = self.connections.replace(now);
                last.map_or(Bytes::default(), |last| since(now, last))
            }
        };
        self.lost = false;
        self.used = plus(self.used, fresh);
    }

    fn standing(&self, quota: &Quota) -> Standing {
        Standing {
            quota: quota.clone(),
            used: match quota.direction {
                Direction::Both => self.used.sent.saturating_add(self.used.received),
                Direction::Sent => self.used.sent,
                Direction::Received => self.used.received,
            },
            span: self.span,
        }
    }

    /// Returns what has become of the quota since the last call.
    fn turn(&mut self, quota: &Quota) -> Option<Turn> {
        let cause = self.cause.take();
        let spent = self.standing(quota).is_spent();
        let was = std::mem::replace(&mut self.spent, spent);
        match (was, spent) {
            (false, true) => Some(Turn::Spent),
            (true, false) => Some(Turn::Renewed(cause.unwrap_or(Cause::Policy))),
            (false, false) => cause.map(Turn::Renewed),
            // Spent again at once.
            (true, true) => cause.map(|_| Turn::Spent),
        }
    }
}

/// Returns how much counters have risen. One that is lower has started anew.
fn since(now: Bytes, last: Bytes) -> Bytes {
    let one = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
    Bytes {
        sent: one(now.sent, last.sent),
        received: one(now.received, last.received),
    }
}

fn plus(one: Bytes, other: Bytes) -> Bytes {
    Bytes {
        sent: one.sent.saturating_add(other.sent),
        received: one.received.saturating_add(other.received),
    }
}

#[cfg(test)]
mod tests;
