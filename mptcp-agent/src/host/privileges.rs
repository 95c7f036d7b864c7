//! The capabilities that loading and attaching take: whether they are there, and
//! how they are given up once everything is attached.

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability};
use rustix::process::geteuid;

/// The capabilities that the agent needs, and what for.
const NEEDED: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "load eBPF programs and maps"),
    (Capability::CAP_PERFMON, "read kernel structures"),
    (
        Capability::CAP_NET_ADMIN,
        "attach to sockets and set their limits",
    ),
];

/// Capabilities that nothing takes after the start: by then every program is
/// loaded and every map made, and file descriptors are enough to use them. What is
/// attached again, or to another device, takes `CAP_NET_ADMIN`, as do endpoints
/// and routes.
const FOR_THE_START: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    // In place of the two, and for mounts, and --measure-programs.
    Capability::CAP_SYS_ADMIN,
];

/// Gives up what only the start takes, for this thread and those that it starts.
/// Root keeps everything, since root could take it back. A failure is logged.
pub fn give_up() {
    if geteuid().is_root() {
        return;
    }
    match try_give_up() {
        Ok(true) => tracing::debug!("gave up the capabilities that only the start takes"),
        Ok(false) => {}
        Err(error) => tracing::warn!("{error:#}"),
    }
}

/// Does what [`give_up`] does. Returns whether there was something to give up.
///
/// # Errors
/// The kernel refuses.
fn try_give_up() -> Result<bool> {
    // Effective ones first, because they are part of the permitted ones.
    let mut gave_up = false;
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Inheritable,
        CapSet::Permitted,
    ] {
        for capability in FOR_THE_START {
            // An error means that this kernel does not know the capability.
            if caps::has_cap(None, set, capability).unwrap_or(false) {
                caps::drop(None, set, capability)
                    .with_context(|| format!("cannot give {capability} up"))?;
                gave_up = true;
            }
        }
    }
    Ok(gave_up)
}

/// Returns whether this process may load programs that read kernel structures.
pub fn may_load() -> bool {
    has(Capability::CAP_SYS_ADMIN) || (has(Capability::CAP_BPF) && has(Capability::CAP_PERFMON))
}

fn has(capability: Capability) -> bool {
    // An error means that this kernel does not know the capability.
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Checks that this process has them. `CAP_SYS_ADMIN` implies the others, as in
/// the kernel's `bpf_capable`, `perfmon_capable` and `bpf_net_capable`.
///
/// # Errors
/// Some are missing; the error names them.
pub fn check() -> Result<()> {
    let missing = missing(has);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "not enough privileges: missing {}; run as root, or grant these",
        missing.join(", ")
    )
}

fn missing(has: impl Fn(Capability) -> bool) -> Vec<String> {
    if has(Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    NEEDED
        .into_iter()
        .filter(|&(capability, _)| !has(capability))
        .map(|(capability, purpose)| format!("{capability} (to {purpose})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_ones_are_named() {
        assert!(missing(|capability| capability == Capability::CAP_SYS_ADMIN).is_empty());
        assert!(
            missing(|capability| NEEDED.iter().any(|(needed, _)| *needed == capability)).is_empty()
        );
        let names = missing(|capability| capability == Capability::CAP_NET_ADMIN);
        assert_eq!(names.len(), 2);
        assert!(names[0].starts_with("CAP_BPF (") && names[1].starts_with("CAP_PERFMON ("));
    }
}
