//! Decides which clients may use the control socket, by the credentials that
//! the kernel reports. The mode of the socket's file keeps most others out
//! earlier.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use tokio::net::UnixStream;

/// Number of groups that the first query has room for.
const GROUPS: usize = 64;

/// The users and groups that may use the socket.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    agent: libc::uid_t,
    group: Option<libc::gid_t>,
}

/// The credentials of a client, as of its `connect`.
#[derive(Clone, Debug)]
pub struct Peer {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

/// The requests that a client may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// No requests.
    None,
    /// All requests, but not to take the agent's place or to name files for the
    /// agent to open.
    Use,
    /// All requests.
    All,
}

impl Access {
    /// Allows root, the agent's own user, and members of `group`.
    pub fn new(group: Option<libc::gid_t>) -> Self {
        Self {
            agent: rustix::process::geteuid().as_raw(),
            group,
        }
    }

    /// Returns the rights of a client. Pure.
    pub fn rights(self, peer: &Peer) -> Rights {
        if peer.uid == 0 || peer.uid == self.agent {
            return Rights::All;
        }
        match self.group {
            Some(group) if peer.gid == group || peer.groups.contains(&group) => Rights::Use,
            _ => Rights::None,
        }
    }
}

impl Peer {
    /// Asks the kernel for the credentials of the client.
    ///
    /// # Errors
    /// The kernel does not report them.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            groups: groups(stream)?,
        })
    }
}

/// Returns the supplementary groups, by `SO_PEERGROUPS` (Linux 4.13).
fn groups(stream: &impl AsFd) -> io::Result<Vec<libc::gid_t>> {
    let socket = stream.as_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut len = room as libc::socklen_t;
        // SAFETY: the descriptor is open as long as it is borrowed. The
        // pointers lead to the local `len`, and to a buffer of as many bytes as
        // it says.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let needed = len as usize;
        if result == 0 {
            groups.truncate(needed / size_of::<libc::gid_t>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // There was too little room. `len` now says how much is needed.
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= room {
            return Err(error);
        }
        groups.resize(needed / size_of::<libc::gid_t>(), 0);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer {
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn root_the_agents_user_and_the_group() {
        let access = |group| Access { agent: 500, group };
        for (peer, group, expected) in [
            (peer(0, 0, &[]), None, Rights::All),
            (peer(500, 500, &[]), None, Rights::All),
            (peer(1000, 1000, &[4, 27]), None, Rights::None),
            (peer(1000, 1000, &[4, 27]), Some(99), Rights::None),
            (peer(1000, 1000, &[4, 99]), Some(99), Rights::Use),
            (peer(1000, 99, &[]), Some(99), Rights::Use),
            (peer(0, 99, &[99]), Some(99), Rights::All),
            // Membership in the agent's group does not make one its user.
            (peer(1000, 500, &[500]), None, Rights::None),
            // Membership in root's group does not make one root.
            (peer(1000, 0, &[0]), Some(99), Rights::None),
        ] {
            assert_eq!(access(group).rights(&peer), expected, "{peer:?} {group:?}");
        }
    }

    #[tokio::test]
    async fn the_kernel_vouches_for_the_peer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        let own = nix::unistd::getgroups().unwrap();
        let own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer.groups, own);
        assert_eq!(Access::new(None).rights(&peer), Rights::All);
    }
}
