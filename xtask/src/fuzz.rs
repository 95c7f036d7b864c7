//! `cargo xtask fuzz`: runs each fuzz target for a while, if there is a nightly
//! toolchain.

use anyhow::{Result, ensure};

use xtask::{
    command::{self, Steps},
    machine::{Machine, Need},
    workspace::Workspace,
};

/// The targets in `fuzz/fuzz_targets`.
const TARGETS: [&str; 5] = ["hello", "packet", "control", "config", "saved"];

const VERSION: &str = "0.13.2";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs, seconds
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u32,
    /// The targets; all if none is named
    targets: Vec<String>,
}

/// Runs `cargo xtask fuzz`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let targets = chosen(&args.targets)?;
    if command::output(workspace.foreign("cargo").args(["+nightly", "--version"])).is_none() {
        eprintln!("skipped fuzzing: cargo-fuzz needs rustup's nightly toolchain");
        return Ok(());
    }
    let mut steps = Steps::new(targets.len().try_into()?);
    let installed = command::output(workspace.foreign("cargo").args(["fuzz", "--version"]));
    if installed.is_none() {
        machine.supply(&workspace, &[need()])?;
    }
    for target in targets {
        steps.next(format_args!("{target}, for {} s", args.seconds));
        let mut fuzz = workspace.foreign("cargo");
        fuzz.args(["+nightly", "fuzz", "run", "--target-dir"])
            .arg(workspace.target.join("fuzz"))
            .arg(target)
            // Keep the corpus in the target directory, out of the repository.
            .arg(workspace.target.join("fuzz/corpus").join(target))
            .args(["--", "-print_final_stats=1"])
            .arg(format!("-max_total_time={}", args.seconds));
        std::fs::create_dir_all(workspace.target.join("fuzz/corpus").join(target))?;
        command::run(&mut fuzz)?;
        steps.done("found no fault");
    }
    Ok(())
}

fn chosen(wanted: &[String]) -> Result<Vec<&str>> {
    for target in wanted {
        ensure!(
            TARGETS.contains(&target.as_str()),
            "there is no fuzz target {target}: there are {}",
            TARGETS.join(", ")
        );
    }
    Ok(match wanted {
        [] => TARGETS.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    })
}

fn need() -> Need {
    Need {
        what: format!("cargo-fuzz {VERSION}"),
        because: "it builds and runs the fuzz targets",
        packages: &["build-essential"],
        script: Some(format!(
            "cargo install cargo-fuzz --version {VERSION} --locked"
        )),
        instead: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_target() -> Result<()> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/fuzz_targets");
        let mut there: Vec<String> = std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().replace(".rs", "")))
            .collect::<Result<_>>()?;
        there.sort();
        let mut known = chosen(&[])?;
        known.sort_unstable();
        assert_eq!(there, known);
        assert!(chosen(&["hello".to_owned()]).is_ok());
        assert!(chosen(&["goodbye".to_owned()]).is_err());
        Ok(())
    }
}
