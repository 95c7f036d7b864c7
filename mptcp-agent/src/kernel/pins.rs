//! The maps and programs that outlive the agent, by their names in a BPF file
//! system (bpffs):
//!
//! ```text
//!   /sys/fs/bpf/mptcp-agent/<network namespace>/abi-HASH/
//!       maps/CONNECTIONS ...            state, settings, totals
//!       links/sockops-<owner> ...       the programs, attached
//! ```
//!
//! While the agent lives, it writes a heartbeat each 250 ms. If the heartbeat
//! stops, because the agent was killed or hangs, the programs that
//! are held here lift the limits that they find, at the next callback of each
//! socket, and go on counting. The next agent takes maps and totals over,
//! attaches its own programs, and makes them the only ones that act with one
//! write. Then it detaches the old ones.
//!
//! A layout with another hash, or a map of another size, is never read. It is
//! removed with its programs.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use aya::{
    maps::{Array, MapData, MapInfo},
    programs::links::FdLink,
};
use mptcp_common::abi::{
    Config, Connection, PathConfig, PathStats, Policy, Subflow, Totals,
    redundant::{CopyStats, Listener, PeerView, Redundant},
    rule::{Rule, RuleStats},
};
use mptcp_common::names::map;

use super::bpffs::Directory;
use super::remains::{self, Content, LINKS, MAPS, Remains, remove_layout, trusted};
use crate::host::Namespace;
use crate::kernel::clock;

/// The maps that outlive the agent: name, bytes of a key and of a value (the
/// ring buffer has neither). The other maps hold nothing that the next agent
/// misses, because it has to find out anew where copies may go.
const KEPT: [(&str, usize, usize); 18] = [
    (map::CONNECTIONS, 8, size_of::<Connection>()),
    (map::SUBFLOWS, 8, size_of::<Subflow>()),
    (map::CONFIG, 4, size_of::<Config>()),
    (map::POLICIES, 4, size_of::<Policy>()),
    (map::RULES, 4, size_of::<Rule>()),
    (map::RULE_STATS, 4, size_of::<RuleStats>()),
    (map::PATHS, 4, size_of::<PathConfig>()),
    (map::SELECT_ID, 4, 4),
    (map::SELECT_PREFIX, 20, 4),
    (map::SELECT_REMOTE, 20, 4),
    (map::SELECT_DEVICE, 4, 4),
    (map::REDUNDANT, 4, size_of::<Redundant>()),
    (map::COOKIE_OF, size_of::<PeerView>(), 8),
    (map::LISTENERS, 8, size_of::<Listener>()),
    (map::COPY_STATS, 4, size_of::<CopyStats>()),
    (map::PATH_STATS, 4, size_of::<PathStats>()),
    (map::TOTALS, 4, size_of::<Totals>()),
    (map::EVENTS, 0, 0),
];

/// This network namespace's part of the BPF file system, with the directories
/// of this layout.
#[derive(Debug)]
pub struct Pins {
    namespace: Namespace,
    remains: Remains,
    maps: Directory,
    links: Directory,
    /// Names of pins and their inodes, as this process has made or found them.
    kept: Vec<(Kind, String, u64)>,
}

/// The kind of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Map,
    Link,
}

impl Pins {
    /// Finds, or makes, the directories of `namespace`.
    ///
    /// # Errors
    /// There is no BPF file system, or nothing can be made in it; the error is
    /// one line.
    pub fn open(namespace: Namespace) -> Result<Self> {
        let remains = Remains::open(namespace)?;
        let own = remains.home.open_or_make(&remains::own_layout())?;
        Ok(Self {
            namespace,
            maps: own.open_or_make(MAPS)?,
            links: own.open_or_make(LINKS)?,
            remains,
            kept: Vec::new(),
        })
    }

    /// Removes what this agent cannot read: layouts of other versions, and its
    /// own if a map is missing or of another size. Returns what was removed.
    ///
    /// # Errors
    /// The directories of its own layout were removed and cannot be made again.
    pub fn reject_foreign(&mut self) -> Result<Vec<(String, Content)>> {
        let mut rejected = Vec::new();
        for layout in self.remains.home.entries() {
            let own = layout == remains::own_layout();
            if own && (self.is_empty() || self.fits()) {
                continue;
            }
            let removed = remove_layout(&self.remains.home, &layout);
            rejected.push((layout, removed));
            if own {
                // Make empty directories, to be filled anew.
                *self = Self::open(self.namespace)?;
            }
        }
        Ok(rejected)
    }

    /// Returns whether no earlier agent has left anything.
    fn is_empty(&self) -> bool {
        self.maps.entries().is_empty()
    }

