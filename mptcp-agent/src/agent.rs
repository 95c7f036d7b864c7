//! The agent's life: start, one loop, stop.
//!
//! One task owns the kernel side, so no locks are needed, and scrapes, sweeps
//! and updates never overlap. The task may block for the milliseconds that a
//! sweep takes, because HTTP, netlink and the control socket run on a thread of
//! their own. Four times a second it tells the programs that the agent is
//! alive. Work that grows with the number of connections is done in pages, with
//! such a heartbeat in between where one is due. If the loop hangs, the
//! programs hear nothing more and lift the limits that it set.
//!
//! However the loop ends (by a signal, an error or a panic of any task), the
//! kernel side is shut down or dropped, and either lifts the limits. Only an
//! agent that hands over leaves them to the next agent.
//!
//! | file | what it does |
//! |---|---|
//! | `claim.rs` | takes what the agent holds of the host |
//! | `start.rs` | the steps before the loop |
//! | this file | the loop, and its end |
//! | `sample.rs` | what it does once a second |
//! | `change.rs` | changes the policy: the two phases, and what each failure leaves |
//! | `switch.rs` | what a change acts on in the running agent |
//! | `reload.rs` | applies a configuration file that was read anew |
//! | `shared.rs` | lets scrapes in quick succession share one answer |
//! | `together.rs` | the default policy and the rules taken together |
//! | `set_rules.rs` | changes the rules |
//! | `rules.rs` | the rules in force, and what their connections have done |
//! | `peering.rs` | asks the agents at the other ends for weights, and carries out what they ask for |
//! | `leave_out.rs` | leaves out paths that pass a bound, and tries them again |
//! | `quota.rs` | counts what paths use of their quotas, and keeps it |
//! | `answers.rs` | answers HTTP and the control socket |
//! | `report.rs` | reports events in the log and to clients |
//! | `warnings.rs` | warns of weights that do not do what was meant |

mod answers;
mod change;
mod claim;
pub mod cleanup;
mod leave_out;
mod peering;
mod quota;
mod reload;
mod report;
mod rules;
mod sample;
mod set_rules;
mod shared;
mod shutdown;
mod start;
mod sweep_timer;
mod switch;
mod together;
mod warnings;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use mptcp_api::listen::Listen;
use mptcp_common::abi::{Event, PathStats, UNKNOWN_PATH, sweep};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, sleep_until};

use crate::api::control::{Call, EventSender};
use crate::api::http::{Request, Streams};
use crate::config::{Loaded, Reloader};
use crate::host::{self, Cgroup};
use crate::kernel::{Events, Kernel, Sweep};
use crate::manage::Wanted;
use crate::net::devices::{self, Present};
use crate::peering::{Book, Peering};
use crate::policy::{Key, Policy};
use crate::redundancy::{self, Received};
use crate::rules::{Provided as ProvidedRules, Rules};
use crate::state::events::Change;
use crate::state::fitness::Judge;
use crate::state::paths::PathTable;
use crate::state::rates::History;
use crate::state::reach::Reach;
use crate::systemd::{self, Systemd};
use crate::web::InForce;
use change::Revert;
use claim::Host;
use quota::Keeper;
use shared::Shared;
use shutdown::{Caught, Hangup, Signals};
use sweep_timer::SweepTimer;
use warnings::Warnings;

/// The exit code of an agent that has left everything in place for the next one
/// (`EX_TEMPFAIL`). The unit starts that one then.
const LEFT: u8 = 75;

/// Runs until a signal or another agent ends it. Returns the exit code.
///
/// # Errors
/// The agent cannot start, or cannot go on.
pub fn run(loaded: &Loaded, reloader: Reloader) -> Result<ExitCode> {
    let (args, policy) = (&loaded.args, &loaded.policy);
    let hangup = Hangup::ignore()?;
    reload::warn(loaded);
    let rules = Rules::new(loaded.rule_set(), &Rules::default())?;
    let mut host = Host::claim(args, policy, &rules, loaded.peering.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        // Only this thread, which owns the kernel side, loads anything.
        .on_thread_start(host::give_up_privileges)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // This comes before anything is attached, so that signals wait for the
        // loop from here on.
        let mut signals = Signals::new(hangup)?;
        let mut agent = Agent::start(args, policy, &mut host, reloader).await?;
        let outcome = agent.serve(&mut signals).await;
        agent.finish(outcome)
    })
}

