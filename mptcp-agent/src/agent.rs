//! The agent's life: start, one loop, stop.
//!
//! One task owns the kernel side, so nothing is locked and scrapes, sweeps and
//! updates never overlap. It may block for the milliseconds that a sweep
//! takes: HTTP and netlink run on a thread of their own.
//!
//! However the loop ends (a signal, an error, a panic of any task), the kernel
//! side is shut down, or dropped, which lifts what was set.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use mptcp_common::abi::{Event, PathStats, sweep};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use crate::cli::RunArgs;
use crate::devices::{self, Present};
use crate::events::{self, Change, KINDS};
use crate::host::Host;
use crate::http::{self, Request};
use crate::kernel::{Events, Kernel, LoadOptions, Sweep};
use crate::metrics::{self, PathRow, ProgramRow, Snapshot};
use crate::pace::Pace;
use crate::paths::PathTable;
use crate::policy::Policy;
use crate::redundant::{self, Received};
use crate::share::ShareWindow;
use crate::stop::Stop;
use crate::{links, mib, report};

/// How often acked bytes are sampled for the shares.
const SAMPLE: Duration = Duration::from_secs(1);

/// Runs until a signal.
///
/// # Errors
/// The agent cannot start, or cannot go on.
pub fn run(args: &RunArgs, policy: &Policy) -> Result<()> {
    let host = Host::claim(args, policy)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Before anything is attached: from here on signals wait for the loop.
        let mut stop = Stop::new()?;
        let mut agent = Agent::start(args, policy, &host).await?;
        let outcome = agent.serve(&mut stop).await;
        agent.finish(outcome)
    })
}

/// Everything that runs.
struct Agent {
    kernel: Kernel,
    policy: Policy,
    table: PathTable,
    events: Events,
    counts: [u64; KINDS.len()],
    links: watch::Receiver<Present>,
    redundant: Option<redundant::Service>,
    /// What arrives on the redundant policy's port; closed without it.
    datagrams: mpsc::Receiver<Received>,
    requests: mpsc::Receiver<Request>,
    tasks: JoinSet<Result<()>>,
    tick: Interval,
    share: ShareWindow,
    pace: Pace,
    /// A failing sweep is told once, not twenty times a second.
    sweep_failed: bool,
    /// So is a lack of indices.
    crowded: bool,
}

impl Agent {
    async fn start(args: &RunArgs, policy: &Policy, host: &Host) -> Result<Self> {
        let listener = host.listener.try_clone().context("cannot serve HTTP")?;
        let listen = listener.local_addr().context("cannot serve HTTP")?;
        let mut tasks = JoinSet::new();
        let mut links = links::watch(&mut tasks).await?;
        let mut table = PathTable::new(&policy.weights());
        let present = links.borrow_and_update().clone();
        table.set_devices(devices::names(&present));

        let mut kernel = Kernel::load(&LoadOptions {
            max_connections: args.max_connections,
            cgroup: host.cgroup(),
            netns_cookie: host.netns_cookie(),
            redundant: match policy.redundant() {
                Some(_) => Some(redundant::random_nonzero()?),
                None => None,
            },
        })?;
        kernel.publish(&table, policy.mode())?;
        let events = kernel.take_events()?;
        let (mut redundant, mut datagrams) = (None, mpsc::channel(1).1);
        if let (Some(settings), Some(claim)) = (policy.redundant(), &host.redundant) {
            let (mut service, received) = redundant::Service::start(settings, claim, &mut tasks)?;
            service.follow(present, &table, &mut kernel);
            (redundant, datagrams) = (Some(service), received);
        }
        report::attachments(args.log_format, kernel.attachments());

        let (sender, requests) = http::channel();
        tasks.spawn(http::serve(listener, sender));
        let mut tick = interval(SAMPLE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut agent = Self {
            kernel,
            policy: policy.clone(),
            table,
            events,
            counts: [0; KINDS.len()],
            links,
            redundant,
            datagrams,
            requests,
            tasks,
            tick,
            share: ShareWindow::default(),
            pace: Pace::default(),
            sweep_failed: false,
            crowded: false,
        };
        agent.settle(args, listen);
        Ok(agent)
    }

    /// What follows once the programs are in place.
    fn settle(&mut self, args: &RunArgs, listen: SocketAddr) {
        for name in self.table.missing() {
            tracing::warn!(
                "--weight {name}: there is no device {name} now; the weight holds once it appears"
            );
        }
        self.warn_if_crowded();
        if let Some(Sweep {
            adopted, refused, ..
        }) = self.sweep(sweep::APPLY)
        {
            tracing::info!(adopted, "adopted the subflows that were open before");
            if refused > 0 {
                tracing::warn!(
                    refused,
                    "subflows that were open before are left alone: --cgroup is not the root of the \
                     hierarchy, or this kernel cannot give \
                     sockets callbacks later on (Linux 6.12 and later can), or lockdown forbids the \
                     reads that tell their connection"
                );
            }
        }
        report::ready(args.log_format, &self.policy, listen);
    }

    /// Runs until a signal, whose name it returns, or until it cannot go on.
    async fn serve(&mut self, stop: &mut Stop) -> Result<&'static str> {
        loop {
            tokio::select! {
                signal = stop.wait() => return Ok(signal),
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
                _ = self.tick.tick() => self.sample(),
                Some(request) = self.requests.recv() => self.answer(request),
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
                Some(ended) = self.tasks.join_next() => return Err(failure(ended)),
            }
        }
    }

