//! The steps before the loop: the kernel side is loaded, or taken over from the
//! previous agent; the policy comes into force; the servers listen.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mptcp_common::abi::sweep;
use tokio::sync::watch::channel as watch_channel;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::claim::Host;
use super::peering::{accepted, wishing};
use super::quota::Keeper;
use super::rules::{Cgroups, Counters};
use super::shared::Shared;
use super::sweep_timer::SweepTimer;
use super::together::{channel, copying, policies};
use super::warnings::Warnings;
use super::{Agent, is_unused};
use crate::api::control::access::Access;
use crate::api::http::Streams;
use crate::api::{control, http};
use crate::cli::RunArgs;
use crate::config::Reloader;
use crate::host::{self, Listener};
use crate::kernel::{self, Kernel, LoadOptions, Sweep};
use crate::logging::report;
use crate::manage::Wanted;
use crate::net::{devices, watch};
use crate::peering::Book;
use crate::policy::Policy;
use crate::redundancy;
use crate::rules::{Provided as ProvidedRules, Rules};
use crate::state::fitness::Judge;
use crate::state::paths::PathTable;
use crate::state::rates::History;
use crate::state::reach::Reach;
use crate::systemd::Systemd;

/// How often the paths' totals are sampled, for shares and rates.
const SAMPLE: Duration = Duration::from_secs(1);

impl Agent {
    /// Starts everything. From then on the events of the attached programs wait
    /// for the loop.
    ///
    /// # Errors
    /// The kernel refuses, or a server cannot listen.
    pub(super) async fn start(
        args: &RunArgs,
        policy: &Policy,
        host: &mut Host,
        reloader: Reloader,
    ) -> Result<Self> {
        let sockets = host.listeners.iter().map(Listener::socket);
        let sockets = sockets.collect::<Result<Vec<_>>>()?;
        let listen = host.listeners.iter().map(|one| one.place().clone());
        let web = host.web.take().unwrap_or_default();
        let mut tasks = JoinSet::new();
        let mut links = watch::watch(&mut tasks).await?;
        let present = links.borrow_and_update().clone();

        let mut kernel = Kernel::load(&LoadOptions {
            max_connections: args.max_connections,
            cgroup: host.cgroup.as_fd(),
            btf: args.btf.as_deref(),
            namespace: host.namespace()?,
            measure_programs: args.measure_programs,
            number: redundancy::random_nonzero()?,
        })?;
        let rules = std::mem::take(&mut host.rules);
        let (mut table, recycled) = resume(&kernel, policy, &rules.rules)?;
        table.set_usable(devices::usable(&present));
        table.set_devices(devices::names(&present));
        let state_dir = args.state_dir.as_deref();
        let keeper = Keeper::start(state_dir, policy.quotas(), kernel.adopted(), &mut tasks)?;
        table.hold_out(|label| keeper.accounts.holds_out(label, policy.quotas()));
        let events = kernel.take_events()?;
        let (mut redundant, mut datagrams) = (None, mpsc::channel(1).1);
        let key = host.provided.key.clone();
        let peering = host.peering.take();
        let channel = channel(copying(policy, &key, &rules), peering.as_ref());
        // Move the sockets out of `host`, so that the port is free again under
        // another policy.
        if let (Some((settings, key, copies)), Some(sockets)) = (channel, host.sockets.take()) {
            let claim = redundancy::Claim {
                sockets,
                key: key.clone(),
            };
            let traffic = match copies {
                true => {
                    kernel.start_redundant()?;
                    Some(kernel.channel_traffic()?)
                }
                false => None,
            };
            let wishing = peering
                .as_ref()
                .map(|peering| wishing(peering, policy, &table));
            let (mut service, received) =
                redundancy::Service::new(settings, &claim, traffic, wishing)?;
            service.listen(&mut tasks);
            (redundant, datagrams) = (Some(service), received);
        }
        // From here on these programs act, and those of a previous agent no
        // longer do.
        let cgroups = Cgroups::new();
        let told = rules.rules.to_kernel(&cgroups.ids(&rules.rules));
        let policies = policies(&table, policy, &rules.rules, told);
        kernel.publish(&table, &policies, &recycled)?;
        if let Some(service) = &mut redundant {
            service.follow(present, &table, &mut kernel);
        }
        report::attachments(args.log_format, kernel.attachments());

        let (sender, requests) = http::channel();
        let (in_force, web_again) = (web.in_force(), Arc::new(Notify::new()));
        let subscribers = control::events();
        let (followed, streams) = (subscribers.clone(), Streams::default());
        tasks.spawn(http::serve(
            sockets,
            in_force.clone(),
            sender,
            followed,
            streams.clone(),
        ));
        tasks.spawn(web.follow(Arc::clone(&web_again)));
        let (sender, calls) = control::channel();
        if let Some(claim) = &host.control {
            let listener = claim.listener().try_clone();
            tasks.spawn(control::server::serve(
                listener.context("cannot serve the control socket")?,
                Access::new(claim.group()),
                sender.clone(),
                subscribers.clone(),
                reloader.clone(),
            ));
        }
        let kernel_rule_stats = kernel.rule_stats()?;
        let (wanted, paths) = watch_channel(Wanted::of(policy));
        if let Some(manager) = host.manager.take() {
            manager.start(&mut tasks, links.clone(), paths);
        }
        let mut agent = Self {
            events_lost: kernel.totals()?.events_lost,
            kernel,
            policy: policy.clone(),
            key,
            table,
            counters: Counters::new(kernel_rule_stats),
            rules: ProvidedRules::default(),
            own_rules: rules.clone(),
            wishes: Book::new(accepted(peering.as_ref())),
            peering,
            cgroups,
            events,
            devices: links,
            wanted,
            cgroup: host.cgroup.follow()?,
            redundant,
            datagrams,
            requests,
            calls,
            caller: sender,
            reloader,
            hand_over: None,
            subscribers,
            streams,
            tasks,
            tick: ticks(SAMPLE),
            beat: ticks(kernel::BEAT),
            started: Instant::now(),
            listen: listen.collect(),
            web: in_force,
            web_again,
            systemd: Systemd::new(),
            history: History::default(),
            reach: Reach::default(),
            judge: Judge::default(),
            judged: Vec::new(),
            keeper,
            sweep_timer: SweepTimer::default(),
            scraped: Shared::default(),
            revert: None,
            unpublished: false,
            readmitted: 0,
            swept: None,
            let_in: false,
            sweep_failed: false,
            warnings: Warnings::default(),
        };
        agent.hold_rules(rules);
        agent.settle(args);
        Ok(agent)
    }