/// How the loop ended.
enum End {
    /// The signal of this name ended it in good order.
    Signal(&'static str),
    /// A signal ended it, and everything stays in place for the next agent.
    Leave,
    /// Another agent takes over. The sender tells it once everything is ready
    /// for it.
    HandOver(oneshot::Sender<()>),
}

/// Everything that runs.
struct Agent {
    kernel: Kernel,
    policy: Policy,
    /// The content of the policy's key file.
    key: Key,
    table: PathTable,
    rules: ProvidedRules,
    /// The cgroups that the rules name.
    cgroups: rules::Cgroups,
    /// The totals of each rule's connections.
    counters: rules::Counters,
    events: Events,
    devices: watch::Receiver<Present>,
    /// The paths whose endpoints are managed, if any are.
    wanted: watch::Sender<Wanted>,
    cgroup: Cgroup,
    /// The settings of `--ask-peer` and `--accept-peer-policy`, if either is in use.
    peering: Option<Peering>,
    /// The wishes of others.
    wishes: Book,
    /// The rules without those that carry out wishes.
    own_rules: ProvidedRules,
    redundant: Option<redundancy::Service>,
    /// Datagrams from the redundant policy's UDP port; closed under other
    /// policies, unless agents ask each other for something.
    datagrams: mpsc::Receiver<Received>,
    requests: mpsc::Receiver<Request>,
    calls: mpsc::Receiver<Call>,
    /// Puts calls into `calls`, as clients do.
    caller: mpsc::Sender<Call>,
    /// Reads the configuration file anew.
    reloader: Reloader,
    /// Set once another agent asks to take over.
    hand_over: Option<oneshot::Sender<()>>,
    /// Sends events to the clients that asked for them.
    subscribers: EventSender,
    /// Counts those that follow the events over HTTP.
    streams: Streams,
    events_lost: u64,
    tasks: JoinSet<Result<()>>,
    tick: Interval,
    beat: Interval,
    started: Instant,
    listen: Vec<Listen>,
    /// TLS and passwords of HTTP.
    web: InForce,
    /// Lets the file with these be read anew.
    web_again: Arc<Notify>,
    systemd: Systemd,
    history: History,
    /// The signs by which each path is known to reach somebody or nobody.
    reach: Reach,
    /// The judge of paths that are beyond their bounds, and so are left out.
    judge: Judge,
    /// The totals that it has seen last, by index of the path.
    judged: Vec<PathStats>,
    keeper: Keeper,
    sweep_timer: SweepTimer,
    /// The text of the last scrape.
    scraped: Shared<String>,
    revert: Option<Revert>,
    /// Whether the kernel side lacks the policy in force, or parts of it.
    unpublished: bool,
    /// How often connections had been let in again on a path when the totals were
    /// last read.
    readmitted: u64,
    /// When the last sweep began.
    swept: Option<Instant>,
    /// Whether connections had paths let in, under the overflow policy, when the
    /// policy was last applied. One that becomes idle has no callback that
    /// would hold them out again, so a sweep does.
    let_in: bool,
    /// Whether the last sweep failed, so that a failure is logged once and not
    /// twenty times a second.
    sweep_failed: bool,
    /// Warnings about the weights, each of which is given once.
    warnings: Warnings,
}

impl Agent {
    /// Runs until a signal or another agent ends it, or until it cannot go on.
    async fn serve(&mut self, signals: &mut Signals) -> Result<End> {
        loop {
            if let Some(successor) = self.hand_over.take() {
                return Ok(End::HandOver(successor));
            }
            tokio::select! {
                signal = signals.next() => match signal {
                    Caught::Shutdown(name) => return Ok(End::Signal(name)),
                    Caught::Leave => return Ok(End::Leave),
                    Caught::Hangup => self.on_hangup(),
                },
                event = self.events.next() => {
                    self.on_event(&event.context("cannot read events")?);
                }
                changed = self.devices.changed() => {
                    // The sender is gone only if its task has failed.
                    if changed.is_err() {
                        return Err(self.failed_task().await);
                    }
                    self.on_devices();
                }
                _ = self.beat.tick() => {
                    self.kernel.beat().context("cannot renew the heartbeat")?;
                    self.systemd.beat(Instant::now());
                }
                _ = self.tick.tick() => self.sample(),
                Some(request) = self.requests.recv() => self.answer(request),
                Some(call) = self.calls.recv() => self.take_call(call),
                () = until(self.revert.as_ref().map(|revert| revert.at)) => {
                    self.revert_policy();
                    self.scraped.forget();
                }
                Some(received) = self.datagrams.recv() => {
                    if let Some(service) = &mut self.redundant {
                        service.on_datagram(&received, &mut self.kernel);
                    }
                    self.hear_wishes();
                }
                () = until(peering::due(&self.wishes)) => self.follow_wishes(),
                () = until(self.redundant.as_ref().map(redundancy::Service::due)) => {
                    if let Some(service) = &mut self.redundant {
                        service.on_timer(&mut self.kernel);
                    }
                }
                () = until(self.sweep_timer.due()) => {
                    self.sweep(sweep::APPLY);
                }
                Some(ended) = self.tasks.join_next() => {
                    // The tasks of a policy that has ended are cancelled, which
                    // is no failure.
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

    /// Lifts the limits, unless they are the next agent's now. If both the loop
    /// and the lifting have failed, returns the error of the loop.
    fn finish(self, outcome: Result<End>) -> Result<ExitCode> {
        systemd::stopping(match outcome {
            Ok(End::HandOver(_) | End::Leave) => "leaving everything to the next agent",
            _ => "lifting limits",
        });
        let Self {
            kernel,
            redundant,
            keeper,
            ..
        } = self;
        // Free the UDP port for the next agent.
        drop(redundant);
        if let Ok(End::HandOver(successor)) = outcome {
            kernel.leave().context("cannot hand over")?;
            keeper.finish();
            // The next agent may have stopped waiting; everything is in place
            // for it all the same.
            let _ = successor.send(());
            tracing::info!("handed over: connections, limits and totals are the next agent's");
            return Ok(ExitCode::SUCCESS);
        }
        if let Ok(End::Leave) = outcome {
            kernel.leave().context("cannot leave limits in place")?;
            keeper.finish();
            tracing::info!(
                "SIGUSR2: ended, and left everything in place; the next agent has to start within \
                 two seconds"
            );
            return Ok(ExitCode::from(LEFT));
        }
        let lifted = kernel.shutdown();
        keeper.finish();
        if let End::Signal(signal) = outcome? {
            lifted.context("cannot lift every limit")?;
            tracing::info!(
                signal,
                "stopped: every limit is lifted, the programs are detached"
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    fn on_event(&mut self, event: &Event) {
        let change = Change::from(event);
        self.report(event, change);
        self.warn_if_locked(event, change);
        if event.path == UNKNOWN_PATH && self.table.note_carrying(event.ifindex) {
            let before = self.table.devices().collect();
            self.on_paths(&before, false);
        }
        if let Some(service) = &mut self.redundant {
            service.on_event(event, &mut self.kernel);
        }
        if change == Change::PathReadmitted {
            self.sweep_timer.request(Instant::now());
        }
        // Nothing is held out because of a path that comes last.
        let matters = || {
            self.table.present_weight(event.path) > self.table.least_weight()
                || !self.rules.rules.named().is_empty()
        };
        if change.moves_idle_paths() || (change.gains_a_path() && matters()) {
            self.look_after_held_out();
        }
    }

    /// Requests a sweep if paths may be held out. Their idle subflows have no
    /// callback of their own that would let them carry data, or rest again.
    fn look_after_held_out(&mut self) {
        if self.holds_out() {
            self.sweep_timer.request(Instant::now());
        }
    }

    fn on_devices(&mut self) {
        let present = self.devices.borrow_and_update().clone();
        let before = self.table.devices().collect();
        self.table.set_usable(devices::usable(&present));
        let renamed = self.table.set_devices(devices::names(&present));
        self.on_paths(&before, renamed);
        if let Some(service) = &mut self.redundant {
            service.follow(present, &self.table, &mut self.kernel);
        }
    }

    /// Publishes the table after devices may have come, gone or been `renamed`,
    /// or may need an index now. `before` holds the ifindex and index of each
    /// device that had one before.
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
        match self.publish_table() {
            Ok(()) => {
                self.unpublished = false;
                // All others look their path up again at their next callback,
                // and nothing else has changed for them.
                let stats = stats.unwrap_or_default();
                let carries = |path| !is_unused(&stats, path);
                if self.table.moved_since(before, carries) {
                    self.sweep_timer.request(Instant::now());
                }
            }
            Err(error) => {
                // The next sample tries again.
                self.unpublished = true;
                tracing::error!("cannot publish the devices to the programs: {error}");
            }
        }
    }

    /// Visits every socket; `what` is one of [`sweep`].
    /// Logs a failure.
    fn sweep(&mut self, what: u32) -> Option<Sweep> {
        self.try_sweep(what).ok()
    }

    /// Does what [`Agent::sweep`] does.
    ///
    /// # Errors
    /// The sockets cannot be visited. The failure is logged already, unless the
    /// sweep before failed, too.
    fn try_sweep(&mut self, what: u32) -> Result<Sweep> {
        let start = Instant::now();
        let result = self.kernel.sweep(what);
        self.swept = Some(start);
        // A sweep that only accounts does not replace one that applies the
        // policy.
        if what == sweep::APPLY {
            self.sweep_timer.done(start, Instant::now());
        }
        match result {
            Ok(done) => {
                self.sweep_failed = false;
                let Sweep {
                    visited,
                    adopted,
                    refused,
                    let_in,
                } = done;
                if what == sweep::APPLY {
                    self.let_in = let_in > 0;
                }
                tracing::debug!(what, visited, adopted, refused, took = ?start.elapsed(), "swept");
                if adopted > 0 {
                    // Subflows visited early saw no siblings yet, so sweep
                    // again.
                    self.look_after_held_out();
                }
                Ok(done)
            }
            Err(error) => {
                if !self.sweep_failed {
                    self.sweep_failed = true;
                    tracing::warn!("cannot visit the open sockets: {error:#}");
                }
                Err(error)
            }
        }
    }
}

/// Returns whether no subflow of a path is open.
fn is_unused(stats: &[PathStats], path: u32) -> bool {
    stats.get(path as usize).is_none_or(|stats| stats.live == 0)
}

/// Returns the error of a task that should not have ended.
fn failure(ended: Result<Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => anyhow!("a task ended"),
        Err(error) => anyhow!("a task failed: {error}"),
    }
}

/// Waits until `due`, or for ever if it is `None`.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
