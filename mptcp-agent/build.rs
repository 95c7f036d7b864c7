//! Puts the eBPF object where the agent includes it from:
//! `$OUT_DIR/mptcp-ebpf.o`.
//!
//! The object is built for another target by another toolchain, which is
//! `cargo xtask build`'s work. It hands the path over in MPTCP_EBPF_OBJECT; a
//! plain `cargo build` takes what xtask left in the target directory. Where
//! there is none the file is empty, so that `cargo clippy` and editors work;
//! such an agent refuses to run.
//!
//! The preload library of `mptcp-agent exec` is small enough to be compiled here,
//! into `$OUT_DIR/libmptcp-preload.so`. MPTCP_PRELOAD_LIBRARY names one that is
//! ready, for a target for which this compiler has no `core`.
//!
//! MPTCP_AGENT_COMMIT is the commit that `--version` shows, or `unknown`.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> io::Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    embed_object(&out_dir)?;
    embed_preload_library(&out_dir)?;
    name_commit();
    Ok(())
}

fn embed_object(out_dir: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=MPTCP_EBPF_OBJECT");
    let embedded = out_dir.join("mptcp-ebpf.o");
    let given = env::var_os("MPTCP_EBPF_OBJECT").map(PathBuf::from);
    let object = given.clone().or_else(|| left_by_xtask(out_dir));
    if let Some(object) = object {
        // Also while it does not exist: its arrival is a change.
        println!("cargo::rerun-if-changed={}", object.display());
        if given.is_some() || object.exists() {
            let bytes = fs::read(&object).map_err(|error| {
                let path = object.display();
                io::Error::new(error.kind(), format!("the eBPF object {path}: {error}"))
            })?;
            return fs::write(embedded, bytes);
        }
    }
    println!(
        "cargo::warning=the agent is built without its eBPF object and will refuse to run: \
         use `cargo xtask build`"
    );
    fs::write(embedded, [])
}

/// `<target>/ebpf/<bpf target>/release/mptcp-ebpf`, where `OUT_DIR` is
/// somewhere below `<target>`.
fn left_by_xtask(out_dir: &Path) -> Option<PathBuf> {
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let object = Path::new("ebpf").join(target).join("release/mptcp-ebpf");
    // <target>/release/build/mptcp-agent-<hash>/out, or with a target triple
    // before `release`.
    let mut candidates = out_dir
        .ancestors()
        .skip(4)
        .take(2)
        .map(|dir| dir.join(&object));
    let usual = candidates.next()?;
    if usual.exists() {
        return Some(usual);
    }
    Some(candidates.find(|path| path.exists()).unwrap_or(usual))
}

fn embed_preload_library(out_dir: &Path) -> io::Result<()> {
    const SOURCE: &str = "../preload/src/lib.rs";
    println!("cargo::rerun-if-env-changed=MPTCP_PRELOAD_LIBRARY");
    println!("cargo::rerun-if-changed={SOURCE}");
    let embedded = out_dir.join("libmptcp-preload.so");
    if let Some(given) = env::var_os("MPTCP_PRELOAD_LIBRARY") {
        println!("cargo::rerun-if-changed={}", given.display());
        return fs::copy(given, embedded).map(drop);
    }
    // Without the flags of the agent, except the one that says where `core` is: a
    // static agent, too, needs a library that is loaded at run time.
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc
        .args(["--crate-name", "mptcp_preload", "--edition", "2024"])
        .args(["--crate-type", "cdylib", "--cfg", "feature=\"interpose\""])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "link-arg=-nostdlib"])
        .args(["-C", "link-arg=-Wl,-soname,libmptcp-preload.so"])
        .args(sysroot())
        .arg("--target")
        .arg(env::var_os("TARGET").expect("cargo sets TARGET"))
        .arg("-o")
        .args([&*embedded, Path::new(SOURCE)]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C");
        rustc.arg(
            [OsStr::new("linker="), &linker]
                .into_iter()
                .collect::<OsString>(),
        );
    }
    let output = rustc.output()?;
    if output.status.success() {
        strip_as_packagers_do(&embedded);
        return Ok(());
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        println!("cargo::warning={line}");
    }
    println!(
        "cargo::warning=the agent is built without the preload library of `mptcp-agent exec`: \
         name one that is compiled for this target in MPTCP_PRELOAD_LIBRARY"
    );
    fs::write(embedded, [])
}

/// Returns the compiler's flag `--sysroot=DIRECTORY`, if the agent is compiled with it.
fn sysroot() -> Option<String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").ok()?;
    let mut flags = flags.split('\x1f');
    flags
        .find(|flag| flag.starts_with("--sysroot="))
        .map(str::to_owned)
}

/// Removes what packaging tools (dh_strip, cargo-deb) remove from libraries, so that
/// the packaged library is the embedded one byte for byte: the agent uses no other.
/// Does nothing for another machine's library, or where there is no `strip`.
fn strip_as_packagers_do(library: &Path) {
    if env::var_os("TARGET") == env::var_os("HOST") {
        // Without it the library works as well.
        let _ = Command::new("strip")
            .args(["--strip-unneeded", "--remove-section=.comment"])
            .arg("--remove-section=.note")
            .arg(library)
            .output();
    }
}

fn name_commit() {
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    println!(
        "cargo::rustc-env=MPTCP_AGENT_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
    // HEAD itself names a branch; its log grows with every commit.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
