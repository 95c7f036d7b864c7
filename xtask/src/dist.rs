//! `cargo xtask dist`: builds what an operator installs, into `<target>/dist`, or
//! `<target>/dist-ARCH` for another architecture.
//!
//! ```text
//!   mptcp-agent_VERSION_ARCH.deb         a Debian package
//!   mptcp-agent-VERSION-ARCH.tar.gz      a static agent, for any other system
//!   mptcp-agent-VERSION.cdx.json         what is in them (CycloneDX)
//!   SHA256SUMS
//! ```

mod alone;
mod check;
mod debian;
mod guest;
mod leftovers;
mod release;
mod roots;
mod sbom;
mod stage;
mod tarball;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use debian::Packing;
use release::Release;
use xtask::build;
use xtask::command::{self, Steps};
use xtask::cross::{Arch, Cross};
use xtask::machine::Machine;
use xtask::workspace::Workspace;

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Also test what was built: lintian; an installation into a fresh Debian, an
    /// upgrade and a purge there; the static agent without any library, beside musl,
    /// and beside an older glibc. For another architecture: lintian, and whether the
    /// agent starts in an emulator
    #[arg(long)]
    check: bool,

    /// Build the Debian package alone, which takes seconds after a build
    #[arg(long)]
    only_deb: bool,

    /// Build for this architecture, into `<target>/dist-ARCH` [default: this machine's]
    ///
    /// For another one the package has the static agent, too.
    #[arg(long, value_name = "ARCH", value_enum)]
    target: Option<Arch>,
}

/// Runs `cargo xtask dist`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let release = Release::of(&workspace)?;
    let arch = args.target.map_or_else(Arch::own, Ok)?;
    let is_foreign = arch != Arch::own()?;
    let out = workspace.target.join(match is_foreign {
        true => format!("dist-{}", arch.name()),
        false => "dist".to_owned(),
    });
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let is_static = is_foreign || !args.only_deb;
    let own = 2
        + if is_static { 1 } else { 0 }
        + if args.only_deb { 0 } else { 3 }
        + if args.check { 1 } else { 0 };
    let mut steps = Steps::new(build::STEPS + own);
    let built = build::agent(machine, &workspace, &mut steps)?;

    let mut cross = None;
    if is_static {
        steps.next(format_args!("static agent for {}", arch.name()));
        let found = Cross::supply(machine, &workspace, arch)?;
        let agent = found.agent(&workspace, &built)?;
        steps.done("ok");
        cross = Some((found, agent));
    }

    steps.next("man pages, completions, configuration");
    // Where cargo-deb looks for them.
    let files = match &cross {
        Some((cross, _)) if is_foreign => cross.out(&workspace),
        _ => workspace.target.join("release"),
    };
    let files = files.join("package");
    let foreign = cross.as_ref().filter(|_| is_foreign);
    let library = foreign.map(|(_, agent)| &*agent.preload_library);
    stage::lay_out(&workspace, &built, &release, library, &files)?;
    steps.done("ok");

    steps.next(format_args!("Debian package of version {}", release.debian));
    let version = &release.debian;
    let package = debian::build(machine, &workspace, version, &out, Packing::Small, arch)?;
    steps.done(package.display());

    let mut packed = None;
    if let Some((_, agent)) = cross.as_ref().filter(|_| !args.only_deb) {
        steps.next("archive of the static agent");
        let program = &agent.program;
        packed = Some(tarball::pack(
            program, &workspace, arch, &release, &files, &out,
        )?);
        steps.done("ok");
        steps.next("software bill of materials");
        sbom::write(machine, &workspace, &release, &arch.target(), &out)?;
        steps.done("ok");
        steps.next("checksums");
        checksums(&out)?;
        steps.done("ok");
    }
    if args.check {
        steps.next("check");
        if is_foreign {
            check::elsewhere(machine, &workspace, arch, &package, packed.as_deref())?;
        } else {
            check::run(machine, &workspace, &release, &package)?;
            if let Some(agent) = &packed {
                alone::check(&workspace, agent)?;
            }
        }
        steps.done("ok");
    }
    println!("{}", out.display());
    Ok(())
}

/// Writes `SHA256SUMS`, in the format that `sha256sum --check` reads.
fn checksums(out: &std::path::Path) -> Result<()> {
    let mut sums = Command::new("sh");
    sums.current_dir(out)
        .args(["-euc", "sha256sum -- mptcp-agent* > SHA256SUMS"]);
    command::run(&mut sums)
}
