//! The one door to the kernel side: programs, maps, and what they say.
//!
//! A policy goes in through [`Kernel::publish`]; totals and events come out.
//! Dropping a [`Kernel`] lifts every limit that it set, unless it is left to a
//! successor.

mod bpffs;
mod btf;
mod clsact;
mod events;
mod life;
mod load;
mod members;
mod pins;
mod redundant;
mod sweep;
mod tc;

use std::{os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuValues, lpm_trie},
    programs::{Iter, links::FdLink},
};
use aya_log::EbpfLogger;
use ipnet::IpNet;
use mptcp_common::abi::{Config, MAX_PATHS, PathConfig, PathStats, Totals, redundant::CopyStats};

pub use btf::VMLINUX;
pub use events::Events;
pub use load::LoadOptions;
pub use pins::{Content, Pins, sweep_dead_namespaces};
pub use redundant::LinkTraffic;
pub use sweep::Sweep;

use load::{describe, find};

use crate::paths::PathTable;

/// Names of the programs, as in metrics and in the attach table.
mod program {
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
    /// What it is for: what the agent goes without if it is not in place.
    pub purpose: &'static str,
    /// Why it is not in place.
    pub error: Option<String>,
}

/// What a program has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    /// As in [`Attachment::program`].
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// How long, in all.
    pub run_time: Duration,
}

/// An attached program.
struct Link {
    /// One of the names in `program`.
    program: &'static str,
    link: FdLink,
}

/// The loaded kernel side.
pub struct Kernel {
    ebpf: Ebpf,
    attachments: Vec<Attachment>,
    /// The devices that have the tc programs; `None` under another policy.
    tc: Option<tc::Tc>,
    /// Why this kernel cannot have them.
    no_tc: Option<String>,
    /// Who the programs act for.
    owner: u32,
    /// Map `CONFIG`.
    told: Array<MapData, Config>,
    /// What it holds.
    config: Config,
    /// What outlives this process.
    pins: Option<Pins>,
    /// Why nothing, or not all, does.
    not_outlived: Option<String>,
    /// Programs that do not outlive it.
    links: Vec<FdLink>,
    /// Whether an earlier agent's maps and totals go on.
    adopted: bool,
    /// What the programs say, rarely.
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Whether nothing that was set is left.
    lifted: bool,
    /// While it is open the kernel measures programs' run time.
    stats: Option<OwnedFd>,
}

impl Kernel {
    /// Loads and attaches what this kernel allows.
    ///
    /// # Errors
    /// The object is missing or unfit, or the sockops program, without which
    /// nothing is seen, is refused.
    pub fn load(options: &LoadOptions<'_>) -> Result<Self> {
        load::load(options)
    }

    /// Every hook, in place or not.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Run count and time of the programs that are in place; none where the
    /// kernel does not measure them.
    pub fn program_stats(&self) -> Vec<ProgramStats> {
        if self.stats.is_none() {
            return Vec::new();
        }
        let info = |program, symbol| {
            let info = self.ebpf.program(symbol)?.info().ok()?;
            Some(ProgramStats {
                program,
                runs: info.run_count(),
                run_time: info.run_time(),
            })
        };
        let hooks = load::PROGRAMS.iter().map(|hook| (hook.name, hook.symbol));
        // What was not loaded has no info.
        let tc = tc::PROGRAMS.iter().map(|hook| (hook.name, hook.symbol));
        hooks
            .chain(tc)
            .filter_map(|(name, symbol)| info(name, symbol))
            .collect()
    }

    /// Makes `table` and `mode` (one of `abi::mode`) what the programs obey
    /// from their next callback on.
    ///
    /// # Errors
    /// A map refused an entry.
    pub fn publish(&mut self, table: &PathTable, mode: u32) -> Result<()> {
        let mut paths: Array<_, PathConfig> = Array::try_from(self.map("PATHS")?)?;
        for (index, path) in table.config().iter().enumerate().take(MAX_PATHS) {
            paths.set(u32::try_from(index)?, *path, 0)?;
        }

        let wanted: Vec<(u32, u32)> = table.ids().collect();
        replace(HashMap::try_from(self.map("SELECT_ID")?)?, &wanted)?;
        let wanted: Vec<(u32, u32)> = table.devices().collect();
        replace(HashMap::try_from(self.map("SELECT_DEVICE")?)?, &wanted)?;

        let mut prefixes: LpmTrie<_, [u8; 16], u32> =
            LpmTrie::try_from(self.map("SELECT_PREFIX")?)?;
        let wanted: Vec<_> = table
            .prefixes()
            .map(|(net, path)| (prefix_key(net), path))
            .collect();
        let present: Vec<_> = prefixes.keys().collect::<Result<_, _>>()?;
        for (key, path) in &wanted {
            prefixes.insert(key, path, 0)?;
        }
        let is_wanted = |key: &lpm_trie::Key<[u8; 16]>| {
            wanted.iter().any(|(other, _)| {
                (other.prefix_len(), other.data()) == (key.prefix_len(), key.data())
            })
        };
        for key in present.iter().filter(|key| !is_wanted(key)) {
            prefixes.remove(key)?;
        }

        // Last: the new generation sends the programs to the maps above, and
        // these programs alone act from now on.
        self.config.mode = mode;
        self.config.generation = table.generation();
        self.config.owner = self.owner;
        self.beat()?;
        if let Some(pins) = &self.pins {
            let dismissed = pins.dismiss_others(self.owner);
            if dismissed > 0 {
                tracing::debug!(dismissed, "detached the programs of the agent before");
            }
        }
        Ok(())
    }

