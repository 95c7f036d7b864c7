//! The verb `vm`: builds the agent, finds the kernels, boots each, and shows the
//! reports.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::agent;
use xtask::apt;
use xtask::build;
use xtask::command::Steps;
use xtask::cross::{Arch, Cross};
use xtask::machine::Machine;
use xtask::workspace::Workspace;

use crate::archive::{self, Archive, Kernel};
use crate::initramfs::Compiled;
use crate::platform::Platform;
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
    /// Boot kernels of this architecture, in target/vm-ARCH [default: this machine's]
    ///
    /// For another one, the verb checks the static agent, as `cargo xtask dist
    /// --target` builds it.
    #[arg(long, value_name = "ARCH", value_enum)]
    arch: Option<Arch>,
    /// More parameters for the kernels: --append lockdown=confidentiality
    #[arg(long, value_name = "PARAMETERS", default_value = "")]
    append: String,
}

/// Runs `cargo xtask vm`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let own = Arch::own()?;
    let platform = Platform::of(args.arch.unwrap_or(own));
    let arch = platform.arch;
    let dir = workspace.target.join(match arch == own {
        true => "vm".to_owned(),
        false => format!("vm-{}", arch.name()),
    });
    let wanted = if args.kernels.is_empty() {
        KERNELS.map(str::to_owned).to_vec()
    } else {
        args.kernels.clone()
    };

    let given = agent::binary();
    let building = if given.is_some() { 0 } else { build::STEPS };
    let mut steps = Steps::new(building + 2 + wanted.len() as u32);
    let compiled = compile(machine, &workspace, arch, given, &mut steps)?;

    steps.next("QEMU, and kernels from Debian's archive");
    apt::supply_keyring(machine, &workspace)?;
    let programs = Programs::supply(&workspace.tools(), platform)?;
    let kernels = kernels(&dir, arch, &wanted)?;
    let names: Vec<&str> = kernels.iter().map(|kernel| &*kernel.name).collect();
    steps.done(names.join(", "));

    let machines = Machines {
        platform,
        programs,
        compiled,
        dir,
        append: &args.append,
    };
    let mut reports = Vec::with_capacity(kernels.len());
    for kernel in &kernels {
        steps.next(format_args!("{}: boot and check", kernel.name));
        let mut report = Report::new(&kernel.name, &machines.dir);
        // Go on after an error: other kernels may work.
        if let Err(error) = machines.boot(kernel, &mut report) {
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

/// Builds the agent, unless it is given, and the other programs of the guests.
fn compile(
    machine: &Machine,
    workspace: &Workspace,
    arch: Arch,
    given: Option<PathBuf>,
    steps: &mut Steps,
) -> Result<Compiled> {
    let built = match given {
        Some(_) => None,
        None => Some(build::agent(machine, workspace, steps)?),
    };
    steps.next("programs for the guests");
    let cross = Cross::supply(machine, workspace, arch)?;
    let is_own = arch == Arch::own()?;
    let agent = match built {
        None => given,
        Some(built) if is_own => Some(built.agent),
        Some(built) => Some(cross.agent(workspace, &built)?.program),
    };
    let init = if is_own {
        std::env::current_exe().context("find this program's file")?
    } else {
        cross.program(workspace, env!("CARGO_PKG_NAME"))?
    };
    let compiled = Compiled {
        agent: agent.context("no agent")?,
        init,
        socket: cross.dynamic(workspace, "mptcp-vm-socket")?,
    };
    steps.done("ok");
    Ok(compiled)
}

fn kernels(dir: &Path, arch: Arch, wanted: &[String]) -> Result<Vec<Kernel>> {
    let is_file = |kernel: &str| kernel.ends_with(".deb");
    // Open the archive only if needed, since that needs a network.
    let archive = if wanted.iter().all(|kernel| is_file(kernel)) {
        None
    } else {
        Some(Archive::open(dir, arch)?)
    };
    let get = |kernel: &String| match &archive {
        Some(archive) if !is_file(kernel) => archive.kernel(kernel),
        _ => Kernel::unpack(dir, &[PathBuf::from(kernel)]),
    };
    wanted.iter().map(get).collect()
}

/// The virtual machines of a run. They differ in their kernels only.
struct Machines<'a> {
    platform: &'static Platform,
    programs: Programs,
    compiled: Compiled,
    dir: PathBuf,
    append: &'a str,
}

impl Machines<'_> {
    /// Boots a kernel and collects what the guest reports.
    fn boot(&self, kernel: &Kernel, report: &mut Report) -> Result<()> {
        let initramfs = self.dir.join("initramfs.cpio");
        initramfs::write(&initramfs, &self.compiled, kernel, &self.programs)
            .with_context(|| format!("write {}", initramfs.display()))?;
        let qemu = self.programs.qemu()?;
        let ended = qemu::boot(qemu, self.platform, kernel, &initramfs, self.append, report);
        // Remove it: it has tens of megabytes and is quickly made again.
        let _ = fs::remove_file(&initramfs);
        ended
    }
}
