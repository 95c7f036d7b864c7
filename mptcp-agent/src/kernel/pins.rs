//! What outlives the agent, by names in a BPF file system (bpffs):
//!
//! ```text
//!   /sys/fs/bpf/mptcp-agent/<network namespace>/abi-4/
//!       maps/CONNECTIONS ...            state, settings, totals
//!       links/sockops-<owner> ...       the programs, attached
//! ```
//!
//! While the agent lives it says so every half second. If it stops saying so,
//! killed or hung, the programs that are held here lift what they find set, at
//! the next callback of each socket, and go on counting. The next agent takes
//! maps and totals over, attaches its own programs, and becomes their owner
//! with one write; then the old ones go.
//!
//! A layout of another version, or of another size, is never read: it is
//! removed, programs and all.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::links::FdLink,
};
use mptcp_common::abi::{
    ABI_VERSION, Config, Connection, PathConfig, PathStats, Subflow, Totals,
    redundant::{CopyStats, PeerView, Redundant},
};

use super::bpffs;
use crate::host::Namespace;

/// The directory of all agents of a host.
const ROOT: &str = "mptcp-agent";

/// What a directory of another version begins with, too.
const ABI: &str = "abi-";

/// The directories in it.
const LINKS: &str = "links";
const MAPS: &str = "maps";

/// Maps that outlive the agent: name, bytes of a key and of a value (the ring
/// buffer has neither). The others hold nothing that the next agent misses:
/// where copies may go, it has to find out anew.
const KEPT: [(&str, usize, usize); 14] = [
    ("CONNECTIONS", 8, size_of::<Connection>()),
    ("SUBFLOWS", 8, size_of::<Subflow>()),
    ("CONFIG", 4, size_of::<Config>()),
    ("PATHS", 4, size_of::<PathConfig>()),
    ("SELECT_ID", 4, 4),
    ("SELECT_PREFIX", 20, 4),
    ("SELECT_REMOTE", 20, 4),
    ("SELECT_DEVICE", 4, 4),
    ("REDUNDANT", 4, size_of::<Redundant>()),
    ("COOKIE_OF", size_of::<PeerView>(), 8),
    ("COPY_STATS", 4, size_of::<CopyStats>()),
    ("PATH_STATS", 4, size_of::<PathStats>()),
    ("TOTALS", 4, size_of::<Totals>()),
    ("EVENTS", 0, 0),
];

/// This network namespace's part of the BPF file system.
#[derive(Debug)]
pub struct Pins {
    /// `<bpffs>/mptcp-agent/<namespace>`.
    namespace: PathBuf,
    /// The directory of this layout in it.
    own: PathBuf,
}

/// What is there, or was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Names of attached programs.
    pub links: Vec<String>,
    /// Names of maps.
    pub maps: Vec<String>,
}

impl Content {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.maps.is_empty()
    }
}

impl Pins {
    /// Finds, or makes, the directory of `namespace`.
    ///
    /// # Errors
    /// No BPF file system is to be had, or nothing can be made in it: one line.
    pub fn open(namespace: Namespace) -> Result<Self> {
        let pins = Self::below(&bpffs::find_or_mount()?, namespace);
        for directory in [pins.maps(), pins.links()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        Ok(pins)
    }

    /// What there is of `namespace`, if there is anything.
    pub fn find(namespace: Namespace) -> Option<Self> {
        let pins = Self::below(&bpffs::find()?, namespace);
        pins.namespace.exists().then_some(pins)
    }

    fn below(bpffs: &Path, namespace: Namespace) -> Self {
        let namespace = bpffs.join(ROOT).join(namespace.to_string());
        let own = namespace.join(format!("{ABI}{ABI_VERSION}"));
        Self { namespace, own }
    }

    /// Removes what this agent cannot read: layouts of other versions, and its
    /// own if a map is missing or of another size. Returns what it was.
    pub fn reject_foreign(&self) -> Vec<(String, Content)> {
        let mut rejected = Vec::new();
        for directory in entries(&self.namespace) {
            let own = directory == self.own;
            if own && (self.is_empty() || self.fits()) {
                continue;
            }
            let name = file_name(&directory);
            let removed = remove(&directory);
            if own {
                // To be filled anew.
                let _ = fs::create_dir_all(self.maps());
                let _ = fs::create_dir_all(self.links());
            }
            rejected.push((name, removed));
        }
        rejected
    }

    /// What there is, of whatever layout.
    pub fn content(&self) -> Content {
        let mut content = Content::default();
        for layout in entries(&self.namespace) {
            let names = |kind: &str| {
                let files = entries(&layout.join(kind));
                files.iter().map(|file| file_name(file)).collect::<Vec<_>>()
            };
            content.links.extend(names(LINKS));
            content.maps.extend(names(MAPS));
        }
        content
    }

    /// Whether no earlier agent has left anything.
    pub fn is_empty(&self) -> bool {
        entries(&self.maps()).is_empty()
    }

    /// Where each map is, or is to be.
    pub fn map_paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let maps = self.maps();
        KEPT.iter().map(move |(name, ..)| (*name, maps.join(name)))
    }

