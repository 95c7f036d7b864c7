//! The place of the control socket, for the agent and for those who look for
//! it.
//!
//! Network namespaces share `/run` as a rule, and each may have an agent. So
//! the socket in the namespace of the first process has the plain name, and in
//! every other one a name of its own. A command finds the agent of the
//! namespace that it runs in.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::netns;

/// The socket of the agent in the first process's network namespace.
pub const MAIN: &str = "/run/mptcp-agent/control.sock";

/// The most bytes of a socket's path: `sun_path`, less its terminating zero.
pub const LONGEST: usize = 107;

/// Returns the directory of [`MAIN`], where the sockets and locks of every
/// namespace's agent are by default.
pub fn directory() -> &'static Path {
    Path::new(MAIN).parent().unwrap_or(Path::new("/"))
}

/// Returns where the socket of this network namespace's agent is by default.
pub fn default_path() -> PathBuf {
    let own = || netns::own_cookie().ok().map(own_path);
    choose(is_main(), own, Path::exists)
}

/// Returns whether this is the first process's network namespace; `None` if that
/// cannot be told, as without privileges.
pub fn is_main() -> Option<bool> {
    let identity = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    // A sandbox may hide the first process, but not kthreadd (process 2), which
    // is in the same namespace.
    let first = identity("1").or_else(|| identity("2"));
    identity("self").zip(first).map(|(own, first)| own == first)
}

fn own_path(cookie: u64) -> PathBuf {
    Path::new(MAIN).with_file_name(format!("netns-{cookie}.sock"))
}

/// Chooses between the namespace's own path and the plain one. `same` says
/// whether this is the first process's namespace, or `None` if that cannot be
/// told, as without privileges. Then the own path counts if a socket is there,
/// because the first namespace has none by that name.
fn choose(
    same: Option<bool>,
    own: impl FnOnce() -> Option<PathBuf>,
    exists: impl FnOnce(&Path) -> bool,
) -> PathBuf {
    let own = match same {
        Some(true) => None,
        Some(false) => own(),
        None => own().filter(|path| exists(path)),
    };
    own.unwrap_or_else(|| MAIN.into())
}

/// Connects without waiting for a place in the listener's queue, which a
/// listener that hangs would never give; fails with `WouldBlock` instead. The
/// stream itself does block.
///
/// # Errors
/// Those of `connect`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Returns whether a socket can have this path.
pub fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= LONGEST
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn each_namespace_has_its_own_path() {
        let own = || Some(own_path(4097));
        let netns = Path::new("/run/mptcp-agent/netns-4097.sock");
        let main = Path::new(MAIN);
        assert_eq!(choose(Some(true), own, |_| true), main);
        assert_eq!(choose(Some(false), own, |_| false), netns);
        assert_eq!(choose(None, own, |_| false), main);
        assert_eq!(choose(None, own, |path| path == netns), netns);
        assert_eq!(choose(Some(false), || None, |_| true), main);
    }

    #[test]
    fn a_full_queue_does_not_hold_the_caller_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let kind = |path: &Path| connect(path).map(drop).map_err(|error| error.kind());
        assert_eq!(kind(&path), Err(io::ErrorKind::NotFound));
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut held = Vec::new();
        let full = loop {
            match connect(&path) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 100, "the queue has no end");
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(kind(&path), Err(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn the_longest_path_is_a_socket_address() {
        let path = |length: usize| PathBuf::from(format!("/{}", "x".repeat(length - 1)));
        assert!(fits(&path(LONGEST)) && SocketAddrUnix::new(path(LONGEST)).is_ok());
        assert!(!fits(&path(LONGEST + 1)));
    }
}
