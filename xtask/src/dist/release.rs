//! The version of what is built, from git.

use std::process::Command;

use anyhow::{Context as _, Result};

use xtask::command;
use xtask::workspace::Workspace;

/// A version and where it comes from.
pub struct Release {
    /// The version of the Debian package, and of all other files' names.
    pub debian: String,
    /// The abbreviated commit, or `unknown`.
    pub commit: String,
    /// The time of the commit, as Debian's changelogs write it.
    pub date: String,
}

impl Release {
    /// Asks git. Without a repository, as in an unpacked archive, the version is
    /// that of the crate.
    ///
    /// # Errors
    /// The time cannot be read.
    pub fn of(workspace: &Workspace) -> Result<Self> {
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            command::output(git.current_dir(&workspace.root).args(args))
        };
        let tag = format!("v{}", env!("CARGO_PKG_VERSION"));
        let count = |range: &str| git(&["rev-list", "--count", range]);
        let state = git(&["rev-parse", "--short=9", "HEAD"]).map(|commit| State {
            since_tag: count(&format!("{tag}..HEAD")),
            commits: count("HEAD").unwrap_or_default(),
            is_dirty: git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()),
            commit,
        });
        let date = git(&["log", "-1", "--format=%cD"])
            .or_else(|| command::output(Command::new("date").arg("-R")))
            .context("neither git nor date says what time it is")?;
        Ok(Self {
            debian: version(env!("CARGO_PKG_VERSION"), state.as_ref()),
            commit: state.map_or_else(|| "unknown".to_owned(), |state| state.commit),
            date,
        })
    }
}

/// What git says of the tree.
struct State {
    /// How many commits there are since the tag of the crate's version; none if
    /// there is no such tag.
    since_tag: Option<String>,
    commits: String,
    commit: String,
    is_dirty: bool,
}

/// Makes a version that Debian orders rightly: commits before a release are older
/// than it (`~`), those after it newer (`+`), each newer than the one before.
fn version(number: &str, state: Option<&State>) -> String {
    let Some(state) = state else {
        return number.to_owned();
    };
    let State {
        commits, commit, ..
    } = state;
    let dirty = if state.is_dirty { ".dirty" } else { "" };
    match state.since_tag.as_deref() {
        Some("0") if !state.is_dirty => number.to_owned(),
        Some(since) => format!("{number}+git{since}.{commit}{dirty}"),
        None => format!("{number}~git{commits}.{commit}{dirty}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(since_tag: Option<&str>, is_dirty: bool) -> State {
        State {
            since_tag: since_tag.map(str::to_owned),
            commits: "386".to_owned(),
            commit: "83649b217".to_owned(),
            is_dirty,
        }
    }

    #[test]
    fn versions_before_at_and_after_a_release() {
        let of = |since, dirty| version("0.2.0", Some(&state(since, dirty)));
        assert_eq!(of(None, false), "0.2.0~git386.83649b217");
        assert_eq!(of(None, true), "0.2.0~git386.83649b217.dirty");
        assert_eq!(of(Some("0"), false), "0.2.0");
        assert_eq!(of(Some("0"), true), "0.2.0+git0.83649b217.dirty");
        assert_eq!(of(Some("7"), false), "0.2.0+git7.83649b217");
        assert_eq!(version("0.2.0", None), "0.2.0");
    }
}
