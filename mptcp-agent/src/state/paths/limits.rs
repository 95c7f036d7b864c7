//! The limits of the paths in the table.

use mptcp_common::abi::MAX_PATHS;

use super::{Kind, Path, PathTable};
use crate::policy::Limits;
use crate::policy::selector::Selector;

impl PathTable {
    /// Replaces the limits. [`PathTable::set_weights`] has to list the paths that
    /// they name, and raises the generation.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Returns the limit of each index, bytes per second; 0 for those without.
    pub fn limits(&self) -> [u32; MAX_PATHS] {
        let mut limits = [0; MAX_PATHS];
        for (limit, path) in limits.iter_mut().zip(&self.paths) {
            let found = path.as_ref().and_then(|path| self.limit_of(path));
            // A rate is less than 2^32.
            *limit = found.map_or(0, |bytes| bytes as u32);
        }
        limits
    }

    /// Returns the limit of a path, bytes per second, if it has one.
    pub fn limit(&self, index: u32) -> Option<u64> {
        self.limit_of(self.path(index)?)
    }

    fn limit_of(&self, path: &Path) -> Option<u64> {
        let rate = match &path.kind {
            Kind::Unknown => self.limits.of(&Selector::Default),
            Kind::Device => self.limits.of(&Selector::Device(path.label.clone())),
            // No subflow belongs to a selector that is not listed.
            Kind::Selector(selector) if path.listed => self.limits.of(selector),
            Kind::Selector(_) => None,
        };
        rate.map(|rate| rate.bytes_per_sec)
    }
}
