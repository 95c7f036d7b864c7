//! The agent's life: start, one loop, stop.
//!
//! One task owns the kernel side, so nothing is locked and scrapes, sweeps and
//! updates never overlap. It may block for the milliseconds that a sweep
//! takes: HTTP, netlink and the control socket run on a thread of their own.
//! Twice a second it tells the programs that it is alive; so if it hangs, they
//! lift what it set.
//!
//! However the loop ends (a signal, an error, a panic of any task), the kernel
//! side is shut down, or dropped, which lifts what was set; only one that hands
//! over leaves it to the next agent.
//!
//! | file | what it does |
//! |---|---|
//! | `start.rs` | what comes before the loop |
//! | `mod.rs` | the loop, and its end |
//! | `switch.rs` | another policy, while it runs |
//! | `change.rs` | its two phases, and what each failure leaves |
//! | `answers.rs` | what HTTP and the control socket ask |
//! | `tell.rs` | events, in the log and to clients |
//! | `warnings.rs` | weights that do not do what was meant, each told once |

mod answers;
mod change;
mod claim;
mod start;
mod switch;
mod tell;
mod warnings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use mptcp_api::schema::{Lost, Reply};
use mptcp_common::abi::{Event, PathStats, UNKNOWN_PATH, sweep};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, sleep_until};

use crate::cli::RunArgs;
use crate::clock::monotonic_ns;
use crate::control::{Call, EventSender};
use crate::devices::{self, Present};
use crate::events::Change;
use crate::host::Cgroup;
use crate::http::Request;
use crate::kernel::{Events, Kernel, Sweep};
use crate::pace::Pace;
use crate::paths::PathTable;
use crate::policy::{Key, Policy};
use crate::recent::Recent;
use crate::redundant::{self, Received};
use crate::signals::{Hangup, Signals};
use claim::Host;
use switch::Revert;
use warnings::Warnings;

/// Runs until a signal or another agent ends it.
///
/// # Errors
/// The agent cannot start, or cannot go on.
pub fn run(args: &RunArgs, policy: &Policy) -> Result<()> {
    let hangup = Hangup::ignore()?;
    let mut host = Host::claim(args, policy)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Before anything is attached: from here on signals wait for the loop.
        let mut signals = Signals::new(hangup)?;
        let mut agent = Agent::start(args, policy, &mut host).await?;
        let outcome = agent.serve(&mut signals).await;
        agent.finish(outcome)
    })
}

/// How the loop ended.
enum End {
    /// By the signal of this name: in good order.
    Signal(&'static str),
    /// Another agent takes over; who asked is told once all is ready for it.
    HandOver(oneshot::Sender<()>),
}

/// Everything that runs.
struct Agent {
    kernel: Kernel,
    policy: Policy,
    /// The content of the policy's key file.
    key: Key,
    table: PathTable,
    events: Events,
    links: watch::Receiver<Present>,
    cgroup: Cgroup,
    redundant: Option<redundant::Service>,
    /// What arrives on the redundant policy's port; closed without it.
    datagrams: mpsc::Receiver<Received>,
    requests: mpsc::Receiver<Request>,
    calls: mpsc::Receiver<Call>,
    /// Another agent wants to take over.
    hand_over: Option<oneshot::Sender<()>>,
    /// To the clients that want events.
    told: EventSender,
    events_lost: u64,
    tasks: JoinSet<Result<()>>,
    tick: Interval,
    beat: Interval,
    started: Instant,
    listen: SocketAddr,
    recent: Recent,
    pace: Pace,
    revert: Option<Revert>,
    /// The kernel side does not have the policy in force, or not in full.
    unpublished: bool,
    /// A failing sweep is told once, not twenty times a second.
    sweep_failed: bool,
    /// So is what follows from the weights.
    warnings: Warnings,
}

impl Agent {
    /// Runs until it is told to end, or until it cannot go on.
    async fn serve(&mut self, signals: &mut Signals) -> Result<End> {
        loop {
            if let Some(successor) = self.hand_over.take() {
                return Ok(End::HandOver(successor));
            }
            tokio::select! {
                signal = signals.shutdown() => return Ok(End::Signal(signal)),
                event = self.events.next() => {
                    self.on_event(&event.context("cannot read events")?);
                }
                changed = self.links.changed() => {
                    // The sender is gone only if its task has failed.
                    if changed.is_err() {
                        return Err(self.failed_task().await);
                    }
                    self.on_links();
                }
                _ = self.beat.tick() => {
                    self.kernel.beat().context("cannot tell the programs to go on")?;
                }
                _ = self.tick.tick() => self.sample(),
                Some(request) = self.requests.recv() => self.answer(request),
                Some(call) = self.calls.recv() => self.take_call(call),
                () = until(self.revert.as_ref().map(Revert::due)) => self.revert_policy(),
                Some(received) = self.datagrams.recv() => {
                    if let Some(service) = &mut self.redundant {
                        service.on_datagram(&received, &mut self.kernel);
                    }
                }
                () = until(self.redundant.as_ref().map(redundant::Service::due)) => {
                    if let Some(service) = &mut self.redundant {
                        service.on_timer(&mut self.kernel);
                    }
                }
                () = until(self.pace.due()) => {
                    self.sweep(sweep::APPLY);
                }
                Some(ended) = self.tasks.join_next() => {
                    // A policy that has ended takes its tasks along.
                    if !matches!(&ended, Err(error) if error.is_cancelled()) {
                        return Err(failure(ended));
                    }
                }
            }
        }
    }

    async fn failed_task(&mut self) -> anyhow::Error {
        self.tasks
            .join_next()
            .await
            .map_or_else(|| anyhow!("a task ended"), failure)
    }

