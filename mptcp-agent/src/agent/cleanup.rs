//! `mptcp-agent cleanup`: removes what a killed agent has left, and says what
//! that was.
//!
//! It takes over as the next agent would, with the default policy, and ends in
//! good order at once. That lifts every limit, on idle connections too. What the
//! agent managed is taken back.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use mptcp_common::names::map;

use crate::host::{self, Cgroup, Namespace, NamespaceClaim};
use crate::kernel::{self, Content, Kernel, LoadOptions, Policies, Remains, Swept};
use crate::manage::{self, Undone};
use crate::policy::Policy;
use crate::redundancy;
use crate::state::paths::PathTable;

/// Cleans up this network namespace.
///
/// # Errors
/// An agent runs in it, or privileges are missing; or a step has failed, in
/// which case all the others were taken.
pub fn run(cgroup: Option<&Path>, btf: Option<&Path>) -> Result<()> {
    host::privileges()?;
    host::types::check(btf)?;
    let claim = NamespaceClaim::take(kernel::is_beating)?;
    let namespace = Namespace::own(claim.cookie())?;
    let remains = Remains::find(namespace);
    let found = remains.as_ref().map(Remains::content);
    // This comes first, because connections suffer from nothing else.
    if let Some(remains) = &remains {
        remains.end_policy();
    }
    let lifted = lift(namespace, cgroup, btf);
    if lifted.is_err()
        && let Some(remains) = Remains::find(namespace)
    {
        // Connections that send data lift their limits themselves, as long as
        // the programs are attached.
        std::thread::sleep(kernel::GRACE);
        remains.remove();
    }
    let undone = manage::undo(claim.cookie());
    let filters = kernel::remove_stale_filters();
    let swept = kernel::sweep_dead_namespaces();
    let (sockets, failure) = match host::remove_dead_sockets() {
        Ok(sockets) => (sockets, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let managed = undone.as_ref().map(Undone::words).unwrap_or_default();
    say(&words(
        &found.unwrap_or_default(),
        filters,
        &sockets,
        swept,
        &managed,
    ));
    let visited = lifted.context("limits on idle connections may be left")?;
    say(&format!(
        "{visited} open subflows have no limit of an agent\n"
    ));
    undone.context("what the agent managed may be left")?;
    failure.map_or(Ok(()), Err)
}

/// Takes over, lifts every limit and leaves. Returns how many subflows are
/// open.
fn lift(namespace: Namespace, cgroup: Option<&Path>, btf: Option<&Path>) -> Result<u64> {
    let cgroup = Cgroup::open(cgroup)?;
    // Maps that are made now live only for a moment, so they may be small.
    let held = Remains::find(namespace).and_then(|remains| remains.capacity(map::CONNECTIONS));
    let mut kernel = Kernel::load(&LoadOptions {
        max_connections: held.unwrap_or(1),
        cgroup: cgroup.as_fd(),
        btf,
        namespace,
        measure_programs: false,
        number: redundancy::random_nonzero()?,
    })?;
    let table = PathTable::new(&Policy::default().weights());
    let nothing = Policies::new(&table, Policy::default().capabilities(), Vec::new());
    kernel.publish(&table, &nothing, &[])?;
    Ok(kernel.shutdown()?.visited)
}

/// `managed` says what was taken back of what the agent managed.
fn words(
    found: &Content,
    filters: usize,
    sockets: &[PathBuf],
    swept: Swept,
    managed: &str,
) -> String {
    let Swept { removed, unseen } = swept;
    let mut text = String::new();
    let Content { links, maps } = found;
    if !found.is_empty() {
        text += &format!(
            "removed {} attached programs ({}) and {} maps ({})\n",
            links.len(),
            links.join(" "),
            maps.len(),
            maps.join(" ")
        );
    }
    if filters > 0 {
        text += &format!("removed {filters} tc filters\n");
    }
    text += managed;
    for socket in sockets {
        text += &format!("removed the dead socket {}\n", socket.display());
    }
    if removed > 0 {
        text += &format!("removed what was left of {removed} network namespaces that are gone\n");
    }
    if unseen > 0 {
        text += &format!(
            "left what agents without a heartbeat have in {unseen} network namespaces: whether \
             those are gone cannot be told from here, where not every process is seen\n"
        );
    }
    if text.is_empty() {
        "nothing was left behind\n".to_owned()
    } else {
        text
    }
}

/// Prints to stdout, which may be a closed pipe. That is no reason to fail.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_named() {
        let found = Content {
            links: vec!["sockops-1".to_owned()],
            maps: vec![map::CONFIG.to_owned(), map::PATHS.to_owned()],
        };
        assert_eq!(
            words(
                &found,
                2,
                &[PathBuf::from("/run/x.sock")],
                Swept::default(),
                "removed 3 endpoints\n"
            ),
            "removed 1 attached programs (sockops-1) and 2 maps (CONFIG PATHS)\n\
             removed 2 tc filters\n\
             removed 3 endpoints\n\
             removed the dead socket /run/x.sock\n"
        );
        assert_eq!(
            words(&Content::default(), 0, &[], Swept::default(), ""),
            "nothing was left behind\n"
        );
        let swept = Swept {
            removed: 3,
            unseen: 4,
        };
        let text = words(&Content::default(), 0, &[], swept, "");
        assert!(
            text.contains("of 3 network namespaces that are gone"),
            "{text}"
        );
        assert!(text.contains("in 4 network namespaces"), "{text}");
    }
}
