//! Checks what a path that may be held out needs: BBR, which brings back an idle subflow that was
//! held out (`revive` on the eBPF side tells why).

use std::fs;

use anyhow::{Result, bail};
use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{AddressFamily, SocketType, socket};

/// The congestion controls that sockets of this namespace can be given.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// Checks that a path which was held out can be brought back. Loads the module
/// if it is missing. An error says `what` asks for this, and what the user could
/// do `instead`.
///
/// # Errors
/// The kernel has no BBR: an idle path that was held out would never be used.
pub fn check(what: &str, instead: &str) -> Result<()> {
    if !can_bring_back() {
        bail!(
            "{what} needs the congestion control bbr, by which an idle path is brought back, and \
             this kernel offers none: load the module tcp_bbr, or {instead}"
        );
    }
    Ok(())
}

/// Returns whether a path that was held out can be brought back. Loads the module
/// if it is missing.
pub fn can_bring_back() -> bool {
    if !has_bbr(&available()) {
        // A privileged request loads the module; programs cannot ask for it.
        // Whether it worked shows below.
        let _ = socket(AddressFamily::INET, SocketType::STREAM, None)
            .and_then(|socket| set_tcp_congestion(&socket, "bbr"));
    }
    has_bbr(&available())
}

fn available() -> String {
    fs::read_to_string(AVAILABLE).unwrap_or_default()
}

/// Returns whether a list of congestion controls, as the kernel prints it, has
/// BBR.
pub fn has_bbr(names: &str) -> bool {
    names.split_whitespace().any(|name| name == "bbr")
}

#[cfg(test)]
mod tests {
    use super::has_bbr;

    #[test]
    fn bbr_is_a_word_of_its_own() {
        assert!(has_bbr("reno bbr cubic\n"));
        assert!(!has_bbr("reno bbr2 cubic\n"));
        assert!(!has_bbr(""));
    }
}
