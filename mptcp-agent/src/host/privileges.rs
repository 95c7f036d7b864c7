//! Checks the capabilities that loading and attaching take.

use anyhow::{Result, bail};
use caps::{CapSet, Capability};

/// The capabilities that the agent needs, and what for.
const NEEDED: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "load eBPF programs and maps"),
    (Capability::CAP_PERFMON, "read kernel structures"),
    (
        Capability::CAP_NET_ADMIN,
        "attach to sockets and set their limits",
    ),
];

/// Checks that this process has them. `CAP_SYS_ADMIN` implies the others, as in
/// the kernel's `bpf_capable`, `perfmon_capable` and `bpf_net_capable`.
///
/// # Errors
/// Some are missing; the error names them.
pub fn check() -> Result<()> {
    let has = |capability| {
        // An error means that this kernel does not know the capability.
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    };
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
