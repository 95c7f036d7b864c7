//! The weights that the programs are told: those of the user, but for paths that
//! are left out, and while one of these is tried.

use mptcp_common::abi::MAX_PATHS;
use mptcp_common::controller::MAX_WEIGHT;

use super::{Path, PathTable};
use crate::policy::Weights;
use crate::policy::selector::Selector;
use crate::state::fitness::Overlay;

impl PathTable {
    /// Returns the weight of each index; 0 for those that are free or left out.
    pub fn weights(&self) -> [u32; MAX_PATHS] {
        let mut weights = [0; MAX_PATHS];
        for (index, (weight, path)) in (0..).zip(weights.iter_mut().zip(&self.paths)) {
            *weight = path.as_ref().map_or(0, |_| self.present_weight(index));
        }
        weights
    }

    /// Returns the weight of each index under a policy beside the default one,
    /// whose weights these are. A path that is left out carries nothing under it
    /// either, and is not tried.
    pub fn weights_under(&self, weights: &Weights) -> [u32; MAX_PATHS] {
        let mut all = [0; MAX_PATHS];
        for (index, (place, path)) in (0..).zip(all.iter_mut().zip(&self.paths)) {
            let Some(path) = path else { continue };
            if self.overlay.weights.contains_key(&index) {
                continue;
            }
            let is_this = |selector: &Selector| {
                let named = Path::named_by(selector);
                (&named.kind, &named.label) == (&path.kind, &path.label)
            };
            let mut listed = weights.listed.iter();
            let listed = listed.find(|weight| is_this(&weight.selector));
            *place = listed
                .map_or(weights.unlisted, |weight| weight.weight)
                .into();
        }
        all
    }

    /// Returns the weight that a path has now.
    pub fn present_weight(&self, index: u32) -> u32 {
        if let Some(&weight) = self.overlay.weights.get(&index) {
            return weight.into();
        }
        let weight = u32::from(self.weight(index));
        (weight * self.overlay.scale.max(1)).min(MAX_WEIGHT)
    }

    /// Returns whether a path has weight 0 now, so that its subflows may be held
    /// out until the others are gone.
    pub fn has_standby(&self) -> bool {
        self.least_weight() == 0
    }

    /// Returns the least weight that a path has now.
    pub fn least_weight(&self) -> u32 {
        let used = (0..).zip(&self.paths).filter(|(_, path)| path.is_some());
        let weights = used.map(|(index, _)| self.present_weight(index));
        weights.min().unwrap_or(self.unlisted_weight.into())
    }

