//! Leaves out paths that pass a bound, and tries them again, as
//! [`crate::state::fitness`] decides.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mptcp_api::schema::{Event, Reply};
use mptcp_common::abi::{PathStats, UNKNOWN_PATH};

use super::Agent;
use crate::api::control::view;
use crate::state::fitness::{Change, Overlay, Second, Seen, Standing};

impl Agent {
    /// Looks at what each path did since the last call, a second ago.
    /// [`Agent::weigh_paths`] lets the programs know of what follows.
    pub(super) fn judge_paths(&mut self, stats: &[PathStats]) {
        let before = std::mem::replace(&mut self.judged, stats.to_vec());
        if !self.policy.bounds().act() || before.is_empty() {
            return;
        }
        let seen = (0..).zip(stats.iter().zip(&before));
        let seen = seen.filter_map(|(index, (now, before))| {
            let known = index != UNKNOWN_PATH && *now != PathStats::default();
            known.then(|| (index, self.seen(index, now, before)))
        });
        let seen: Vec<(u32, Seen)> = seen.collect();
        let changes = self.judge.step(Instant::now(), &seen);
        for change in &changes {
            self.report_left_out(change);
        }
    }

    /// Lets the programs know which paths are left out, because they passed a
    /// bound or their quota is spent, and which are tried.
    pub(super) fn weigh_paths(&mut self) {
        let judged = match self.policy.bounds().act() {
            true => self.judge.overlay(self.policy.caps()),
            false => Overlay::default(),
        };
        let overlay = self
            .table
            .and_held_out(judged, |label| self.is_spent(label));
        if self.table.set_overlay(overlay) {
            self.publish_weights();
        }
    }

    fn seen(&self, index: u32, now: &PathStats, before: &PathStats) -> Seen {
        let fresh = |total: fn(&PathStats) -> u64| total(now).saturating_sub(total(before));
        let label = self.table.label(index);
        let spent = self.is_spent(label);
        Seen {
            bound: self.policy.bounds().of(label),
            // A path whose quota is spent takes no other one's place.
            weight: if spent { 0 } else { self.table.weight(index) },
            live: now.live,
            did: Second {
                sent: fresh(|stats| stats.sent_segments),
                retransmitted: fresh(|stats| stats.retransmitted_segments),
                rtts: fresh(|stats| stats.rtt.iter().sum()),
                rtt_sum_us: fresh(|stats| stats.rtt_sum_us),
            },
        }
    }

    /// Publishes the table after weights have changed. Idle subflows have no
    /// callback that would bring them back or hold them out, so a sweep does.
    fn publish_weights(&mut self) {
        match self.publish_table() {
            Ok(()) => {
                self.unpublished = false;
                self.sweep_timer.request(Instant::now());
            }
            Err(error) => {
                // The next sample tries again.
                self.unpublished = true;
                tracing::error!("cannot publish which paths are left out: {error}");
            }
        }
    }

    /// Reports what has become of a path in the log, and to the clients that want
    /// events.
    fn report_left_out(&self, change: &Change) {
        let label = self.table.label(change.path);
        let bound = self.policy.bounds().of(label);
        let report = view::fitness_event(change, bound, label, SystemTime::now());
        log(change, &report);
        // The send fails only if no client listens, so ignore the error.
        let _ = self.subscribers.send(Arc::new(Reply::Event(report)));
    }
}

fn log(change: &Change, report: &Event) {
    let words = match change.to {
        Standing::Used => "path is used again",
        Standing::LeftOut => "path is beyond its bounds and is left out",
        Standing::Tried => "path is tried again",
    };
    tracing::info!(
        event = report.event,
        path = report.path,
        reason = report.reason,
        loss = report.loss,
        loss_bound = report.loss_bound,
        rtt_seconds = report.rtt_seconds,
        rtt_bound_seconds = report.rtt_bound_seconds,
        "{words}"
    );
}
