//! The pins of a network namespace, in any layout: lists them, tells whether a
//! living agent is behind them, and removes them.
//!
//! A namespace's pins are removed by the agent of that namespace, or after the
//! namespace is gone. It is not enough that /proc does not show the namespace.
//! The heartbeat in the pinned `CONFIG` has to have ended as well, and this
//! process must be one that sees every process of the host.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use aya::maps::{Array, Map, MapData, MapInfo};
use mptcp_common::abi::{self, Config};
use mptcp_common::names::map;

use super::bpffs::{self, Directory};
use crate::host::Namespace;
use crate::kernel::clock;

/// The directory of all agents of a host.
const ROOT: &str = "mptcp-agent";

/// How the name of each layout's directory begins.
pub(super) const ABI: &str = "abi-";

/// The directories of a layout.
pub(super) const LINKS: &str = "links";
pub(super) const MAPS: &str = "maps";

/// The pins of one network namespace.
#[derive(Debug)]
pub struct Remains {
    root: Directory,
    name: String,
    pub(super) home: Directory,
}

/// The pins that are there, or that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Names of attached programs.
    pub links: Vec<String>,
    /// Names of maps.
    pub maps: Vec<String>,
}

impl Content {
    /// Returns whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.maps.is_empty()
    }
}

/// The result of a search for pins of namespaces that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Namespaces that are gone, whose pins were removed.
    pub removed: usize,
    /// Namespaces that this process does not see, whose pins were left because
    /// it does not see every process of the host.
    pub unseen: usize,
}

impl Remains {
    /// Finds the pins of `namespace`, if there are any that this process may
    /// trust.
    pub fn find(namespace: Namespace) -> Option<Self> {
        let root = find_root()?;
        let name = namespace.to_string();
        let home = trusted(root.open(&name))?;
        Some(Self { root, name, home })
    }

    /// Finds, or makes, the directory of `namespace`.
    ///
    /// # Errors
    /// There is no BPF file system, or nothing can be made in it; the error is
    /// one line.
    pub(super) fn open(namespace: Namespace) -> Result<Self> {
        let root = bpffs::find_or_mount()?.open_or_replace(ROOT)?;
        let name = namespace.to_string();
        let home = root.open_or_make(&name)?;
        Ok(Self { root, name, home })
    }

    /// Returns whether the directory is still in its place.
    pub(super) fn is_in_place(&self) -> bool {
        let found = find_root().and_then(|root| trusted(root.open(&self.name)));
        found.is_some_and(|home| home.own_inode() == self.home.own_inode())
    }

    /// Returns the names of everything that is pinned, in any layout.
    pub fn content(&self) -> Content {
        let mut content = Content::default();
        for layout in self.layouts() {
            let names = |kind| trusted(layout.open(kind)).map(|kind| kind.entries());
            content.links.extend(names(LINKS).into_iter().flatten());
            content.maps.extend(names(MAPS).into_iter().flatten());
        }
        content
    }

    /// Removes everything. This detaches the programs that no process holds.
    pub fn remove(&self) {
        remove_namespace(&self.root, &self.name, &self.home);
        remove_root_if_empty();
    }

    /// Makes the programs obey the default policy. If the agent that set
    /// another one is long gone, they do so already.
    pub fn end_policy(&self) {
        if let Some(mut map) = self.own_maps().and_then(|maps| config(&maps).ok())
            && let Ok(present) = map.get(&0, 0)
        {
            let ended = Config {
                enforced: 0,
                ..present
            };
            if let Err(error) = map.set(0, ended, 0) {
                tracing::debug!("cannot end the policy of the agent before: {error}");
            }
        }
    }

    /// Returns how many entries a map of this version's layout can hold, if it
    /// is there.
    pub fn capacity(&self, map: &str) -> Option<u32> {
        let info = MapInfo::from_pin(self.own_maps()?.path_of(map)).ok()?;
        Some(info.max_entries())
    }

    fn own_maps(&self) -> Option<Directory> {
        let own = trusted(self.home.open(&own_layout()))?;
        trusted(own.open(MAPS))
    }

    /// Returns until when the agent behind any of the layouts counts as alive:
    /// the latest of these times. `None`: no agent was ever alive.
    pub fn alive_until_ns(&self) -> Option<u64> {
        alive_until_ns(&self.home)
    }

    fn layouts(&self) -> Vec<Directory> {
        layouts(&self.home)
    }
}

/// Returns the name of the directory of this build's layout.
pub(super) fn own_layout() -> String {
    format!("{ABI}{:016x}", abi::ABI)
}

/// Opens the `CONFIG` that the programs of an earlier agent obey.
///
/// # Errors
/// The map is not there.
pub(super) fn config(maps: &Directory) -> Result<Array<MapData, Config>> {
    let map = MapData::from_pin(maps.path_of(map::CONFIG))?;
    Ok(Array::try_from(Map::Array(map))?)
}

