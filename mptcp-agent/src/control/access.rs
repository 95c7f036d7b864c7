//! Who may use the control socket, by the credentials that the kernel vouches
//! for. The file's mode keeps most others out before that.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use tokio::net::UnixStream;

/// Groups that a peer is first expected to have at most.
const GROUPS: usize = 64;

/// Whom the agent listens to.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    agent: libc::uid_t,
    group: Option<libc::gid_t>,
}

/// Who is at the other end, as of its `connect`.
#[derive(Clone, Debug)]
pub struct Peer {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing.
    None,
    /// All but take the agent's place and name files for it to open.
    Use,
    /// Everything.
    All,
}

impl Access {
    /// Root, the agent's own user, and members of `group`.
    pub fn new(group: Option<libc::gid_t>) -> Self {
        Self {
            agent: rustix::process::geteuid().as_raw(),
            group,
        }
    }

    /// Decides. Pure.
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
    /// Asks the kernel.
    ///
    /// # Errors
    /// It does not say.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            groups: groups(stream)?,
        })
    }
}

/// `SO_PEERGROUPS` (Linux 4.13): supplementary groups.
fn groups(stream: &impl AsFd) -> io::Result<Vec<libc::gid_t>> {
    let socket = stream.as_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut len = room as libc::socklen_t;
        // SAFETY: the descriptor is open as long as it is borrowed, and the
        // pointers lead to a local and to as many bytes as it says.
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
        // Too little room: now `len` says how much it takes.
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
            // The agent's group is not its user.
            (peer(1000, 500, &[500]), None, Rights::None),
            // Nor is root's group root.
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
