//! Checks that the kernel has Multipath TCP, switched on.

use std::fs;

use anyhow::{Result, bail};

/// `net.mptcp.enabled` of the reader's network namespace.
const ENABLED: &str = "/proc/sys/net/mptcp/enabled";

/// Checks that sockets can have MPTCP in this network namespace.
///
/// # Errors
/// The kernel lacks MPTCP, or it is switched off.
pub fn check() -> Result<()> {
    check_enabled(fs::read_to_string(ENABLED).ok().as_deref())
}

fn check_enabled(value: Option<&str>) -> Result<()> {
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
        assert!(check_enabled(Some("1\n")).is_ok());
        let message = |value| check_enabled(value).map_err(|error| error.to_string());
        assert!(message(Some("0\n")).is_err_and(|text| text.contains("net.mptcp.enabled=1")));
        assert!(message(None).is_err_and(|text| text.contains("CONFIG_MPTCP")));
    }
}
