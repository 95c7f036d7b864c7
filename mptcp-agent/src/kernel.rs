//! The only access to the kernel side: its programs, its maps and its events.
//!
//! A policy goes in through [`Kernel::publish`]; totals and events come out.
//! Dropping a [`Kernel`] lifts every limit that it set, unless it is left to a
//! successor.

mod bpffs;
mod clock;
mod clsact;
mod embedded;
mod events;
mod gone;
mod life;
mod load;
mod members;
mod others;
mod pages;
mod per_cpu;
mod pins;
mod policy_maps;
mod publish;
mod redundant;
mod remains;
mod sweep;
mod tc;
mod watch;

use std::{collections::HashSet, os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData},
    programs::Iter,
};
use aya_log::EbpfLogger;
use mptcp_common::abi::{
    self, DEFAULT_POLICY, MAX_PATHS, MAX_POLICIES, PathConfig, PathStats, Policy, Subflow, Totals,
    capability,
    redundant::CopyStats,
    rule::{Rule, RuleStats},
    runs::Runs,
};
use mptcp_common::names::map;

pub use bpffs::{Mounted as BpfFileSystem, USUAL as BPF_FILE_SYSTEM, mounted as bpf_file_system};
pub use clock::monotonic_ns;
pub use events::Events;
pub use life::{BEAT, GRACE};
pub use load::{LoadOptions, put_object_aside};
pub use others::{SockopsProgram, sockops};
pub use pages::PAGE;
pub use publish::PublishError;
pub use redundant::ChannelTraffic;
pub use remains::{Content, Remains, Swept, is_beating, sweep_dead_namespaces};
use sweep::Pass;
pub use sweep::Sweep;
pub use tc::{AttachedBy, DeviceProgram, programs_on};

use life::Heart;
use load::{describe, find};
use pages::in_pages;
use per_cpu::{sum, sums};
use pins::Pins;
use policy_maps::prefix_key;
use publish::{Head, Published};
use watch::Link;

use crate::state::paths::PathTable;
use crate::state::snapshot::Restored;

/// Names of the programs, as in metrics and in the attach table.
pub mod program {
    /// The sockops program.
    pub const SOCKOPS: &str = "sockops";
    /// The scheduler's tracepoint.
    pub const GET_SEND: &str = "mptcp_subflow_get_send";
    /// The iterator.
    pub const ITER: &str = "iter_tcp";
    /// tc egress, under the redundant policy.
    pub const REDUNDANT_EGRESS: &str = "redundant_egress";
    /// tc ingress, under the redundant policy.
    pub const REDUNDANT_INGRESS: &str = "redundant_ingress";
}

/// A hook, and whether it is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// One of the names in `program`.
    pub program: &'static str,
    /// The purpose of the program, which is what the agent goes without if it
    /// is not in place.
    pub purpose: &'static str,
    /// The reason why it is not in place, if it is not.
    pub error: Option<String>,
}

/// The cost of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    /// The program's name, as in [`Attachment::program`].
    pub program: &'static str,
    /// How often it ran, as counted by the program itself.
    pub runs: u64,
    /// Its run time in all, if the kernel measures that.
    pub run_time: Option<Duration>,
}

/// The programs' instructions for connections: the policies, and the rules that choose
/// between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// By index, [`MAX_POLICIES`] of them.
    table: Vec<Policy>,
    /// The rules, in order.
    rules: Vec<Rule>,
}

impl Policies {
    /// Starts with the default policy, which has the weights and limits of
    /// `table` and these `capabilities` (bits of `abi::capability`), and with
    /// `rules`.
    pub fn new(table: &PathTable, capabilities: u32, rules: Vec<Rule>) -> Self {
        let limits = table.limits();
        let default = Policy {
            capabilities,
            limited: u32::from(limits.iter().any(|limit| *limit != 0)),
            weights: table.weights(),
            limits,
        };
        let mut policies = vec![Policy::default(); MAX_POLICIES];
        policies[DEFAULT_POLICY as usize] = default;
        Self {
            table: policies,
            rules,
        }
    }

    /// Adds a policy at `index`, with these weights by index of the path.
    pub fn add(&mut self, index: u32, capabilities: u32, weights: [u32; MAX_PATHS]) {
        if let Some(policy) = self.table.get_mut(index as usize) {
            *policy = Policy {
                capabilities,
                weights,
                ..Policy::default()
            };
        }
    }
}