    /// The paths as they were last published, maybe by an earlier agent; the
    /// index is the path's.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn paths(&self) -> Result<Vec<PathConfig>> {
        let map: Array<_, PathConfig> = Array::try_from(self.map_ref("PATHS")?)?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    /// The generation that was published last, maybe by an earlier agent: the
    /// next one must be another.
    pub fn generation(&self) -> u32 {
        self.config.generation
    }

    /// Sets every total of a path to zero, for another path to take its index.
    ///
    /// # Errors
    /// A map refused it.
    pub fn forget_path(&mut self, index: u32) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
        let zero = PerCpuValues::try_from(vec![PathStats::default(); cpus])?;
        PerCpuArray::try_from(self.map("PATH_STATS")?)?.set(index, zero, 0)?;
        let zero = PerCpuValues::try_from(vec![CopyStats::default(); cpus])?;
        Ok(PerCpuArray::try_from(self.map("COPY_STATS")?)?.set(index, zero, 0)?)
    }

    /// Totals of every path, summed over the CPUs; the index is the path's.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn path_stats(&self) -> Result<Vec<PathStats>> {
        let map: PerCpuArray<_, PathStats> = PerCpuArray::try_from(self.map_ref("PATH_STATS")?)?;
        (0..u32::try_from(MAX_PATHS)?)
            .map(|path| {
                let cpus = map.get(&path, 0)?;
                Ok(cpus.iter().fold(PathStats::default(), PathStats::plus))
            })
            .collect()
    }

    /// Host-wide totals, summed over the CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn totals(&self) -> Result<Totals> {
        let map: PerCpuArray<_, Totals> = PerCpuArray::try_from(self.map_ref("TOTALS")?)?;
        Ok(map.get(&0, 0)?.iter().fold(Totals::default(), Totals::plus))
    }

    /// Visits every TCP socket of this network namespace, to do `what` (one of
    /// `abi::sweep`). Blocks, for about a microsecond a socket.
    ///
    /// # Errors
    /// The iterator is not in place or cannot be read.
    pub fn sweep(&mut self, what: u32) -> Result<Sweep> {
        // A pass may take long, and obeys only an agent that is alive.
        self.beat()?;
        Array::try_from(self.map("SWEEP")?)?.set(0, what, 0)?;
        let program: &mut Iter = self
            .ebpf
            .program_mut(program::ITER)
            .context("the eBPF object has no iter/tcp program")?
            .try_into()?;
        sweep::run(program)
    }

    /// The events; can be taken once.
    ///
    /// # Errors
    /// They were taken before.
    pub fn take_events(&mut self) -> Result<Events> {
        let map = self
            .ebpf
            .take_map("EVENTS")
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
        self.ebpf
            .map(name)
            .with_context(|| format!("the eBPF object has no map {name}"))
    }
}

/// Removes filters that an agent which was killed has left on devices (where
/// the kernel has no tcx, before Linux 6.6). Returns how many.
pub fn remove_stale_filters() -> usize {
    tc::remove_leftovers()
}

/// Makes `wanted` the map's content, without a moment in which an entry that
/// stays is missing.
fn replace(mut map: HashMap<&mut MapData, u32, u32>, wanted: &[(u32, u32)]) -> Result<()> {
    let present: Vec<u32> = map.keys().collect::<Result<_, _>>()?;
    for (key, path) in wanted {
        map.insert(key, path, 0)?;
    }
    for key in present
        .iter()
        .filter(|key| !wanted.iter().any(|(other, _)| other == *key))
    {
        map.remove(key)?;
    }
    Ok(())
}

/// IPv4 as `::ffff:a.b.c.d`, as the programs look addresses up.
fn prefix_key(net: IpNet) -> lpm_trie::Key<[u8; 16]> {
    let (bits, address) = match net {
        IpNet::V4(net) => (
            96 + u32::from(net.prefix_len()),
            net.network().to_ipv6_mapped(),
        ),
        IpNet::V6(net) => (u32::from(net.prefix_len()), net.network()),
    };
    lpm_trie::Key::new(bits, address.octets())
}

#[cfg(test)]
mod tests {
    use super::prefix_key;

    #[test]
    fn ipv4_prefixes_are_looked_up_as_mapped() {
        let key = prefix_key("10.1.0.0/16".parse().expect("a prefix"));
        let bits = key.prefix_len();
        assert_eq!(bits, 112);
        assert_eq!(key.data()[10..], [0xff, 0xff, 10, 1, 0, 0]);
        let key = prefix_key("fd00::/8".parse().expect("a prefix"));
        let bits = key.prefix_len();
        assert_eq!(bits, 8);
        assert_eq!(key.data()[..2], [0xfd, 0]);
    }
}