    /// Lifts what was set, unless it is the next agent's now. An error of the
    /// loop outweighs one of this.
    fn finish(self, outcome: Result<End>) -> Result<()> {
        let Self {
            kernel, redundant, ..
        } = self;
        // Its port is the next agent's.
        drop(redundant);
        if let Ok(End::HandOver(successor)) = outcome {
            kernel.leave().context("cannot hand over")?;
            // Who does not wait any more finds everything in place all the same.
            let _ = successor.send(());
            tracing::info!("handed over: connections, limits and totals are the next agent's");
            return Ok(());
        }
        let lifted = kernel.shutdown();
        if let End::Signal(signal) = outcome? {
            lifted.context("cannot lift every limit")?;
            tracing::info!(
                signal,
                "stopped: every limit is lifted, the programs are detached"
            );
        }
        Ok(())
    }

    fn on_event(&mut self, event: &Event) {
        let change = Change::from(event);
        self.tell(event, change);
        self.warn_if_locked(event, change);
        if event.path == UNKNOWN_PATH && self.table.note_carrying(event.ifindex) {
            let before = self.table.devices().collect();
            self.on_paths(&before, false);
        }
        if let Some(service) = &mut self.redundant {
            service.on_event(event, &mut self.kernel);
        }
        let carries = || self.table.weight(event.path) != 0;
        if change.loses_a_path() || (change.gains_a_path() && carries()) {
            self.look_after_standby();
        }
    }

    /// Asks for a sweep on behalf of idle subflows on standby paths, which have
    /// no callback that would let them carry, or rest.
    fn look_after_standby(&mut self) {
        if self.table.has_standby() {
            self.pace.request(Instant::now());
        }
    }

    fn on_links(&mut self) {
        let present = self.links.borrow_and_update().clone();
        let before = self.table.devices().collect();
        self.table.set_usable(devices::usable(&present));
        let renamed = self.table.set_devices(devices::names(&present));
        self.on_paths(&before, renamed);
        if let Some(service) = &mut self.redundant {
            service.follow(present, &self.table, &mut self.kernel);
        }
    }

    /// Devices may have come, gone or been `renamed`, or may need an index now;
    /// `before` is which they had.
    fn on_paths(&mut self, before: &BTreeMap<u32, u32>, renamed: bool) {
        let mut changed = renamed;
        let stats = self.kernel.path_stats();
        if self.table.unplaced().next().is_some()
            && let Ok(stats) = &stats
        {
            changed |= self
                .table
                .make_room(|index| stats.get(index as usize) == Some(&PathStats::default()));
        }
        self.warn_if_crowded();
        if !changed {
            return;
        }
        tracing::debug!(
            generation = self.table.generation(),
            "network devices changed"
        );
        match self.kernel.publish(&self.table, self.policy.mode(), &[]) {
            Ok(()) => {
                self.unpublished = false;
                // All others find their paths again at their next callback, and
                // nothing else has changed for them.
                let stats = stats.unwrap_or_default();
                let carries = |path| !is_unused(&stats, path);
                if self.table.moved_since(before, carries) {
                    self.pace.request(Instant::now());
                }
            }
            Err(error) => {
                // The next sample tries again.
                self.unpublished = true;
                tracing::error!("cannot tell the kernel side about devices: {error}");
            }
        }
    }

    fn sample(&mut self) {
        self.kernel.flush_log();
        self.follow_cgroup();
        if self.unpublished {
            self.publish_again();
        }
        if self.kernel.restore(self.cgroup.as_fd()) {
            self.sweep(sweep::APPLY);
        }
        let totals = self.kernel.totals();
        match &totals {
            Ok(totals) => self.on_lost(totals.events_lost),
            Err(error) => tracing::debug!("no totals: {error:#}"),
        }
        match self.kernel.path_stats() {
            Ok(stats) => {
                if let Ok(totals) = totals {
                    self.warn_if_unmatched(&stats, &totals);
                }
                self.recent.push(monotonic_ns(), stats);
            }
            Err(error) => tracing::debug!("no sample: {error:#}"),
        }
    }

    /// What was attached to a cgroup goes with it; there may be another one in
    /// its place.
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
            // Without a receiver: nobody misses it.
            let _ = self.told.send(Arc::new(Reply::Lost(Lost {
                in_ring: lost,
                to_client: 0,
            })));
        }
    }

    /// Visits every socket; `what` is one of [`sweep`].
    fn sweep(&mut self, what: u32) -> Option<Sweep> {
        let start = Instant::now();
        let result = self.kernel.sweep(what);
        // What only accounts does not stand in for one that applies.
        if what == sweep::APPLY {
            self.pace.done(start, Instant::now());
        }
        match result {
            Ok(done) => {
                self.sweep_failed = false;
                let Sweep {
                    visited,
                    adopted,
                    refused,
                } = done;
                tracing::debug!(what, visited, adopted, refused, took = ?start.elapsed(), "swept");
                if adopted > 0 {
                    // Who was visited before the others was alone.
                    self.look_after_standby();
                }
                Some(done)
            }
            Err(error) => {
                if !self.sweep_failed {
                    self.sweep_failed = true;
                    tracing::warn!("cannot visit the open sockets: {error:#}");
                }
                None
            }
        }
    }
}

/// Whether no subflow of a path is open.
fn is_unused(stats: &[PathStats], path: u32) -> bool {
    stats.get(path as usize).is_none_or(|stats| stats.live == 0)
}

/// Why a task ended that should not have.
fn failure(ended: Result<Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => anyhow!("a task ended"),
        Err(error) => anyhow!("a task failed: {error}"),
    }
}

/// Waits for the time, for ever if there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
