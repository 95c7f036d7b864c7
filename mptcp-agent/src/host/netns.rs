//! One agent a network namespace, and which namespace this is.

use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context as _, Result, bail};

/// Abstract names are per network namespace and vanish with their socket,
/// however the process ends.
const NAME: &str = "mptcp-agent";

/// This process is the network namespace's agent as long as this lives.
#[derive(Debug)]
pub struct Claim {
    /// Holds the name.
    _socket: UnixDatagram,
    cookie: u64,
}

impl Claim {
    /// Claims the namespace of this thread.
    ///
    /// # Errors
    /// Another process has the name.
    pub fn take() -> Result<Self> {
        Self::take_named(NAME)
    }

    fn take_named(name: &str) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(name)?;
        let socket = match UnixDatagram::bind_addr(&address) {
            Ok(socket) => socket,
            Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
                "another mptcp-agent runs in this network namespace (the abstract unix socket \
                 @{name} is taken; ss -xap shows by whom): stop it first"
            ),
            Err(error) => return Err(error).context("cannot claim this network namespace"),
        };
        let cookie =
            cookie(socket.as_fd()).context("cannot tell this network namespace's cookie")?;
        Ok(Self {
            _socket: socket,
            cookie,
        })
    }

    /// The namespace's cookie, unique as long as the host is up.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}

/// The cookie of this thread's network namespace.
///
/// # Errors
/// The kernel does not tell.
pub fn own_cookie() -> std::io::Result<u64> {
    cookie(UnixDatagram::unbound()?.as_fd())
}

/// `SO_NETNS_COOKIE` (Linux 5.14) of any socket.
fn cookie(socket: BorrowedFd<'_>) -> std::io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed, and both
    // pointers lead to locals of the size that `len` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_second_claim_fails_until_the_first_is_gone() {
        let name = format!("mptcp-agent-test-{}", std::process::id());
        let first = Claim::take_named(&name).unwrap();
        assert_ne!(first.cookie(), 0);
        assert_eq!(own_cookie().unwrap(), first.cookie());
        let error = Claim::take_named(&name).unwrap_err().to_string();
        assert!(error.contains("another mptcp-agent"), "{error}");
        drop(first);
        Claim::take_named(&name).unwrap();
    }
}
