//! The table of paths: the index, weight and label of each.
//!
//! ```text
//!   index 0            a device that is not known yet, or for which no index is left
//!   index 1..=n        the n listed selectors, in the user's order
//!   further indices    devices that are not listed, as they appear
//! ```
//!
//! A path keeps its index, because its totals are kept under it. A device that
//! goes and comes back under its name is the same path, whether or not a weight
//! lists it, and the next agent goes on with the indices of the previous one
//! ([`PathTable::resume`]). A newly listed path may take the index of a
//! selector that is no longer listed, or of a device that is gone, once no
//! subflow of it is open ([`PathTable::set_weights`]). Otherwise a device gives
//! its index back only if it never carried a subflow: at once if it has
//! vanished, else to a device that needs it more ([`PathTable::make_room`]).
//! Devices that carry subflows come first, then those that could.
//!
//! Pure: devices come in as a map from ifindex to name, and the kernel side
//! reads the result. A subflow belongs to the path that lists its id, else to
//! that of its remote id, of the longest prefix of its local address, of the
//! longest prefix of its remote address, of its remote port, and at last to that
//! of its device.

mod checks;
mod limits;
mod overlay;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mptcp_common::abi::{LABEL, MAX_PATHS, PathConfig, UNKNOWN_PATH, id_kind, path_kind};

use crate::policy::selector::Selector;
use crate::policy::{Limits, UNLISTED_WEIGHT, Weights};
use crate::state::fitness::Overlay;

/// The label of [`UNKNOWN_PATH`].
const UNKNOWN_LABEL: &str = "unknown";

/// The devices of the network namespace: their names by ifindex.
pub type Devices = BTreeMap<u32, String>;

/// The kind of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// [`UNKNOWN_PATH`].
    Unknown,
    /// The device whose name is the label.
    Device,
    /// The subflows that an id or a prefix of either end selects.
    Selector(Selector),
}

/// One path.
#[derive(Clone, Debug)]
struct Path {
    kind: Kind,
    label: String,
    weight: u16,
    /// Whether a weight names it.
    listed: bool,
}

impl Path {
    fn named_by(selector: &Selector) -> Self {
        Self {
            kind: match selector {
                Selector::Device(_) => Kind::Device,
                other => Kind::Selector(other.clone()),
            },
            label: selector.to_string(),
            weight: UNLISTED_WEIGHT,
            listed: false,
        }
    }

    /// Reads a path that an earlier agent published; `None` if the index is
    /// free.
    fn published(config: &PathConfig) -> Option<Self> {
        let label: Vec<u8> = config.label.into_iter().take_while(|&b| b != 0).collect();
        let label = String::from_utf8(label).ok()?;
        let selector = match config.kind {
            path_kind::DEVICE => Selector::Device(label),
            path_kind::SELECTOR => label.parse().ok()?,
            _ => return None,
        };
        Some(Self::named_by(&selector))
    }

    fn device(&self) -> Option<&str> {
        (self.kind == Kind::Device).then_some(&self.label)
    }

    fn config(&self) -> PathConfig {
        let mut label = [0; LABEL];
        for (place, byte) in label.iter_mut().zip(self.label.bytes()) {
            *place = byte;
        }
        PathConfig {
            kind: match self.kind {
                Kind::Unknown | Kind::Device => path_kind::DEVICE,
                Kind::Selector(_) => path_kind::SELECTOR,
            },
            reserved: 0,
            label,
        }
    }
}

/// The paths of this network namespace.
#[derive(Clone, Debug)]
pub struct PathTable {
    /// By index; `None` is free.
    paths: Vec<Option<Path>>,
    devices: Devices,
    /// Devices that subflows could leave by, by ifindex.
    usable: BTreeSet<u32>,
    /// Devices, by ifindex, that carried a subflow while they had no index.
    carrying: BTreeSet<u32>,
    unlisted_weight: u16,
    limits: Limits,
    generation: u32,
    /// The weights of paths while some are left out.
    overlay: Overlay,
}

