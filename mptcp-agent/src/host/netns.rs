//! Makes sure that a network namespace has one agent, and tells which namespace
//! this is.
//!
//! Two things show that there is an agent. One is an abstract Unix socket. It
//! is seen in the whole network namespace, from any mount namespace, but
//! everybody may bind its name. So its holder counts only with the rights of an
//! agent. The other is a lock file in /run. Nobody else can take it, but
//! another mount namespace may have another /run. If somebody without rights
//! holds the name, the heartbeat in the BPF file system is watched as well.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::{getsockopt_impl, sockopt_impl};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

use super::lock::{Lock, NoLock};
use super::namespace::Namespace;
use super::socket_file;
use super::socket_path;

sockopt_impl!(
    /// The cookie of the network namespace that a socket is in (Linux 5.14).
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// Abstract names are per network namespace and vanish with their socket,
/// however the process ends.
const NAME: &str = "mptcp-agent";

/// How many processes may ask at once who has the name.
const BACKLOG: i32 = 4096;

/// As long as this lives, this process is the network namespace's agent.
#[derive(Debug)]
pub struct Claim {
    /// Holds the name; `None` if somebody without rights has it.
    _name: Option<UnixListener>,
    /// Holds the name that earlier versions look for. Sockets of another type
    /// have names of their own.
    _earlier: Option<UnixDatagram>,
    /// Holds the lock file; `None` if no such file can be made.
    _lock: Option<Lock>,
    cookie: u64,
}

impl Claim {
    /// Claims the namespace of this thread. `is_beating` says whether an agent's
    /// heartbeat goes on in a namespace.
    ///
    /// # Errors
    /// Another agent has it.
    pub fn take(is_beating: impl Fn(Namespace) -> bool) -> Result<Self> {
        Self::take_with(NAME, socket_path::directory(), is_beating)
    }

    fn take_with(
        name: &str,
        directory: &Path,
        is_beating: impl Fn(Namespace) -> bool,
    ) -> Result<Self> {
        let cookie = own_cookie().context("cannot tell this network namespace's cookie")?;
        let held = match take_name(name)? {
            Name::Taken(listener) => Ok(listener),
            Name::Of(holder) => Err(holder),
        };
        let path = directory.join(format!("netns-{cookie}.lock"));
        let made = socket_file::make_directories(directory);
        let lock = match Lock::take(&path) {
            Ok(lock) => Some(lock),
            Err(NoLock::Held) => bail!(
                "another mptcp-agent runs in this network namespace (it holds the lock {}; \
                 lslocks shows which process that is): stop it first",
                path.display()
            ),
            Err(NoLock::Unavailable(reason)) => {
                let made = made
                    .err()
                    .map(|error| format!("{error}; "))
                    .unwrap_or_default();
                tracing::debug!("no lock file: {made}{reason}");
                None
            }
        };
        let earlier = match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            Err(error) => return Err(error).context("cannot claim this network namespace"),
        };
        let is_certain = held.is_ok() && earlier.is_some();
        if !is_certain && is_beating(Namespace::own(cookie)?) {
            bail!(
                "another mptcp-agent runs in this network namespace (its heartbeat goes on): stop \
                 it first"
            );
        }
        if let Err(holder) = &held {
            tracing::warn!(
                "the abstract unix socket @{name}, by which agents of a network namespace find \
                 out about each other, is taken by {holder}, which is no agent: going on without it"
            );
        }
        Ok(Self {
            _name: held.ok(),
            _earlier: earlier,
            _lock: lock,
            cookie,
        })
    }

    /// Returns the namespace's cookie, which is unique as long as the host is
    /// up.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}

/// The holder of the abstract name.
enum Name {
    /// This process has it now.
    Taken(UnixListener),
    /// Somebody else has it, who does not seem to be an agent. Says who.
    Of(String),
}

/// Takes the abstract name.
///
/// # Errors
/// An agent has it.
fn take_name(name: &str) -> Result<Name> {
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = match UnixListener::bind_addr(&address) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse => return holder(name).map(Name::Of),
        Err(error) => return Err(error).context("cannot claim this network namespace"),
    };
    // No connection is ever accepted. Connecting alone tells a process whose
    // socket this is.
    rustix::net::listen(&listener, BACKLOG).context("cannot claim this network namespace")?;
    Ok(Name::Taken(listener))
}

/// Returns who has the name, if the holder does not seem to be an agent.
///
/// # Errors
/// The holder has the rights of an agent.
fn holder(name: &str) -> Result<String> {
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    if let Err(error) = connect(&socket, &address) {
        return Ok(format!("a process that does not answer ({error})"));
    }
    let peer = getsockopt(&socket, PeerCredentials).context("cannot tell who has the name")?;
    // The process id is 0 if the PID namespace of this process does not show
    // the holder.
    let (user, process) = (peer.uid(), peer.pid());
    if user == 0 || user == geteuid().as_raw() || may_be_an_agent(process) {
        bail!(
            "another mptcp-agent runs in this network namespace (process {process}, user {user}, \
             has the abstract unix socket @{name}): stop it first"
        );
    }
    Ok(format!("process {process} of user {user}"))
}

/// Returns whether a process is in the user namespace of this one, and has the
/// capability there that an agent needs all the time.
fn may_be_an_agent(process: i32) -> bool {
    let user_namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let own = user_namespace("self");
    if own.is_none() || own != user_namespace(&process.to_string()) {
        return false;
    }
    let has =
        |capability| caps::has_cap(Some(process), CapSet::Effective, capability).unwrap_or(false);
    has(Capability::CAP_NET_ADMIN)
}

/// Returns the cookie of this thread's network namespace.
///
/// # Errors
/// The kernel does not tell.
pub fn own_cookie() -> io::Result<u64> {
    Ok(getsockopt(&UnixDatagram::unbound()?, NetnsCookie)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Says that no heartbeat goes on.
    fn nobody(_: Namespace) -> bool {
        false
    }

    #[test]
    fn the_second_claim_fails_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("mptcp-agent-test-{}", std::process::id());
        let first = Claim::take_with(&name, dir.path(), nobody).unwrap();
        assert_ne!(first.cookie(), 0);
        assert_eq!(own_cookie().unwrap(), first.cookie());
        let refused = |name: &str, dir: &Path| {
            let error = Claim::take_with(name, dir, nobody).unwrap_err().to_string();
            assert!(error.contains("another mptcp-agent runs"), "{error}");
        };
        refused(&name, dir.path());
        // Either of the two alone is enough to refuse.
        let elsewhere = tempfile::tempdir().unwrap();
        refused(&name, elsewhere.path());
        refused(&format!("{name}-other"), dir.path());
        drop(first);
        Claim::take_with(&name, dir.path(), nobody).unwrap();
    }

    #[test]
    fn where_no_lock_file_can_be_made_the_name_does() {
        let name = format!("mptcp-agent-test-none-{}", std::process::id());
        let file = tempfile::NamedTempFile::new().unwrap();
        let first = Claim::take_with(&name, file.path(), nobody).unwrap();
        Claim::take_with(&name, file.path(), nobody).unwrap_err();
        drop(first);
    }

    #[test]
    fn names_without_a_listener_are_no_agents() {
        let name = format!("mptcp-agent-test-squat-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _datagrams = UnixDatagram::bind_addr(&address).unwrap();
        let stream = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        rustix::net::bind(&stream, &address).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let claim = Claim::take_with(&name, dir.path(), nobody).unwrap();
        Claim::take_with(&name, dir.path(), nobody).unwrap_err();
        drop(claim);
    }
}
