//! `cargo xtask dist`: builds what an operator installs, into `<target>/dist`.
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
use xtask::machine::Machine;
use xtask::workspace::Workspace;

/// The arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Also test what was built: lintian; an installation into a fresh Debian, an
    /// upgrade and a purge there; the static agent without any library
    #[arg(long)]
    check: bool,

    /// Build the Debian package alone, which takes seconds after a build
    #[arg(long)]
    only_deb: bool,
}

/// Runs `cargo xtask dist`.
pub fn run(machine: &Machine, args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let release = Release::of(&workspace)?;
    let out = workspace.target.join("dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let own = 2 + if args.only_deb { 0 } else { 3 } + if args.check { 1 } else { 0 };
    let mut steps = Steps::new(build::STEPS + own);
    let built = build::agent(machine, &workspace, &mut steps)?;

    steps.next("man pages, completions, configuration");
    stage::lay_out(&workspace, &built, &release)?;
    steps.done("ok");

    steps.next(format_args!("Debian package of version {}", release.debian));
    let package = debian::build(machine, &workspace, &release.debian, &out, Packing::Small)?;
    steps.done(package.display());

    let mut agent = None;
    if !args.only_deb {
        steps.next("static agent");
        agent = Some(tarball::build(&workspace, &built, &release, &out)?);
        steps.done("ok");
        steps.next("software bill of materials");
        sbom::write(machine, &workspace, &release, &out)?;
        steps.done("ok");
        steps.next("checksums");
        checksums(&out)?;
        steps.done("ok");
    }
    if args.check {
        steps.next("check");
        check::run(machine, &workspace, &release, &package)?;
        if let Some(agent) = &agent {
            alone::check(agent)?;
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