/// The loaded kernel side.
pub struct Kernel {
    ebpf: Ebpf,
    attachments: Vec<Attachment>,
    /// The devices that have the tc programs; `None` under another policy.
    tc: Option<tc::Tc>,
    /// The reason why this kernel cannot have the tc programs, if it cannot.
    no_tc: Option<String>,
    /// Whether maps may still hold what an earlier redundant policy found out
    /// about peers.
    peers_left: bool,
    /// Entries whose socket may be gone.
    gone: gone::Gone,
    /// The id of this agent. The programs act for it.
    owner: u32,
    /// The heartbeat, and what else the programs obey.
    heart: Heart,
    /// The pins, which outlive this process.
    pins: Option<Pins>,
    /// The reason why nothing, or not everything, outlives this process.
    not_outlived: Option<String>,
    /// Handles of the pinned maps, to pin them again if a pin is removed.
    kept_maps: Vec<(&'static str, MapData)>,
    /// The attached programs. They are held here as well as by pins.
    links: Vec<Link>,
    /// Whether the cgroup of the sockops program was removed, and no other has
    /// taken its place.
    cgroup_gone: bool,
    /// How often something had to be put back.
    restored: Restored,
    /// Whether an earlier agent's maps and totals go on.
    adopted: bool,
    /// Reads the log messages of the programs, which are rare.
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Whether nothing is left for `drop` to lift.
    lifted: bool,
    /// The kernel measures the programs' run time while this is open.
    stats: Option<OwnedFd>,
}

impl Kernel {
    /// Loads and attaches what this kernel allows.
    ///
    /// # Errors
    /// The object is missing or unfit, or the kernel refuses the sockops
    /// program, without which the agent sees nothing.
    pub fn load(options: &LoadOptions<'_>) -> Result<Self> {
        load::load(options)
    }

    /// Returns every hook, in place or not.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Returns what the programs have counted of themselves, summed over the
    /// CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn runs(&self) -> Result<Runs> {
        sum(self.map_ref(map::RUNS)?, 0, Runs::plus)
    }

    /// Returns the cost of each program.
    pub fn program_stats(&self, runs: &Runs) -> Vec<ProgramStats> {
        let run_time = |symbol| {
            self.stats.as_ref()?;
            // A program that was not loaded has no info.
            Some(self.ebpf.program(symbol)?.info().ok()?.run_time())
        };
        let hooks = load::PROGRAMS.iter();
        let hooks = hooks.map(|hook| (hook.name, hook.symbol, hook.count));
        let tc = tc::PROGRAMS.iter();
        let tc = tc.map(|hook| (hook.name, hook.symbol, hook.count));
        let stats = hooks
            .chain(tc)
            .map(|(program, symbol, count)| ProgramStats {
                program,
                runs: runs.count[count],
                run_time: run_time(symbol),
            });
        stats.collect()
    }

    /// Makes the programs obey `table` and `policies` from their next callback on.
    /// Sets the totals of the indices in `recycled` to zero, because these
    /// indices go to other paths.
    ///
    /// # Errors
    /// A map refused an entry; the error tells what is in force then.
    pub fn publish(
        &mut self,
        table: &PathTable,
        policies: &Policies,
        recycled: &[u32],
    ) -> Result<(), PublishError> {
        let before = self.published(recycled).map_err(PublishError::TakenBack)?;
        let zero = |totals: &(Vec<PathStats>, Vec<CopyStats>)| {
            let cpus = (totals.0.len(), totals.1.len());
            (
                vec![PathStats::default(); cpus.0],
                vec![CopyStats::default(); cpus.1],
            )
        };
        let totals = before.totals.iter();
        let rules = policies.rules.len().min(before.rules.len());
        let mut all_rules = before.rules.clone();
        all_rules[..rules].copy_from_slice(&policies.rules[..rules]);
        let wanted = Published {
            paths: table.config(),
            policies: policies.table.clone(),
            rules: all_rules,
            ids: table.ids().collect(),
            devices: table.devices().collect(),
            prefixes: table
                .prefixes()
                .map(|(net, path)| (prefix_key(net), path))
                .collect(),
            remote_prefixes: table
                .remote_prefixes()
                .map(|(net, path)| (prefix_key(net), path))
                .collect(),
            totals: totals.map(|(&path, held)| (path, zero(held))).collect(),
            // From now on only this agent's programs act.
            head: Head {
                enforced: 1,
                generation: table.generation(),
                owner: self.owner,
                rules: rules as u32,
            },
        };
        publish::commit(self, &before, &wanted)?;
        if let Some(pins) = &self.pins {
            let dismissed = pins.dismiss_others(self.owner);
            if dismissed > 0 {
                tracing::debug!(dismissed, "detached the programs of the agent before");
            }
        }
        Ok(())
    }

    /// Returns whether the policy of this index copies segments.
    pub fn copies(&self, policy: u32) -> bool {
        let policy = self.map_ref(map::POLICIES).and_then(|map| {
            let map: Array<_, Policy> = Array::try_from(map)?;
            Ok(map.get(&policy, 0)?)
        });
        policy.is_ok_and(|policy| policy.capabilities & capability::COPIES != 0)
    }

    /// Returns the paths as they were last published, maybe by an earlier
    /// agent. A path's position is its index.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn paths(&self) -> Result<Vec<PathConfig>> {
        let map: Array<_, PathConfig> = Array::try_from(self.map_ref(map::PATHS)?)?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    /// Returns the generation that was published last, maybe by an earlier
    /// agent. The next one must differ from it.
    pub fn generation(&self) -> u32 {
        self.heart.config.generation
    }

