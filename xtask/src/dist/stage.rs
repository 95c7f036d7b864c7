//! Lays out the files of the package beside the binary, as they are to lie on a
//! host: `release/package/root` of the target's directory, from which cargo-deb takes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::release::Release;
use xtask::build::Built;
use xtask::command;
use xtask::cross::PRELOAD_LIBRARY;
use xtask::workspace::Workspace;

const DOC: &str = "usr/share/doc/mptcp-agent";

/// Files of the repository, and where they go: into a directory if that ends in `/`.
const FILES: [(&str, &str); 6] = [
    (
        "deploy/systemd/sysusers.conf",
        "usr/lib/sysusers.d/mptcp-agent.conf",
    ),
    (
        "deploy/systemd/tmpfiles.conf",
        "usr/lib/tmpfiles.d/mptcp-agent.conf",
    ),
    (
        "deploy/debian/lintian-overrides",
        "usr/share/lintian/overrides/mptcp-agent",
    ),
    ("README.md", "usr/share/doc/mptcp-agent/"),
    ("CHANGELOG.md", "usr/share/doc/mptcp-agent/changelog"),
    ("docs/config.schema.json", "usr/share/doc/mptcp-agent/"),
];

/// Directories of the repository whose files go below the documentation, those
/// with one of the endings. A directory that does not exist is left out.
const DIRECTORIES: [(&str, &str, &[&str]); 3] = [
    ("docs", "docs", &["md"]),
    ("deploy/prometheus", "prometheus", &["yml"]),
    ("deploy/grafana", "grafana", &["json"]),
];

/// What mptcp-generate writes, and where it goes.
const GENERATED: [(&str, &str); 5] = [
    ("config.toml", "etc/mptcp-agent/"),
    (PRELOAD_LIBRARY, "usr/lib/mptcp-agent/"),
    (
        "completions/mptcp-agent.bash",
        "usr/share/bash-completion/completions/mptcp-agent",
    ),
    (
        "completions/_mptcp-agent",
        "usr/share/zsh/vendor-completions/",
    ),
    (
        "completions/mptcp-agent.fish",
        "usr/share/fish/vendor_completions.d/",
    ),
];

/// Makes the tree of files anew, below a directory. The preload library is that of
/// this machine's agent, unless there is a `library` of another architecture.
pub fn lay_out(
    workspace: &Workspace,
    built: &Built,
    release: &Release,
    library: Option<&Path>,
    package: &Path,
) -> Result<PathBuf> {
    if package.exists() {
        fs::remove_dir_all(package)
            .with_context(|| format!("cannot empty {}", package.display()))?;
    }
    let (generated, root) = (package.join("generated"), package.join("root"));
    command::run(
        built
            .cargo(workspace)
            .args(["run", "--quiet", "--locked", "--release"])
            .args(["-p", "mptcp-generate", "--"])
            .arg(&generated),
    )?;
    if let Some(library) = library {
        copy(library, &generated, PRELOAD_LIBRARY)?;
    }
    for (from, to) in FILES {
        copy(&workspace.root.join(from), &root, to)?;
    }
    for (from, to) in GENERATED {
        copy(&generated.join(from), &root, to)?;
    }
    for page in files(&generated.join("man"), &["8"])? {
        copy(&page, &root, "usr/share/man/man8/")?;
    }
    for (from, to, endings) in DIRECTORIES {
        for file in files(&workspace.root.join(from), endings)? {
            copy(&file, &root, &format!("{DOC}/{to}/"))?;
        }
    }
    debian_changelog(release, &root.join(DOC))?;
    compress(&root)?;
    Ok(root)
}

/// Returns the files of a directory that have one of the endings, or none if
/// there is no such directory.
fn files(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let cannot = || format!("cannot read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| endings.contains(&ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Copies a file to its place below `root`, into a directory if `to` ends in `/`.
fn copy(from: &Path, root: &Path, to: &str) -> Result<()> {
    let mut place = root.join(to);
    if to.ends_with('/') {
        place.push(from.file_name().unwrap_or_default());
    }
    let directory = place.parent().unwrap_or(root);
    fs::create_dir_all(directory)
        .and_then(|()| fs::copy(from, &place))
        .with_context(|| format!("cannot copy {} to {}", from.display(), place.display()))?;
    Ok(())
}

/// Writes Debian's changelog, with one entry: CHANGELOG.md has the history.
fn debian_changelog(release: &Release, directory: &Path) -> Result<()> {
    let text = format!(
        "mptcp-agent ({}-1) unstable; urgency=medium\n\n  \
           * Built from commit {}. The upstream changelog says what is new.\n\n \
         -- mptcp-agent developers <mptcp-agent@example.org>  {}\n",
        release.debian, release.commit, release.date
    );
    let file = directory.join("changelog.Debian");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Compresses what Debian wants compressed: man pages and changelogs.
fn compress(root: &Path) -> Result<()> {
    let mut gzip = Command::new("gzip");
    // No name and no time in the archive: the same commit gives the same file.
    gzip.arg("-9n")
        .args(["changelog", "changelog.Debian"].map(|file| root.join(DOC).join(file)))
        .args(files(&root.join("usr/share/man/man8"), &["8"])?);
    command::run(&mut gzip)
}