    /// Takes the remaining steps, once the programs are in place.
    fn settle(&mut self, args: &RunArgs) {
        let dead = kernel::sweep_dead_namespaces().removed;
        if dead > 0 {
            tracing::info!(
                dead,
                "removed what agents had left in network namespaces that are gone"
            );
        }
        if self.kernel.adopted() {
            tracing::info!("took over the connections and totals of the agent before");
        }
        self.warn_if_missing();
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
        give_memory_back();
        host::give_up_privileges();
        let tls = self.web.borrow().tls.is_some();
        report::ready(args.log_format, &self.policy, &self.listen, tls);
        self.systemd.ready(format!("policy {}", self.policy));
    }
}

/// Returns the paths of `policy`, on the indices of the previous agent if there
/// was one, and the indices that go to other paths now.
fn resume(kernel: &Kernel, policy: &Policy, rules: &Rules) -> Result<(PathTable, Vec<u32>)> {
    let stats = kernel.path_stats()?;
    let (mut table, recycled) = PathTable::resume(
        &kernel.paths()?,
        kernel.generation(),
        &rules.name_paths(policy.weights()),
        |path| is_unused(&stats, path),
    );
    table.set_limits(policy.limits().clone());
    Ok((table, recycled))
}

/// Gives the kernel the memory that only the start needed, mostly for reading the
/// kernel's types. glibc would keep it for later, and nothing later needs as much.
fn give_memory_back() {
    kernel::put_object_aside();
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only, and may run beside other threads.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ticks each `period`. A late tick delays the following ones and is not made
/// up for.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
