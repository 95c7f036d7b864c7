//! Finds the weights that match nothing, as far as the table can tell.

use mptcp_common::abi::MAX_PATHS;

use super::{Kind, Path, PathTable};
use crate::policy::selector::Selector;

impl PathTable {
    /// Returns the listed devices that do not exist now.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let listed = self.paths.iter().flatten().filter(|path| path.listed);
        listed
            .filter_map(Path::device)
            .filter(|name| !self.exists(name))
    }

    /// Returns the listed ids and prefixes that no open subflow has, while
    /// joined subflows have none that is listed. Most likely the ids or
    /// addresses of the other end have changed. `live` says how many subflows
    /// of a path are open, `connections` is the number of open connections.
    pub fn unmatched(&self, live: impl Fn(u32) -> u64, connections: u64) -> Vec<&str> {
        let is_first =
            |selector: &Selector| matches!(selector, Selector::LocalId(0) | Selector::RemoteId(0));
        // The first subflow of each connection has id 0, and did not join.
        let firsts: u64 = self
            .selectors()
            .filter(|(selector, _)| is_first(selector))
            .map(|(_, index)| live(index))
            .sum();
        let unlisted: u64 = (0..MAX_PATHS as u32)
            .filter(|&index| !self.is_listed(index))
            .map(&live)
            .sum();
        if unlisted <= connections.saturating_sub(firsts) {
            return Vec::new();
        }
        self.selectors()
            // Connections to a port come and go.
            .filter(|(selector, _)| !matches!(selector, Selector::RemotePort(_)))
            .filter(|&(selector, index)| !is_first(selector) && live(index) == 0)
            .map(|(_, index)| self.label(index))
            .collect()
    }

    /// Returns the listed address ids, if nothing else is listed and none of
    /// them is 0: a connection's first subflow then belongs to no listed path.
    pub fn never_first(&self) -> Vec<&str> {
        let listed = self.paths.iter().flatten().filter(|path| path.listed);
        let is_id = |path: &Path| match &path.kind {
            Kind::Selector(Selector::LocalId(id) | Selector::RemoteId(id)) => *id != 0,
            _ => false,
        };
        let labels: Option<Vec<&str>> = listed
            .map(|path| is_id(path).then_some(path.label.as_str()))
            .collect();
        labels.unwrap_or_default()
    }
}