impl PathTable {
    /// Returns a table of the listed paths, without any device yet.
    pub fn new(weights: &Weights) -> Self {
        Self::resume(&[], 0, weights, |_| true).0
    }

    /// Returns a table of the listed paths, on the indices that an earlier
    /// agent had published under `generation`. `unused` says whether no subflow
    /// of a path is open. Also returns the indices that went to other paths;
    /// the caller must forget their totals.
    pub fn resume(
        published: &[PathConfig],
        generation: u32,
        weights: &Weights,
        unused: impl Fn(u32) -> bool,
    ) -> (Self, Vec<u32>) {
        let mut paths: Vec<Option<Path>> = published.iter().map(Path::published).collect();
        paths.resize(MAX_PATHS, None);
        paths[UNKNOWN_PATH as usize] = Some(Path {
            kind: Kind::Unknown,
            label: UNKNOWN_LABEL.to_owned(),
            weight: weights.unlisted,
            listed: false,
        });
        let mut table = Self {
            paths,
            devices: Devices::new(),
            usable: BTreeSet::new(),
            carrying: BTreeSet::new(),
            unlisted_weight: weights.unlisted,
            limits: Limits::default(),
            generation,
            overlay: Overlay::default(),
        };
        // A policy cannot list more paths than there are indices, and every
        // index that is not in use can be had.
        let recycled = table.set_weights(weights, unused).unwrap_or_default();
        (table, recycled)
    }

