//! Checks what the kernel must have: Multipath TCP, switched on, and its types
//! (BTF).

use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};

/// BTF of the running kernel.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// `net.mptcp.enabled` of the reader's network namespace.
const ENABLED: &str = "/proc/sys/net/mptcp/enabled";

/// Checks that the kernel can be observed.
///
/// # Errors
/// The kernel lacks MPTCP or its types, or MPTCP is switched off.
pub fn check() -> Result<()> {
    check_enabled()?;
    ensure!(
        Path::new(VMLINUX).exists(),
        "{VMLINUX} is not there: the agent needs a kernel built with CONFIG_DEBUG_INFO_BTF (as \
         distributions build theirs) and /sys mounted"
    );
    Ok(())
}

/// Checks that sockets can have MPTCP in this network namespace.
///
/// # Errors
/// The kernel lacks MPTCP, or it is switched off.
pub fn check_enabled() -> Result<()> {
    judge_enabled(fs::read_to_string(ENABLED).ok().as_deref())
}

fn judge_enabled(value: Option<&str>) -> Result<()> {
    match value.map(str::trim) {
        Some("0") => bail!(
            "Multipath TCP is switched off in this network namespace: set net.mptcp.enabled to 1 \
             (sysctl -w net.mptcp.enabled=1)"
        ),
        Some(_) => Ok(()),
        None => bail!(
            "this kernel has no Multipath TCP ({ENABLED} is not there): the agent needs one built \
             with CONFIG_MPTCP=y"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_off_and_absent() {
        assert!(judge_enabled(Some("1\n")).is_ok());
        let message = |value| judge_enabled(value).map_err(|error| error.to_string());
        assert!(message(Some("0\n")).is_err_and(|text| text.contains("net.mptcp.enabled=1")));
        assert!(message(None).is_err_and(|text| text.contains("CONFIG_MPTCP")));
    }
}
