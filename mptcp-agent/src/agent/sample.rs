//! The work of once a second: the agent reads the totals, and follows changes of
//! the host.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mptcp_api::schema::{Lost, Reply};
use mptcp_common::abi::sweep;

use super::Agent;
use crate::kernel::monotonic_ns;
use crate::redundancy;

/// A sample that comes this long after the last sweep sets the timers of held-out
/// subflows anew ([`WAKE_SECONDS`]). Every sample does, unless another sweep has
/// just done it. If a sample comes late, the kernel sends a keepalive probe, and the
/// subflow stays held out, because the programs see that the agent lives.
///
/// [`WAKE_SECONDS`]: mptcp_common::abi::WAKE_SECONDS
const PUT_OFF: Duration = Duration::from_millis(500);

impl Agent {
    /// Takes a sample of what the kernel counts, and mends what has changed
    /// meanwhile.
    pub(super) fn sample(&mut self) {
        self.kernel.flush_log();
        self.systemd.status(format!("policy {}", self.policy));
        self.follow_cgroup();
        self.follow_rule_cgroups();
        if self.unpublished {
            self.publish_again();
        }
        if self.kernel.restore(self.cgroup.as_fd()) || self.let_in {
            self.sweep(sweep::APPLY);
        }
        let totals = self.kernel.totals();
        match &totals {
            Ok(totals) => {
                self.on_lost(totals.events_lost);
                self.let_in_again(totals.readmitted);
                self.put_off_waking(totals.timers);
            }
            Err(error) => tracing::debug!("no totals: {error:#}"),
        }
        match self.kernel.path_stats() {
            Ok(stats) => {
                if let Ok(totals) = totals {
                    self.note_unused(&stats, &totals);
                    self.warn_if_unmatched(&stats, &totals);
                }
                self.count_quotas(&stats);
                self.judge_paths(&stats);
                self.weigh_paths();
                self.ask_peers();
                self.reach.push(&stats);
                let service = self.redundant.as_ref();
                self.reach.silent = service
                    .map(redundancy::Service::silent_devices)
                    .unwrap_or_default();
                self.history.push(monotonic_ns(), stats);
            }
            Err(error) => tracing::debug!("no sample: {error:#}"),
        }
    }

    /// Sweeps if connections were let in again on paths that they had done
    /// without. Their idle subflows have no callback that would do it.
    fn let_in_again(&mut self, readmitted: u64) {
        if readmitted != self.readmitted {
            self.readmitted = readmitted;
            self.sweep(sweep::APPLY);
        }
    }

    /// Sets the timers anew that wake held-out subflows when the agent has died.
    /// Any sweep does that.
    fn put_off_waking(&mut self, timers: u64) {
        if timers > 0 && self.swept.is_none_or(|swept| swept.elapsed() >= PUT_OFF) {
            self.sweep(sweep::ACCOUNT);
        }
    }

    /// Checks whether the cgroup was removed, which detaches the programs that
    /// were attached to it, and whether another one has taken its place.
    fn follow_cgroup(&mut self) {
        let Some(found) = self.cgroup.changed() else {
            return;
        };
        match self.kernel.follow_cgroup(found.as_ref().map(AsFd::as_fd)) {
            Ok(()) if found.is_some() => {
                tracing::info!("the cgroup is there again, and so is the sockops program");
                self.sweep(sweep::APPLY);
            }
            Ok(()) => tracing::warn!(
                "the cgroup is gone: no connection is seen until there is one in its place"
            ),
            Err(error) => tracing::error!("cannot attach to the new cgroup: {error:#}"),
        }
    }

    /// Takes note of how many events were lost so far.
    fn on_lost(&mut self, events_lost: u64) {
        if let Some(service) = &mut self.redundant {
            service.on_lost(events_lost);
        }
        let lost = events_lost.saturating_sub(self.events_lost);
        self.events_lost = events_lost;
        if lost > 0 {
            tracing::warn!(
                lost,
                "events were lost: they came faster than they were read"
            );
            // The send fails only if no client listens, so ignore the error.
            let _ = self.subscribers.send(Arc::new(Reply::Lost(Lost {
                in_ring: lost,
                to_client: 0,
            })));
        }
    }
}
