//! Checks what the host must offer, before anything is attached, and takes what
//! the agent holds there. Nothing that is taken outlives the process.

pub mod boot;
mod cgroup;
pub mod file;
mod key;
mod listener;
mod lock;
mod mptcp;
mod namespace;
mod netns;
#[cfg(test)]
pub mod own_namespace;
mod privileges;
pub mod processes;
#[cfg(test)]
pub mod skip;
mod socket_file;
pub mod socket_path;
mod standby;
pub mod store;
pub mod sysctl;
pub mod types;
pub mod zone;

use std::path::PathBuf;

use anyhow::Result;

pub use cgroup::{Cgroup, is_root as is_cgroup_root, mounts as cgroup2_mounts};
pub use key::read as read_key;
pub use listener::{Listener, Socket, open_to_others};
pub use mptcp::check as check_mptcp;
pub use namespace::Namespace;
pub use netns::{Claim as NamespaceClaim, own_cookie as namespace_cookie};
pub use privileges::{give_up as give_up_privileges, may_load as may_load_programs};
pub use socket_file::{
    Claim as SocketClaim, Purpose as SocketPurpose, Taken as SocketTaken,
    check as check_socket_path, make_directories,
};
pub use standby::{can_bring_back, check as check_standby, has_bbr};

/// Removes the control sockets of agents that were killed, and returns their
/// paths.
///
/// # Errors
/// One cannot be removed.
pub fn remove_dead_sockets() -> Result<Vec<PathBuf>> {
    socket_file::remove_dead()
}

/// Checks that this process may load and attach eBPF programs.
///
/// # Errors
/// Names what is missing.
pub fn privileges() -> Result<()> {
    privileges::check()
}