    /// Replaces the weights of paths that are left out or tried. If anything has
    /// changed, raises the generation and returns true.
    pub fn set_overlay(&mut self, overlay: Overlay) -> bool {
        if overlay == self.overlay {
            return false;
        }
        self.overlay = overlay;
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// Returns the overlay in which the paths for whose label `out` holds weigh
    /// nothing, too.
    pub fn and_held_out(&self, mut overlay: Overlay, out: impl Fn(&str) -> bool) -> Overlay {
        let paths = (0..).zip(&self.paths).skip(1);
        for (index, path) in paths {
            if path.as_ref().is_some_and(|path| out(&path.label)) {
                overlay.weights.insert(index, 0);
            }
        }
        overlay
    }

    /// Leaves out the paths for whose label `out` holds, too. The caller raises the
    /// generation.
    pub fn hold_out(&mut self, out: impl Fn(&str) -> bool) {
        let overlay = std::mem::take(&mut self.overlay);
        self.overlay = self.and_held_out(overlay, out);
    }

    /// Returns the index of the path that has this label, if the user named it.
    pub fn index_of(&self, label: &str) -> Option<u32> {
        let mut paths = (0..).zip(&self.paths).skip(1);
        let is = |path: &Path| path.listed && path.label == label;
        let found = paths.find(|(_, path)| path.as_ref().is_some_and(is));
        found.map(|(index, _)| index)
    }

    /// Goes on leaving out the paths for whose label `stays` holds, and none of
    /// them is tried. Everything else has the user's weights again. The caller
    /// raises the generation.
    pub fn retain_left_out(&mut self, stays: impl Fn(&str) -> bool) {
        let mut overlay = std::mem::take(&mut self.overlay);
        overlay.scale = 0;
        overlay.weights.retain(|&index, _| stays(self.label(index)));
        for weight in overlay.weights.values_mut() {
            *weight = 0;
        }
        self.overlay = overlay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Weight;

    fn table(weights: &[&str]) -> PathTable {
        let given: Result<Vec<Weight>, _> = weights.iter().map(|text| text.parse()).collect();
        let given = given.expect("weights");
        PathTable::new(&Weights::new(&given).expect("weights"))
    }

    fn overlay(weights: &[(u32, u16)], scale: u32) -> Overlay {
        Overlay {
            weights: weights.iter().copied().collect(),
            scale,
        }
    }

    #[test]
    fn what_is_left_out_weighs_nothing_and_the_rest_keeps_its_ratio() {
        let mut table = table(&["eth0=4", "eth1=2", "eth2=65535"]);
        assert_eq!(table.weights()[1..4], [4, 2, 65_535]);
        assert!(!table.has_standby());
        let generation = table.generation();
        assert!(table.set_overlay(overlay(&[(1, 0)], 0)));
        assert!(!table.set_overlay(overlay(&[(1, 0)], 0)));
        assert_eq!(table.generation(), generation + 1);
        assert_eq!(table.weights()[..4], [1, 0, 2, 65_535]);
        assert!(table.has_standby());
        assert_eq!(table.weight(1), 4, "the user's weight is shown");
        table.set_overlay(overlay(&[(1, 1)], 10));
        assert_eq!(table.weights()[..4], [10, 1, 20, 65_535]);
        assert_eq!(table.least_weight(), 1);
    }

    #[test]
    fn another_policy_has_its_own_weights_for_the_same_paths() {
        let mut table = table(&["eth0=4", "eth1=2", "default=7"]);
        let given = ["eth1=9".parse(), "id:3=5".parse(), "default=0".parse()];
        let given: Result<Vec<Weight>, _> = given.into_iter().collect();
        let other = Weights::new(&given.expect("weights")).expect("weights");
        assert_eq!(table.weights_under(&other)[..4], [0, 0, 9, 0]);
        assert_eq!(table.weights_under(&Weights::EQUAL)[..4], [1, 1, 1, 0]);
        // A path that is left out, or is tried, carries nothing.
        table.set_overlay(overlay(&[(1, 0), (2, 1)], 10));
        assert_eq!(table.weights_under(&Weights::EQUAL)[..4], [1, 0, 0, 0]);
    }

    #[test]
    fn a_path_that_is_held_out_weighs_nothing_whatever_else_is_known_of_it() {
        let mut table = table(&["eth0=4", "eth1=2", "id:1=3"]);
        let out = |label: &str| ["eth1", "unknown", "eth9"].contains(&label);
        let both = table.and_held_out(overlay(&[(1, 1), (2, 5)], 10), out);
        assert_eq!(both, overlay(&[(1, 1), (2, 0)], 10));
        table.hold_out(out);
        assert_eq!(table.weights()[..4], [1, 4, 0, 3]);
        assert_eq!(table.index_of("id:1"), Some(3));
        assert_eq!(
            (table.index_of("eth9"), table.index_of("unknown")),
            (None, None)
        );
    }

    #[test]
    fn a_change_of_policy_keeps_out_only_what_stays_and_ends_trials() {
        let mut table = table(&["eth0=4", "eth1=2", "eth2=1"]);
        table.set_overlay(overlay(&[(1, 0), (2, 1), (3, 0)], 5));
        table.retain_left_out(|label| label != "eth2");
        assert_eq!(table.weights()[1..4], [0, 0, 1]);
        table.retain_left_out(|_| false);
        assert_eq!(table.weights()[1..4], [4, 2, 1]);
    }
}