    async fn failed_task(&mut self) -> anyhow::Error {
        self.tasks
            .join_next()
            .await
            .map_or_else(|| anyhow!("a task ended"), failure)
    }

    /// Lifts what was set. An error of the loop outweighs one of this.
    fn finish(self, outcome: Result<&'static str>) -> Result<()> {
        let lifted = self.kernel.shutdown();
        let signal = outcome?;
        lifted.context("cannot lift every limit")?;
        tracing::info!(
            signal,
            "stopped: every limit is lifted, the programs are detached"
        );
        Ok(())
    }

    fn on_event(&mut self, event: &Event) {
        let change = Change::from(event);
        self.counts[change.kind()] += 1;
        events::log(event, self.table.label(event.path));
        if let Some(service) = &mut self.redundant {
            service.on_event(event, &mut self.kernel);
        }
        if change.loses_a_path() && self.table.has_standby() {
            self.pace.request(Instant::now());
        }
    }

    fn on_links(&mut self) {
        let present = self.links.borrow_and_update().clone();
        if self.table.set_devices(devices::names(&present)) {
            self.on_paths();
        }
        if let Some(service) = &mut self.redundant {
            service.follow(present, &self.table, &mut self.kernel);
        }
    }

    /// Devices came, went or were renamed.
    fn on_paths(&mut self) {
        if self.table.unplaced().next().is_some()
            && let Ok(stats) = self.kernel.path_stats()
        {
            self.table
                .make_room(|index| stats.get(index as usize) == Some(&PathStats::default()));
        }
        self.warn_if_crowded();
        tracing::debug!(
            generation = self.table.generation(),
            "network devices changed"
        );
        match self.kernel.publish(&self.table, self.policy.mode()) {
            Ok(()) => {
                self.sweep(sweep::APPLY);
            }
            Err(error) => tracing::error!("cannot tell the kernel side about devices: {error:#}"),
        }
    }

    fn warn_if_crowded(&mut self) {
        let unplaced = self.table.unplaced().count();
        if unplaced > 0 && !self.crowded {
            self.crowded = true;
            tracing::warn!(
                unplaced,
                "more devices than paths that can be told apart: the rest share path `unknown`"
            );
        }
    }

    fn sample(&mut self) {
        self.kernel.flush_log();
        if let Some(service) = &mut self.redundant
            && let Ok(totals) = self.kernel.totals()
        {
            service.on_lost(totals.events_lost);
        }
        match self.kernel.path_stats() {
            Ok(stats) => self
                .share
                .push(stats.iter().map(|path| path.acked_bytes).collect()),
            Err(error) => tracing::debug!("no sample: {error:#}"),
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

    /// Answers `first` and whoever waits behind it, with one scrape.
    fn answer(&mut self, first: Request) {
        let mut scrape: Option<Result<String, String>> = None;
        let mut next = Some(first);
        while let Some(request) = next {
            // Who no longer waits gets no answer: not our concern.
            match request {
                Request::Health(reply) => drop(reply.send(())),
                Request::Metrics(reply) if reply.is_closed() => {}
                Request::Metrics(reply) => {
                    let text = scrape.get_or_insert_with(|| self.scrape());
                    drop(reply.send(text.clone()));
                }
            }
            next = self.requests.try_recv().ok();
        }
    }

    fn scrape(&mut self) -> Result<String, String> {
        let text = self
            .snapshot()
            .and_then(|snapshot| Ok(metrics::render(&snapshot)?));
        text.map_err(|error| {
            tracing::error!("cannot collect metrics: {error:#}");
            format!("cannot collect metrics: {error:#}")
        })
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let start = Instant::now();
        // So that the totals are exact, also for sockets that are idle.
        self.sweep(sweep::ACCOUNT);
        let stats = self.kernel.path_stats()?;
        let shares = self.share.shares();
        let runs = self.kernel.program_stats();
        let programs = self.kernel.attachments().iter().map(|hook| ProgramRow {
            program: hook.program,
            attached: hook.error.is_none(),
            runs: runs
                .iter()
                .find(|row| row.program == hook.program)
                .map(|row| (row.runs, row.run_time)),
        });
        let copies = self.redundant.as_ref();
        let copies = copies.map(|service| service.rows(&self.table, &self.kernel));
        Ok(Snapshot {
            policy: self.policy.name(),
            backend: self.policy.backend(),
            weighted: matches!(self.policy, Policy::Weighted(..)),
            totals: self.kernel.totals()?,
            paths: PathRow::collect(&self.table, &stats, shares.as_deref()),
            redundant: copies.transpose()?,
            kernel_events: mib::read()?,
            programs: programs.collect(),
            events: self.counts,
            scrape_duration: start.elapsed(),
        })
    }
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
