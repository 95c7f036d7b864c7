//! `cargo xtask bench report`: runs the benchmarks, keeps their results, and makes
//! plots and tables of them. `cargo xtask bench compare` compares two results.

mod compare;
mod figures;
mod flatten;
mod groups;
mod header;
mod pages;
mod plots;
mod results;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use xtask::machine::Machine;
use xtask::workspace::Workspace;

use compare::Comparison;
use groups::Selection;
use header::Header;
use results::Results;

/// Where the results in the repository are, from its root.
const COMMITTED: &str = "docs/benchmarks";
/// Where results are kept if nothing else is asked for, from the target directory.
const SCRATCH: &str = "benchmarks";

/// The arguments of `bench report`.
#[derive(clap::Args)]
pub struct Args {
    /// Fewer rows and shorter measurements: half an hour instead of four
    #[arg(long)]
    quick: bool,
    /// Only this benchmark, or some of its rows: `--only scrape`, or
    /// `--only "redundant loss"`. Can be given several times
    #[arg(long, value_name = "GROUP")]
    only: Vec<String>,
    /// Only benchmarks of which DIR has no complete results yet
    #[arg(long)]
    missing: bool,
    /// The directory that keeps the results [default: docs/benchmarks with --docs,
    /// else target/benchmarks]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Also keep the results in docs/benchmarks, and make the plots and tables of
    /// the documentation of them
    #[arg(long)]
    docs: bool,
    /// Measure nothing: only make plots and tables of the results that are there
    #[arg(long, conflicts_with_all = ["quick", "only", "missing"])]
    draw: bool,
}

/// The arguments of `bench compare`.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// The directory with the earlier results
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The directory with the later results
    #[arg(value_name = "B")]
    after: PathBuf,
}

impl Args {
    /// Runs `cargo xtask bench report`.
    pub fn run(&self, machine: &Machine) -> Result<()> {
        let workspace = Workspace::find()?;
        let committed = workspace.root.join(COMMITTED);
        let directory = match &self.into {
            Some(directory) => directory.clone(),
            None if self.docs => committed.clone(),
            None => workspace.target.join(SCRATCH),
        };
        let measured = if self.draw {
            Ok(())
        } else {
            self.measure(machine, &workspace, &directory)
        };
        // The figures that were measured before a failure are shown as well.
        let results = Results::read_some(&directory);
        if self.docs {
            let mut all = Results::read(&committed)?;
            all.take(results?);
            all.write(&committed)?;
            document(&workspace.root)?;
        } else if let Ok(results) = results {
            plots::draw_all(&directory, &results)?;
            eprintln!("the results and plots are in {}", directory.display());
        }
        measured
    }

    /// Measures what is asked for, one benchmark after the other.
    fn measure(&self, machine: &Machine, workspace: &Workspace, directory: &Path) -> Result<()> {
        let mut selected = groups::select(&self.only)?;
        if self.missing {
            let kept = Results::read(directory)?;
            selected.retain(|one| !is_complete(&kept, one));
        }
        if selected.is_empty() {
            return Ok(());
        }
        let agent = super::prepare_as_root(machine)?;
        let header = Header::now(&workspace.root, &agent)?;
        let raw = workspace.target.join("bench-raw");
        fs::create_dir_all(&raw)?;
        let mut failed = Vec::new();
        for (index, one) in selected.iter().enumerate() {
            let left = |rest: &[Selection]| rest.iter().map(|one| one.minutes(self.quick)).sum();
            let (minutes, all): (u32, u32) = (one.minutes(self.quick), left(&selected[index..]));
            eprintln!(
                "\n=== {} of {}: {}, about {minutes} min, of {all} min left",
                index + 1,
                selected.len(),
                one.title(),
            );
            let run = one.run(&agent, self.quick, &raw);
            // Read the results again: another run may have added a group meanwhile.
            let mut results = Results::read(directory)?;
            if let Some(group) = run.group {
                let header = header.after(self.quick, run.took, run.failed.clone());
                results.add(one.benchmark.name, &one.words, group, header);
                results.write(directory)?;
            }
            if let Some(why) = run.failed {
                eprintln!("{} failed: {why}", one.title());
                failed.push(one.title());
            }
        }
        if !failed.is_empty() {
            bail!(
                "{} of {} benchmarks failed, and the results of the others are kept; measure \
                 again with --only: {}",
                failed.len(),
                selected.len(),
                failed.join(", ")
            );
        }
        Ok(())
    }
}

/// Makes the documentation's plots and tables from the results that it holds.
fn document(root: &Path) -> Result<()> {
    let docs = root.join("docs");
    let results = Results::read_some(&root.join(COMMITTED))?;
    plots::draw_all(&docs, &results)?;
    for page in pages::fill_all(&docs, &results)? {
        eprintln!("{} has new figures", page.display());
    }
    Ok(())
}

/// Returns whether these results have all of what is selected.
fn is_complete(kept: &Results, selection: &Selection) -> bool {
    let header = kept.headers.get(&selection.title());
    header.is_some_and(|header| header.failed.is_none())
}

impl CompareArgs {
    /// Runs `cargo xtask bench compare`.
    pub fn run(&self) -> Result<()> {
        let before = Results::read_some(&self.before)?;
        let after = Results::read_some(&self.after)?;
        let comparison = Comparison::new(&before, &after);
        println!("{comparison}");
        ensure!(
            !comparison.is_worse(),
            "{} has figures that are worse than those of {}",
            self.after.display(),
            self.before.display()
        );
        Ok(())
    }
}