    /// Replaces the listed paths. A path that was known keeps its index. A new
    /// one takes a free index, else that of a path without open subflows
    /// (`unused`) that is no longer listed, or whose device is gone. Returns
    /// the indices that changed hands in this way; the caller must forget their
    /// totals.
    ///
    /// # Errors
    /// There are not enough indices. Nothing has changed then.
    pub fn set_weights(
        &mut self,
        weights: &Weights,
        unused: impl Fn(u32) -> bool,
    ) -> Result<Vec<u32>, String> {
        let mut paths = self.paths.clone();
        let mut recycled = Vec::new();
        for path in paths.iter_mut().flatten() {
            path.listed = false;
            path.weight = match path.kind {
                Kind::Unknown | Kind::Device => weights.unlisted,
                Kind::Selector(_) => UNLISTED_WEIGHT,
            };
        }
        let mut places = Vec::new();
        for listed in &weights.listed {
            let wanted = Path::named_by(&listed.selector);
            let known = |path: &Option<Path>| {
                path.as_ref()
                    .is_some_and(|path| (&path.kind, &path.label) == (&wanted.kind, &wanted.label))
            };
            let place = paths.iter().position(known);
            if let Some(path) = place.and_then(|place| paths[place].as_mut()) {
                path.listed = true;
                path.weight = listed.weight;
            }
            places.push(place);
        }
        // Only now that all known paths are marked is it clear which are not
        // listed.
        for (listed, _) in weights
            .listed
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.is_none())
        {
            let free = paths.iter().position(Option::is_none);
            let place = free.or_else(|| {
                let place = (1..paths.len()).find(|&index| {
                    let gone = paths[index].as_ref().is_some_and(|path| {
                        !path.listed && path.device().is_none_or(|name| !self.exists(name))
                    });
                    gone && unused(index as u32)
                });
                recycled.extend(place.map(|place| place as u32));
                place
            });
            let place = place.ok_or_else(|| {
                format!(
                    "no index is left for path `{}`: {} paths and devices are in use",
                    listed.selector,
                    MAX_PATHS - 1
                )
            })?;
            paths[place] = Some(Path {
                listed: true,
                weight: listed.weight,
                ..Path::named_by(&listed.selector)
            });
        }
        self.paths = paths;
        self.unlisted_weight = weights.unlisted;
        self.assign();
        self.generation = self.generation.wrapping_add(1);
        Ok(recycled)
    }

    /// Takes note of which devices subflows could leave by, by ifindex. These
    /// are the first to get an index when devices come.
    pub fn set_usable(&mut self, usable: BTreeSet<u32>) {
        self.usable = usable;
    }

    /// Takes note of the present devices. If anything has changed, raises the
    /// generation and returns true.
    pub fn set_devices(&mut self, devices: Devices) -> bool {
        if devices == self.devices {
            return false;
        }
        self.carrying
            .retain(|ifindex| devices.contains_key(ifindex));
        self.devices = devices;
        self.assign();
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// Takes note that a subflow leaves by a device. Returns true the first
    /// time that this happens to a device that has no index.
    pub fn note_carrying(&mut self, ifindex: u32) -> bool {
        let Some(name) = self.devices.get(&ifindex) else {
            return false;
        };
        self.device_index(name).is_none() && self.carrying.insert(ifindex)
    }

    /// Takes indices back from devices that have vanished, from selectors that
    /// are no longer listed, and from devices that need them less than some
    /// that have none. Takes only those for which `idle` holds: they never
    /// carried a subflow, so no total is lost. Returns whether anything
    /// changed.
    pub fn make_room(&mut self, idle: impl Fn(u32) -> bool) -> bool {
        let mut changed = false;
        // The indices of present devices that could be taken, each after the
        // need of its device.
        let mut takeable: Vec<(u8, u32)> = Vec::new();
        for index in 1..MAX_PATHS as u32 {
            if self.is_listed(index) || !idle(index) {
                continue;
            }
            if !self.is_present(index) {
                changed |= self.paths[index as usize].take().is_some();
            } else if let Some(name) = self.device(index) {
                takeable.push((self.need(name), index));
            }
        }
        takeable.sort_unstable();
        let free = self.paths.iter().filter(|path| path.is_none()).count();
        let unplaced: Vec<u8> = self.unplaced_by_need().map(|(need, _)| need).collect();
        for (&need, (held, index)) in unplaced.iter().skip(free).zip(takeable) {
            if held < need {
                self.paths[index as usize] = None;
                changed = true;
            }
        }
        if changed {
            self.assign();
            self.generation = self.generation.wrapping_add(1);
        }
        changed
    }

    /// Returns the devices that have no index. They are counted as
    /// [`UNKNOWN_PATH`].
    pub fn unplaced(&self) -> impl Iterator<Item = &str> {
        self.devices
            .values()
            .map(String::as_str)
            .filter(|name| self.device_index(name).is_none())
    }

    /// Raises the generation above `generation`, which the programs have seen,
    /// though nothing else has changed.
    pub fn supersede(&mut self, generation: u32) {
        self.generation = generation.wrapping_add(1);
    }

    /// Returns the generation, which is raised whenever anything below changes.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the kind and label of each index: [`MAX_PATHS`] entries.
    pub fn config(&self) -> Vec<PathConfig> {
        self.paths
            .iter()
            .map(|path| path.as_ref().map_or_else(PathConfig::default, Path::config))
            .collect()
    }

    /// Returns the listed address ids and ports, as keys of map `SELECT_ID`, with
    /// their index.
    pub fn ids(&self) -> impl Iterator<Item = (u32, u32)> {
        self.selectors()
            .filter_map(|(selector, index)| match selector {
                Selector::LocalId(id) => Some((id_kind::LOCAL << 8 | u32::from(*id), index)),
                Selector::RemoteId(id) => Some((id_kind::REMOTE << 8 | u32::from(*id), index)),
                Selector::RemotePort(port) => {
                    Some((id_kind::REMOTE_PORT | u32::from(*port), index))
                }
                _ => None,
            })
    }

    /// Returns the listed prefixes of local addresses with their index.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.selectors()
            .filter_map(|(selector, index)| match selector {
                Selector::Prefix(net) => Some((*net, index)),
                _ => None,
            })
    }

    /// Returns the listed prefixes of remote addresses with their index.
    pub fn remote_prefixes(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.selectors()
            .filter_map(|(selector, index)| match selector {
                Selector::Remote(net) => Some((*net, index)),
                _ => None,
            })
    }

    /// Returns the ifindex of every device that has an index, with that index.
    pub fn devices(&self) -> impl Iterator<Item = (u32, u32)> {
        self.devices
            .iter()
            .filter_map(|(&ifindex, name)| Some((ifindex, self.device_index(name)?)))
    }

    /// Returns whether open subflows may belong to other paths than when the
    /// devices had the indices `before`. `carries` says whether a path has open
    /// subflows.
    pub fn moved_since(&self, before: &BTreeMap<u32, u32>, carries: impl Fn(u32) -> bool) -> bool {
        let now: BTreeMap<u32, u32> = self.devices().collect();
        let moved = |(ifindex, index): (&u32, &u32)| now.get(ifindex) != Some(index);
        carries(UNKNOWN_PATH)
            || before
                .iter()
                .any(|device| moved(device) && carries(*device.1))
    }

    /// Returns the label of a path: its selector, or its device.
    pub fn label(&self, index: u32) -> &str {
        self.path(index).map_or(UNKNOWN_LABEL, |path| &path.label)
    }

    /// Returns the weight that the user gave a path.
    pub fn weight(&self, index: u32) -> u16 {
        self.path(index)
            .map_or(self.unlisted_weight, |path| path.weight)
    }

    /// Returns whether the user named this path.
    pub fn is_listed(&self, index: u32) -> bool {
        self.path(index).is_some_and(|path| path.listed)
    }

    /// Returns whether the path can be used now: a device has to exist, a
    /// selector has to be listed.
    pub fn is_present(&self, index: u32) -> bool {
        self.path(index).is_some_and(|path| match path.kind {
            Kind::Unknown => true,
            Kind::Device => self.exists(&path.label),
            Kind::Selector(_) => path.listed,
        })
    }

    /// Returns the device's name, if the path is a device.
    pub fn device(&self, index: u32) -> Option<&str> {
        self.path(index).and_then(Path::device)
    }

    fn path(&self, index: u32) -> Option<&Path> {
        self.paths.get(index as usize)?.as_ref()
    }

    fn selectors(&self) -> impl Iterator<Item = (&Selector, u32)> {
        (0..).zip(&self.paths).filter_map(|(index, path)| {
            let path = path.as_ref().filter(|path| path.listed)?;
            match &path.kind {
                Kind::Selector(selector) => Some((selector, index)),
                Kind::Unknown | Kind::Device => None,
            }
        })
    }

    fn exists(&self, name: &str) -> bool {
        self.devices.values().any(|device| device == name)
    }

    fn device_index(&self, name: &str) -> Option<u32> {
        (1..MAX_PATHS as u32).find(|&index| {
            self.path(index)
                .is_some_and(|path| path.device() == Some(name))
        })
    }

    /// Returns how much a device needs an index: 2 if subflows leave by it, 1
    /// if they could, else 0.
    fn need(&self, name: &str) -> u8 {
        let named = self.devices.iter().find(|(_, device)| *device == name);
        match named.map(|(ifindex, _)| ifindex) {
            Some(ifindex) if self.carrying.contains(ifindex) => 2,
            Some(ifindex) if self.usable.contains(ifindex) => 1,
            _ => 0,
        }
    }

    /// Returns the devices that have no index, those first that need one most.
    fn unplaced_by_need(&self) -> impl Iterator<Item = (u8, &str)> {
        let mut unplaced: Vec<_> = self
            .unplaced()
            .map(|name| (self.need(name), name))
            .collect();
        unplaced.sort_by_key(|(need, _)| Reverse(*need));
        unplaced.into_iter()
    }

    /// Gives each device that has no index a free one, while there are any.
    fn assign(&mut self) {
        let unplaced: Vec<String> = self
            .unplaced_by_need()
            .map(|(_, name)| name.to_owned())
            .collect();
        let weight = self.unlisted_weight;
        let free = self.paths.iter_mut().filter(|path| path.is_none());
        for (path, label) in free.zip(unplaced) {
            *path = Some(Path {
                kind: Kind::Device,
                label,
                weight,
                listed: false,
            });
        }
    }
}

#[cfg(test)]
mod tests;