    /// Returns where each map is pinned, or will be. The paths lead through the
    /// handles of `self`.
    pub fn map_paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        KEPT.iter()
            .map(move |(name, ..)| (*name, self.maps.path_of(name)))
    }

    /// Returns the `CONFIG` that the programs of an earlier agent obey, if that
    /// agent's heartbeat has not expired yet. The policy of an agent that is
    /// long dead must not act again.
    pub fn living_config(&self) -> Option<Array<MapData, Config>> {
        let config = remains::config(&self.maps).ok()?;
        let present = config.get(&0, 0).ok()?;
        (clock::monotonic_ns() < present.alive_until_ns).then_some(config)
    }

    /// Returns how many entries a map can hold, if it is there.
    pub fn capacity(&self, map: &str) -> Option<u32> {
        let info = MapInfo::from_pin(self.maps.path_of(map)).ok()?;
        Some(info.max_entries())
    }

    /// Keeps a program of `owner` attached when this process ends. Returns the
    /// link: if the caller holds it, the program stays attached even if
    /// somebody removes the pin.
    ///
    /// # Errors
    /// The file system refused it, and so the program is detached.
    pub fn keep(&mut self, program: &str, owner: u32, link: FdLink) -> Result<FdLink> {
        let name = link_name(program, owner);
        let pinned = link
            .pin(self.links.path_of(&name))
            .with_context(|| format!("cannot keep {program} attached"))?;
        self.note(Kind::Link, &name);
        Ok(pinned.into())
    }

    /// Pins the maps that are not pinned yet, and takes note of all.
    ///
    /// # Errors
    /// The file system refused one.
    pub fn keep_maps(&mut self, maps: &[(&'static str, MapData)]) -> Result<()> {
        for (name, map) in maps {
            if !self.maps.has(name) {
                map.pin(self.maps.path_of(name))
                    .with_context(|| format!("cannot keep the map {name}"))?;
            }
            self.note(Kind::Map, name);
        }
        Ok(())
    }

    /// Removes the pin of a program of `owner`, if it is kept.
    pub fn forget(&mut self, program: &str, owner: u32) {
        let forgotten = link_name(program, owner);
        self.links.remove_file(&forgotten);
        self.kept
            .retain(|(kind, name, _)| (*kind, name) != (Kind::Link, &forgotten));
    }

    /// Detaches every kept program but those of `owner`. Returns how many.
    pub fn dismiss_others(&self, owner: u32) -> usize {
        let own = link_name("", owner);
        let links = self.links.entries().into_iter();
        links
            .filter(|link| !link.ends_with(&own))
            .filter(|link| self.links.remove_file(link))
            .count()
    }

    /// Returns the names of the pins that are gone, or that are not the ones
    /// which this process made or found; all of them, if a directory is no
    /// longer in its place.
    pub fn missing(&self) -> Vec<&str> {
        let in_place = self.are_directories_in_place();
        let is_there = |kind: Kind, name: &str, inode: u64| {
            let directory = match kind {
                Kind::Map => &self.maps,
                Kind::Link => &self.links,
            };
            directory.inode(name) == Some(inode)
        };
        self.kept
            .iter()
            .filter(|(kind, name, inode)| !in_place || !is_there(*kind, name, *inode))
            .map(|(_, name, _)| name.as_str())
            .collect()
    }

    /// Empties the directories of this layout, which somebody has tampered
    /// with, or makes them again.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn start_anew(&mut self) -> Result<()> {
        let fresh = Self::open(self.namespace)?;
        for pins in [&fresh.links, &fresh.maps] {
            for pin in pins.entries() {
                pins.remove_file(&pin);
            }
        }
        *self = fresh;
        Ok(())
    }

    /// Removes everything. This detaches the programs that no process holds.
    pub fn remove(&self) {
        self.remains.remove();
    }

    fn are_directories_in_place(&self) -> bool {
        let own = trusted(self.remains.home.open(&remains::own_layout()));
        let is_in_place = |kind: &str, held: &Directory| {
            let found = own.as_ref().and_then(|own| trusted(own.open(kind)));
            found.is_some_and(|found| found.own_inode() == held.own_inode())
        };
        self.remains.is_in_place()
            && is_in_place(MAPS, &self.maps)
            && is_in_place(LINKS, &self.links)
    }

    fn note(&mut self, kind: Kind, name: &str) {
        let directory = match kind {
            Kind::Map => &self.maps,
            Kind::Link => &self.links,
        };
        let inode = directory.inode(name);
        self.kept
            .extend(inode.map(|inode| (kind, name.to_owned(), inode)));
    }

    /// Returns whether every map is there, as a pin of the size that this agent
    /// reads.
    fn fits(&self) -> bool {
        KEPT.iter().all(|&(name, key, value)| {
            let sizes = |info: MapInfo| (info.key_size() as usize, info.value_size() as usize);
            self.maps.has(name)
                && MapInfo::from_pin(self.maps.path_of(name))
                    .is_ok_and(|info| sizes(info) == (key, value))
        })
    }
}

fn link_name(program: &str, owner: u32) -> String {
    format!("{program}-{owner:08x}")
}