    /// What the programs of an earlier agent obey.
    ///
    /// # Errors
    /// It is not there.
    pub fn config(&self) -> Result<Array<MapData, Config>> {
        let map = MapData::from_pin(self.maps().join("CONFIG"))?;
        Ok(Array::try_from(Map::Array(map))?)
    }

    /// Entries that a map holds, if it is there.
    pub fn capacity(&self, map: &str) -> Option<u32> {
        let info = MapInfo::from_pin(self.maps().join(map)).ok()?;
        Some(info.max_entries())
    }

    /// Keeps a program of `owner` attached when this process ends.
    ///
    /// # Errors
    /// The file system refused it.
    pub fn keep(&self, program: &str, owner: u32, link: FdLink) -> Result<()> {
        let path = self.links().join(link_name(program, owner));
        link.pin(path)
            .with_context(|| format!("cannot keep {program} attached"))?;
        Ok(())
    }

    /// Detaches a program of `owner`, if it is kept.
    pub fn forget(&self, program: &str, owner: u32) {
        let _ = fs::remove_file(self.links().join(link_name(program, owner)));
    }

    /// Detaches every kept program but those of `owner`. Returns how many.
    pub fn dismiss_others(&self, owner: u32) -> usize {
        let own = link_name("", owner);
        entries(&self.links())
            .into_iter()
            .filter(|link| !file_name(link).ends_with(&own))
            .filter(|link| fs::remove_file(link).is_ok())
            .count()
    }

    /// Removes everything: programs that no process holds are detached by that.
    pub fn remove(&self) {
        remove(&self.namespace);
        // Goes only if no other namespace has anything.
        if let Some(root) = self.namespace.parent() {
            let _ = fs::remove_dir(root);
        }
    }

    fn maps(&self) -> PathBuf {
        self.own.join(MAPS)
    }

    fn links(&self) -> PathBuf {
        self.own.join(LINKS)
    }

    /// Whether every map is there and has the size that this agent reads.
    fn fits(&self) -> bool {
        KEPT.iter().all(|&(name, key, value)| {
            let sizes = |info: MapInfo| (info.key_size() as usize, info.value_size() as usize);
            MapInfo::from_pin(self.maps().join(name)).is_ok_and(|info| sizes(info) == (key, value))
        })
    }
}

/// Removes what agents left in network namespaces that are gone. Returns how
/// many namespaces that were.
pub fn sweep_dead_namespaces() -> usize {
    let Some(root) = bpffs::find().map(|bpffs| bpffs.join(ROOT)) else {
        return 0;
    };
    let live = Namespace::all_live();
    let dead = entries(&root).into_iter().filter(|directory| {
        Namespace::inode_of(&file_name(directory)).is_some_and(|inode| !live.contains(&inode))
    });
    let mut count = 0;
    for directory in dead {
        remove(&directory);
        count += 1;
    }
    let _ = fs::remove_dir(root);
    count
}

/// Removes a namespace's directory, or that of one layout in it.
fn remove(directory: &Path) -> Content {
    let mut removed = Content::default();
    let layouts = entries(directory);
    // A layout itself, or a namespace with layouts in it.
    let layouts = if directory.join(MAPS).exists() {
        vec![directory.to_owned()]
    } else {
        layouts
    };
    for layout in layouts {
        // Programs first: they use the maps.
        for (kind, names) in [(LINKS, &mut removed.links), (MAPS, &mut removed.maps)] {
            let kind = layout.join(kind);
            for file in entries(&kind) {
                if fs::remove_file(&file).is_ok() {
                    names.push(file_name(&file));
                }
            }
            let _ = fs::remove_dir(kind);
        }
        let _ = fs::remove_dir(layout);
    }
    if let Err(error) = fs::remove_dir(directory)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!("cannot remove {}: {error}", directory.display());
    }
    removed
}

/// What a directory holds, in order; nothing if there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    entries
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn link_name(program: &str, owner: u32) -> String {
    format!("{program}-{owner:08x}")
}