    /// Returns the totals of every path, summed over the CPUs. A path's
    /// position is its index.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn path_stats(&self) -> Result<Vec<PathStats>> {
        sums(self.map_ref(map::PATH_STATS)?, PathStats::plus)
    }

    /// Returns the totals of the connections that no rule matches, and then those
    /// of each rule, summed over the CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_stats(&self) -> Result<Vec<RuleStats>> {
        sums(self.map_ref(map::RULE_STATS)?, RuleStats::plus)
    }

    /// Returns the host-wide totals, summed over the CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn totals(&self) -> Result<Totals> {
        sum(self.map_ref(map::TOTALS)?, 0, Totals::plus)
    }

    /// Visits every TCP socket of this network namespace, to do `what` (one of
    /// `abi::sweep`). Blocks for about a microsecond per socket, and sends
    /// heartbeats meanwhile.
    ///
    /// # Errors
    /// The iterator is not in place or cannot be read.
    pub fn sweep(&mut self, what: u32) -> Result<Sweep> {
        // A pass may take long, and its program obeys only an agent that is
        // alive.
        self.beat()?;
        Array::try_from(self.map(map::SWEEP)?)?.set(0, what, 0)?;
        let before = self.lowered_listeners()?;
        let Pass {
            sweep,
            sockets,
            listening,
        } = self.pass()?;
        // A socket that began to listen since then is not in `before`.
        self.forget_listeners(before.into_iter().filter(|one| !listening.contains(one)))?;
        if what != abi::sweep::LIFT
            && let Err(error) = self.reclaim(&sockets)
        {
            tracing::debug!("cannot look for sockets that are gone: {error:#}");
        }
        Ok(sweep)
    }

    fn pass(&mut self) -> Result<Pass> {
        let Self { ebpf, heart, .. } = self;
        let program: &mut Iter = ebpf
            .program_mut(program::ITER)
            .context("the eBPF object has no iter/tcp program")?
            .try_into()?;
        sweep::run(program, &mut || heart.beat_if_due())
    }

    /// Removes entries whose socket has gone without a callback. `sockets`
    /// holds the cookies that the last pass has found.
    fn reclaim(&mut self, sockets: &HashSet<u64>) -> Result<()> {
        let (entries, now_ns) = (self.totals()?.subflows, monotonic_ns());
        if !self.gone.is_due(entries, sockets.len(), now_ns) {
            return Ok(());
        }
        let mut missing = Vec::new();
        self.keys::<u64, Subflow>(map::SUBFLOWS, |cookie| {
            missing.extend(Some(cookie).filter(|cookie| !sockets.contains(cookie)));
        })?;
        for cookie in self.gone.compare(missing.into_iter(), sockets, now_ns) {
            self.beat()?;
            Array::try_from(self.map(map::GONE)?)?.set(0, cookie, 0)?;
            let done = self.pass();
            // Reset the cookie, so that a later pass does not find it.
            Array::try_from(self.map(map::GONE)?)?.set(0, 0_u64, 0)?;
            done?;
        }
        Ok(())
    }

    /// Passes each entry of a hash map to `take`, and sends heartbeats
    /// meanwhile. If entries come or go at the same time, these and others may
    /// be missed, and others may be passed twice.
    fn entries<K: Pod, V: Pod>(&mut self, map: &str, mut take: impl FnMut(K, V)) -> Result<()> {
        let Self { ebpf, heart, .. } = self;
        let map: HashMap<_, K, V> = HashMap::try_from(map_of(ebpf, map)?)?;
        in_pages(map.iter(), &mut || heart.beat_if_due(), |(key, value)| {
            take(key, value);
            Ok(())
        })
    }

    /// Does the same with each key, in half the time.
    fn keys<K: Pod, V: Pod>(&mut self, map: &str, mut take: impl FnMut(K)) -> Result<()> {
        let Self { ebpf, heart, .. } = self;
        let map: HashMap<_, K, V> = HashMap::try_from(map_of(ebpf, map)?)?;
        in_pages(map.keys(), &mut || heart.beat_if_due(), |key| {
            take(key);
            Ok(())
        })
    }

    /// Takes the events. This is possible only once.
    ///
    /// # Errors
    /// They were taken before.
    pub fn take_events(&mut self) -> Result<Events> {
        let map = self
            .ebpf
            .take_map(map::EVENTS)
            .context("the events were taken before")?;
        Events::new(map)
    }

    /// Passes on what the programs have logged since the last call.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("the eBPF object has no map {name}"))
    }

    fn map_ref(&self, name: &str) -> Result<&Map> {
        map_of(&self.ebpf, name)
    }
}

/// Returns a map of the object. For use where another part of [`Kernel`] is
/// borrowed at the same time.
fn map_of<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Map> {
    ebpf.map(name)
        .with_context(|| format!("the eBPF object has no map {name}"))
}

/// Removes the filters that a killed agent has left on devices, which happens
/// where the kernel has no tcx (before Linux 6.6). Returns how many there were.
pub fn remove_stale_filters() -> usize {
    tc::remove_leftovers()
}
