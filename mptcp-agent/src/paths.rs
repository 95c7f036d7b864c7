//! Which path has which index, weight and label.
//!
//! ```text
//!   index 0            a device that is not known yet, or for which no index is left
//!   index 1..=n        the n listed selectors, in the user's order
//!   further indices    devices that are not listed, as they appear
//! ```
//!
//! A path keeps its index as long as the agent runs, because its totals are
//! kept under it: a device that goes and comes back under its name is the same
//! path. Only a vanished device that never carried a subflow gives its index
//! back ([`PathTable::make_room`]).
//!
//! Pure: devices come in as a map from ifindex to name, the kernel side reads
//! the result. A subflow belongs to its id, else its remote id, else its
//! longest prefix, else its device.

use std::collections::BTreeMap;

use ipnet::IpNet;
use mptcp_common::abi::{MAX_PATHS, PathConfig, UNKNOWN_PATH, id_kind};

use crate::policy::Weights;
use crate::selector::Selector;

/// The label of [`UNKNOWN_PATH`].
const UNKNOWN_LABEL: &str = "unknown";

/// The devices of the network namespace: name by ifindex.
pub type Devices = BTreeMap<u32, String>;

/// One path.
#[derive(Clone, Debug)]
struct Path {
    selector: Option<Selector>,
    label: String,
    weight: u16,
}

impl Path {
    fn device(&self) -> Option<&str> {
        match &self.selector {
            Some(Selector::Device(name)) => Some(name),
            Some(_) => None,
            None => Some(&self.label),
        }
    }
}

/// The paths of this network namespace.
#[derive(Clone, Debug)]
pub struct PathTable {
    /// By index; `None` is free.
    paths: Vec<Option<Path>>,
    devices: Devices,
    unlisted_weight: u16,
    generation: u32,
}

impl PathTable {
    /// The listed paths; there are no devices yet.
    pub fn new(weights: &Weights) -> Self {
        let unlisted_weight = weights.unlisted;
        let mut paths: Vec<Option<Path>> = vec![None; MAX_PATHS];
        paths[UNKNOWN_PATH as usize] = Some(Path {
            selector: None,
            label: UNKNOWN_LABEL.to_owned(),
            weight: unlisted_weight,
        });
        // `Weights` holds no more selectors than there are indices.
        for (path, listed) in paths[1..].iter_mut().zip(&weights.listed) {
            *path = Some(Path {
                selector: Some(listed.selector.clone()),
                label: listed.selector.to_string(),
                weight: listed.weight,
            });
        }
        Self {
            paths,
            devices: Devices::new(),
            unlisted_weight,
            generation: 1,
        }
    }

    /// Takes note of the devices that there are now. Returns whether anything
    /// changed, and then raises the generation.
    pub fn set_devices(&mut self, devices: Devices) -> bool {
        if devices == self.devices {
            return false;
        }
        self.devices = devices;
        self.assign();
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// Takes the indices of vanished devices back for which `idle` holds (they
    /// never carried a subflow, so that no total is lost) and gives them to
    /// devices that have none. Returns whether anything changed.
    pub fn make_room(&mut self, idle: impl Fn(u32) -> bool) -> bool {
        let mut changed = false;
        for index in 1..MAX_PATHS as u32 {
            if !self.is_listed(index) && !self.is_present(index) && idle(index) {
                changed |= self.paths[index as usize].take().is_some();
            }
        }
        if changed {
            self.assign();
            self.generation = self.generation.wrapping_add(1);
        }
        changed
    }

    /// Devices that have no index: they are counted as [`UNKNOWN_PATH`].
    pub fn unplaced(&self) -> impl Iterator<Item = &str> {
        self.devices
            .values()
            .map(String::as_str)
            .filter(|name| self.device_index(name).is_none())
    }

    /// Listed devices that do not exist now.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.paths
            .iter()
            .flatten()
            .filter_map(|path| match &path.selector {
                Some(Selector::Device(name)) if !self.exists(name) => Some(name.as_str()),
                _ => None,
            })
    }

    /// Raised by one whenever anything below changed.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Weight and use of each index; [`MAX_PATHS`] long.
    pub fn config(&self) -> Vec<PathConfig> {
        let config = |path: &Path| PathConfig {
            weight: u32::from(path.weight),
            used: 1,
        };
        self.paths
            .iter()
            .map(|path| path.as_ref().map_or_else(PathConfig::default, config))
            .collect()
    }

    /// Listed address ids, as keys of map `SELECT_ID`, with their index.
    pub fn ids(&self) -> impl Iterator<Item = (u32, u32)> {
        self.selectors()
            .filter_map(|(selector, index)| match selector {
                Selector::LocalId(id) => Some((id_kind::LOCAL << 8 | u32::from(*id), index)),
                Selector::RemoteId(id) => Some((id_kind::REMOTE << 8 | u32::from(*id), index)),
                _ => None,
            })
    }

    /// Listed prefixes with their index.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.selectors()
            .filter_map(|(selector, index)| match selector {
                Selector::Prefix(net) => Some((*net, index)),
                _ => None,
            })
    }

    /// The ifindex of every device that has an index, with that index.
    pub fn devices(&self) -> impl Iterator<Item = (u32, u32)> {
        self.devices
            .iter()
            .filter_map(|(&ifindex, name)| Some((ifindex, self.device_index(name)?)))
    }

    /// The label of a path: its selector, or its device.
    pub fn label(&self, index: u32) -> &str {
        self.path(index).map_or(UNKNOWN_LABEL, |path| &path.label)
    }

    /// The weight of a path.
    pub fn weight(&self, index: u32) -> u16 {
        self.path(index)
            .map_or(self.unlisted_weight, |path| path.weight)
    }

    /// Whether the user named this path.
    pub fn is_listed(&self, index: u32) -> bool {
        self.path(index).is_some_and(|path| path.selector.is_some())
    }

    /// Whether the path can be used now: for a device, that it exists.
    pub fn is_present(&self, index: u32) -> bool {
        index == UNKNOWN_PATH
            || self
                .path(index)
                .is_some_and(|path| path.device().is_none_or(|name| self.exists(name)))
    }

    /// Whether a subflow may be held out until the others are gone.
    pub fn has_standby(&self) -> bool {
        self.paths.iter().flatten().any(|path| path.weight == 0)
    }

    fn path(&self, index: u32) -> Option<&Path> {
        self.paths.get(index as usize)?.as_ref()
    }

    fn selectors(&self) -> impl Iterator<Item = (&Selector, u32)> {
        (0..)
            .zip(&self.paths)
            .filter_map(|(index, path)| Some((path.as_ref()?.selector.as_ref()?, index)))
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

    /// Gives each device that has no index a free one, while there are any.
    fn assign(&mut self) {
        let unplaced: Vec<String> = self.unplaced().map(str::to_owned).collect();
        let weight = self.unlisted_weight;
        let free = self.paths.iter_mut().filter(|path| path.is_none());
        for (path, label) in free.zip(unplaced) {
            *path = Some(Path {
                selector: None,
                label,
                weight,
            });
        }
    }
}

#[cfg(test)]
#[path = "paths_tests.rs"]
mod tests;