/// Returns whether an agent acts in `namespace`, that is, whether its heartbeat
/// goes on. Waits for the next beat, if one may come.
pub fn is_beating(namespace: Namespace) -> bool {
    /// Long enough for one beat of an agent that is busy.
    const PATIENCE: Duration = Duration::from_millis(1500);
    const STEP: Duration = Duration::from_millis(20);
    let alive_until_ns = || Remains::find(namespace).and_then(|found| found.alive_until_ns());
    let Some(first) = alive_until_ns().filter(|&until| clock::monotonic_ns() < until) else {
        return false;
    };
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if alive_until_ns().is_some_and(|now| now > first) {
            return true;
        }
        thread::sleep(STEP);
    }
    false
}

/// Removes what agents left in network namespaces that are gone.
pub fn sweep_dead_namespaces() -> Swept {
    let mut swept = Swept::default();
    let Some(root) = find_root() else {
        return swept;
    };
    // Read the names first, so that a namespace that is made later is not among
    // them.
    let names = root.entries();
    let now = clock::monotonic_ns();
    let live = Namespace::all_live();
    for name in names {
        let Some(inode) = Namespace::inode_of(&name) else {
            continue;
        };
        if live.seen.contains(&inode) {
            continue;
        }
        let Some(home) = trusted(root.open(&name)) else {
            continue;
        };
        // An agent acts there, in a namespace that this process cannot see.
        if alive_until_ns(&home).is_some_and(|until| now < until) {
            continue;
        }
        if live.complete {
            remove_namespace(&root, &name, &home);
            swept.removed += 1;
        } else {
            swept.unseen += 1;
        }
    }
    drop(root);
    remove_root_if_empty();
    swept
}

fn find_root() -> Option<Directory> {
    let bpffs = trusted(bpffs::find())?;
    trusted(bpffs.open(ROOT))
}

/// Returns what is there, if it can be trusted. What belongs to somebody else
/// is left alone.
pub(super) fn trusted(found: Result<Option<Directory>, impl Display>) -> Option<Directory> {
    found.unwrap_or_else(|error| {
        tracing::debug!("left alone: {error:#}");
        None
    })
}

fn layouts(home: &Directory) -> Vec<Directory> {
    let names = home.entries();
    let opened = names.iter().map(|name| trusted(home.open(name)));
    opened.flatten().collect()
}

fn alive_until_ns(home: &Directory) -> Option<u64> {
    let heartbeats = layouts(home).into_iter().filter_map(|layout| {
        let maps = trusted(layout.open(MAPS))?;
        maps.has(map::CONFIG)
            .then(|| read_heartbeat(&maps).unwrap_or(u64::MAX))
    });
    heartbeats.max()
}

/// Reads the heartbeat in a `CONFIG` of any version; `None` if it cannot be
/// read.
fn read_heartbeat(maps: &Directory) -> Option<u64> {
    const WORD: usize = size_of::<u64>();
    fn word<const N: usize>(map: MapData) -> Option<u64> {
        let map: Array<_, [u64; N]> = Array::try_from(Map::Array(map)).ok()?;
        map.get(&0, 0)
            .ok()?
            .get(abi::HEARTBEAT_OFFSET / WORD)
            .copied()
    }
    let path = maps.path_of(map::CONFIG);
    let size = MapInfo::from_pin(&path).ok()?.value_size() as usize;
    let map = MapData::from_pin(&path).ok()?;
    // In aya the size of a value is part of the map's type, hence one arm per
    // size.
    match size.div_ceil(WORD) {
        3 => word::<3>(map),
        4 => word::<4>(map),
        5 => word::<5>(map),
        6 => word::<6>(map),
        7 => word::<7>(map),
        8 => word::<8>(map),
        _ => None,
    }
}

fn remove_namespace(root: &Directory, name: &str, home: &Directory) {
    for layout in home.entries() {
        remove_layout(home, &layout);
    }
    root.remove_directory(name);
}

/// Removes one layout of a namespace, or whatever has taken its place, and
/// returns what it held.
pub(super) fn remove_layout(home: &Directory, name: &str) -> Content {
    let mut removed = Content::default();
    let Some(layout) = trusted(home.open(name)) else {
        home.remove_file(name);
        return removed;
    };
    // Programs first: they use the maps.
    for (kind, names) in [(LINKS, &mut removed.links), (MAPS, &mut removed.maps)] {
        match trusted(layout.open(kind)) {
            Some(pins) => {
                let entries = pins.entries().into_iter();
                names.extend(entries.filter(|pin| pins.remove_file(pin)));
                layout.remove_directory(kind);
            }
            None => {
                layout.remove_file(kind);
            }
        }
    }
    home.remove_directory(name);
    removed
}

/// Removes the directory of all agents, if no namespace has anything in it.
fn remove_root_if_empty() {
    if let Some(bpffs) = trusted(bpffs::find())
        && let Some(root) = trusted(bpffs.open(ROOT))
        && root.entries().is_empty()
    {
        bpffs.remove_directory(ROOT);
    }
}
