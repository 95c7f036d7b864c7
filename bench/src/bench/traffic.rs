//! `cargo xtask bench traffic`: measures traffic that people really have, under
//! several policies beside the default scheduler.

mod case;
mod column;
mod frames;
mod many;
mod mixed;
mod objects;
mod overflow;
mod policy;
mod rough;
mod side;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::{Agent, agent};

use super::measure::Rig;
use super::plan;
use super::progress::Progress;
use super::rows::{Choice, Results};
use case::{AnyCase, Bench};

/// How often each policy is measured in a row.
const ROUNDS: usize = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Fewer rows, one round and shorter transfers: about fourteen minutes
    #[arg(long)]
    quick: bool,
    /// Also objects with bbr
    #[arg(long)]
    all: bool,
    /// Also the default scheduler a second time in each row (again): how it differs
    /// from itself is noise
    #[arg(long)]
    noise: bool,
    #[command(flatten)]
    choice: Choice,
}

impl Args {
    /// Measures the chosen rows with the agent's binary `agent`.
    pub fn run(&self, agent: PathBuf) -> Result<()> {
        let rounds = if self.quick { 1 } else { ROUNDS };
        let mut cases = cases(self.quick, self.all);
        let chosen = |case: &dyn AnyCase| {
            let labels = case.labels().into_iter();
            labels.filter(|label| self.choice.wants(label)).count()
        };
        cases.retain(|case| chosen(&**case) > 0);
        let rows = cases.iter().map(|case| chosen(&**case)).sum();
        self.choice.ensure_any(rows)?;
        try_out(&agent)?;
        let round: Duration = cases.iter().map(|case| case.length(&self.choice)).sum();
        let mut bench = Bench {
            agent,
            rounds,
            choice: &self.choice,
            noise: self.noise,
            progress: Progress::new(rows, round * rounds as u32),
            done: Results::default(),
            group: "",
        };
        for case in &cases {
            case.run(&mut bench);
        }
        bench.done.finish(&self.choice)
    }
}

fn cases(quick: bool, all: bool) -> Vec<Box<dyn AnyCase>> {
    fn boxed<C: AnyCase + 'static>(cases: Vec<C>) -> impl Iterator<Item = Box<dyn AnyCase>> {
        cases.into_iter().map(|case| Box::new(case) as _)
    }
    let mut cases = Vec::new();
    cases.extend(boxed(many::cases(quick)));
    cases.extend(boxed(mixed::cases(quick)));
    cases.extend(boxed(objects::cases(quick, all)));
    cases.extend(boxed(rough::cases(quick)));
    cases.extend(boxed(frames::cases(quick)));
    cases.extend(boxed(overflow::cases(quick)));
    cases
}

/// Tries the lab and the agent once: a failure here would repeat in every row.
fn try_out(agent: &Path) -> Result<()> {
    let rig = Rig::new(&plan::near())?;
    let args = agent::weighted_args(&[("p1", 1)]);
    Agent::start(&rig.net.client, agent, &args)?.stop()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(quick: bool, all: bool) -> Vec<String> {
        let cases = cases(quick, all).into_iter();
        cases.flat_map(|case| case.labels()).collect()
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        for quick in [false, true] {
            let labels: Vec<String> = labels(quick, true);
            let mut unique = labels.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), labels.len());
        }
    }

    #[test]
    fn quick_rows_are_some_of_the_rows() {
        let (all, quick) = (labels(false, false), labels(true, false));
        assert!(quick.len() < all.len());
        for label in quick {
            assert!(all.contains(&label), "{label}");
        }
    }

    #[test]
    fn a_quick_run_takes_about_fourteen_minutes() {
        let choice = Choice::default();
        let length: Duration = cases(true, false)
            .iter()
            .map(|case| case.length(&choice))
            .sum();
        assert!(length < Duration::from_secs(840), "{length:?}");
    }
}
