//! The verb `vm`: builds the agent, finds the kernels, boots each, and shows the
//! reports.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::agent;
use xtask::apt;
use xtask::build;
use xtask::command::Steps;
use xtask::machine::Machine;
use xtask::workspace::Workspace;

use crate::archive::{self, Archive, Kernel};
use crate::programs::Programs;
use crate::report::{self, Report};
use crate::{initramfs, qemu};

/// The kernels of Debian's stable releases, and its newest.
const KERNELS: [&str; 3] = ["6.1", "6.12", archive::NEWEST];

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// A series that Debian has (6.1, 6.12, 7.2), `backports` for its newest,
    /// or the path of a .deb that holds a kernel and its modules; may be
    /// repeated [default: 6.1, 6.12 and backports]
    ///
    /// If MPTCP_AGENT_BIN names an agent, the verb checks that one; otherwise
    /// it builds the agent first. The guests' output is in target/vm/*.log.
    #[arg(long = "kernel", value_name = "SERIES|PATH")]
    kernels: Vec<String>,
    /// More parameters for the kernels: --append lockdown=confidentiality
    #[arg(long, value_name = "PARAMETERS", default_value = "")]
    append: String,
}

/// Runs `cargo xtask vm`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "this verb boots only Debian's kernels for x86-64"
    );
    let workspace = Workspace::find()?;
    let dir = workspace.target.join("vm");
    let wanted = if args.kernels.is_empty() {
        KERNELS.map(str::to_owned).to_vec()
    } else {
        args.kernels.clone()
    };

    let given = agent::binary();
    let building = if given.is_some() { 0 } else { build::STEPS };
    let mut steps = Steps::new(building + 1 + wanted.len() as u32);
    let agent = match given {
        Some(agent) => agent,
        None => build::agent(machine, &workspace, &mut steps)?.agent,
    };

    steps.next("QEMU, and kernels from Debian's archive");
    apt::supply_keyring(machine, &workspace)?;
    let programs = Programs::supply(&workspace.tools())?;
    let kernels = kernels(&dir, &wanted)?;
    let names: Vec<&str> = kernels.iter().map(|kernel| &*kernel.name).collect();
    steps.done(names.join(", "));

    let mut reports = Vec::with_capacity(kernels.len());
    for kernel in &kernels {
        steps.next(format_args!("{}: boot and check", kernel.name));
        let mut report = Report::new(&kernel.name, &dir);
        // Go on after an error: other kernels may work.
        if let Err(error) = boot(&programs, kernel, &agent, &dir, &args.append, &mut report) {
            report.broke(&error);
        }
        steps.done(report.summary());
        reports.push(report);
    }

    println!("{}", report::table(&reports));
    let failed: Vec<String> = reports
        .iter()
        .filter(|report| !report.ok())
        .map(|report| format!("{}, see {}", report.kernel, report.console.display()))
        .collect();
    ensure!(failed.is_empty(), "checks failed on {}", failed.join("; "));
    Ok(())
}

fn kernels(dir: &Path, wanted: &[String]) -> Result<Vec<Kernel>> {
    let is_file = |kernel: &str| kernel.ends_with(".deb");
    // Open the archive only if needed, since that needs a network.
    let archive = if wanted.iter().all(|kernel| is_file(kernel)) {
        None
    } else {
        Some(Archive::open(dir)?)
    };
    let get = |kernel: &String| match &archive {
        Some(archive) if !is_file(kernel) => archive.kernel(kernel),
        _ => Kernel::unpack(dir, &[PathBuf::from(kernel)]),
    };
    wanted.iter().map(get).collect()
}

fn boot(
    programs: &Programs,
    kernel: &Kernel,
    agent: &Path,
    dir: &Path,
    append: &str,
    report: &mut Report,
) -> Result<()> {
    let initramfs = dir.join("initramfs.cpio");
    initramfs::write(&initramfs, agent, kernel, programs)
        .with_context(|| format!("write {}", initramfs.display()))?;
    let ended = qemu::boot(programs.qemu()?, kernel, &initramfs, append, report);
    // Remove it: it has tens of megabytes and is quickly made again.
    let _ = fs::remove_file(&initramfs);
    ended
}
