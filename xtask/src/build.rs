//! `cargo xtask build`: makes one file, `<target>/release/mptcp-agent`, with the
//! eBPF object in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{self, Steps},
    linker::{self, Linker},
    machine::Machine,
    toolchain::{self, Toolchain},
    workspace::Workspace,
};

/// How many steps [`agent`] announces.
pub const STEPS: u32 = 4;

/// The eBPF crate's target: BPF in this machine's byte order.
pub const EBPF_TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// The files that a build makes.
pub struct Built {
    /// The agent.
    pub agent: PathBuf,
    object: PathBuf,
}

impl Built {
    /// Returns a cargo for the user-space crates that embeds this build's object
    /// whenever it compiles the agent.
    pub fn cargo(&self, workspace: &Workspace) -> Command {
        let mut cargo = workspace.cargo();
        self.embed(&mut cargo);
        cargo
    }

    /// Makes another cargo embed this build's object.
    pub fn embed(&self, cargo: &mut Command) {
        cargo.env("MPTCP_EBPF_OBJECT", &self.object);
    }
}

/// Runs `cargo xtask build`.
pub fn run(machine: &Machine) -> Result<()> {
    let workspace = Workspace::find()?;
    let built = agent(machine, &workspace, &mut Steps::new(STEPS))?;
    println!("{}", built.agent.display());
    Ok(())
}

/// Builds the agent in [`STEPS`] steps.
pub fn agent(machine: &Machine, workspace: &Workspace, steps: &mut Steps) -> Result<Built> {
    let (toolchain, linker) = prepare(machine, workspace, steps)?;

    steps.next(format_args!("eBPF object: mptcp-ebpf for {EBPF_TARGET}"));
    let object = ebpf_object(workspace, &toolchain, &linker)?;
    steps.done(describe(&object)?);

    steps.next("agent: mptcp-agent, with the eBPF object in it");
    let built = Built {
        agent: workspace.target.join("release/mptcp-agent"),
        object,
    };
    command::run(built.cargo(workspace).args([
        "build",
        "--locked",
        "--release",
        "-p",
        "mptcp-agent",
    ]))?;
    steps.done(describe(&built.agent).context(
        "cargo has built the agent elsewhere: is `build.target` set in a cargo configuration?",
    )?);
    Ok(built)
}

/// Finds or installs the eBPF toolchain and its linker. If both are missing,
/// they are named and installed together.
fn prepare(
    machine: &Machine,
    workspace: &Workspace,
    steps: &mut Steps,
) -> Result<(Toolchain, Linker)> {
    let (found, found_linker) = (Toolchain::find(), Linker::find());
    let describe = |found: Option<String>| found.unwrap_or_else(|| "none yet".to_owned());
    steps.next(format_args!(
        "eBPF toolchain: {}",
        describe(found.as_ref().map(ToString::to_string))
    ));
    let mut needs = Vec::new();
    needs.extend(found.is_none().then(Toolchain::need));
    needs.extend(found_linker.is_none().then(Linker::need));
    machine.supply(workspace, &needs)?;
    let toolchain = match found {
        Some(toolchain) => toolchain,
        None => toolchain::find_after_install()?,
    };
    let linker = match found_linker {
        Some(linker) => linker,
        None => linker::find_after_install()?,
    };
    if !needs.is_empty() {
        steps.done(&toolchain);
    }
    steps.next(format_args!("bpf-linker: {linker}"));
    Ok((toolchain, linker))
}

fn ebpf_object(workspace: &Workspace, toolchain: &Toolchain, linker: &Linker) -> Result<PathBuf> {
    // v3 has atomic operations that return the old value. Every kernel that
    // the agent supports has them.
    let flags = [
        "-C",
        &format!("linker={}", linker.path.display()),
        "-C",
        "link-arg=--btf",
        "-C",
        "target-cpu=v3",
        // Emit types for all that is linked, including `core`: the kernel
        // refuses BTF that names a function without its type.
        "-C",
        "debuginfo=2",
    ];
    let mut build = toolchain.cargo(workspace);
    build
        .args(["build", "--locked", "--release", "-p", "mptcp-ebpf"])
        .args(["-Z", "build-std=core", "--target", EBPF_TARGET])
        .arg("--target-dir")
        .arg(ebpf_target_dir(workspace))
        // This variable is encoded, so that a path may contain a space.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command::run(&mut build).with_context(|| linker.hint(toolchain.llvm()))?;
    Ok(ebpf_target_dir(workspace)
        .join(EBPF_TARGET)
        .join("release/mptcp-ebpf"))
}

/// Returns a separate target directory, so that two toolchains do not overwrite
/// each other's work. The agent's build script also knows it.
pub fn ebpf_target_dir(workspace: &Workspace) -> PathBuf {
    workspace.target.join("ebpf")
}

fn describe(file: &Path) -> Result<String> {
    let size = file
        .metadata()
        .with_context(|| format!("{} was not built", file.display()))?
        .len();
    ensure!(size > 0, "{} is empty", file.display());
    Ok(format!("{} ({} KiB)", file.display(), size.div_ceil(1024)))
}
