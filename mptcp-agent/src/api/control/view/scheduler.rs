//! Converts what the packet scheduler has chosen.

use mptcp_api::schema::{Choices, PathChoices, Scheduler};
use mptcp_common::abi::{PathStats, candidate};
use mptcp_common::names::program::GET_SEND;

use crate::state::rates;
use crate::state::snapshot::Snapshot;

/// Converts the choices about each path.
pub fn scheduler(snapshot: &Snapshot) -> Scheduler {
    let mut programs = snapshot.programs.iter();
    let paths = snapshot.traffic().map(|path| PathChoices {
        path: path.label.clone(),
        total: total(&path.stats),
        recent: choices(&path.choices),
    });
    Scheduler {
        observed: programs.any(|one| one.name == GET_SEND && one.error.is_none()),
        paths: paths.collect(),
    }
}

/// Converts all choices about a path since the agent counts.
pub fn total(stats: &PathStats) -> Choices {
    choices(&rates::Choices::from(stats))
}

fn choices(counted: &rates::Choices) -> Choices {
    let names = candidate::NAMES.iter().map(|name| (*name).to_owned());
    Choices {
        decisions: counted.decisions,
        blocked: counted.blocked,
        candidates: names.zip(counted.candidates).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::snapshot::{Path, Program};

    #[test]
    fn choices_have_the_names_of_the_metrics() {
        let mut path = Path {
            label: "eth0".to_owned(),
            counts: true,
            ..Path::default()
        };
        path.stats.decisions = 5;
        path.stats.candidates[usize::from(candidate::STANDBY)] = 3;
        path.choices.blocked = 1;
        let mut snapshot = Snapshot {
            paths: vec![path],
            ..Snapshot::default()
        };
        let shown = scheduler(&snapshot);
        assert!(!shown.observed, "there is no program");
        assert_eq!(shown.paths[0].path, "eth0");
        assert_eq!(shown.paths[0].total.decisions, 5);
        assert_eq!(shown.paths[0].total.candidates["standby"], 3);
        assert_eq!(shown.paths[0].recent.blocked, 1);
        assert_eq!(shown.paths[0].recent.candidates.len(), candidate::COUNT);
        snapshot.programs = vec![Program {
            name: GET_SEND,
            ..Program::default()
        }];
        assert!(scheduler(&snapshot).observed);
    }
}
