//! What the host must offer, checked before anything is attached.
//!
//! The order is from the cheap and general to what takes hold of something;
//! nothing that is taken outlives the process.

mod cgroup;
mod control;
mod key;
mod mptcp;
mod netns;
mod privileges;
mod standby;

use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Result, anyhow};

pub use netns::own_cookie as netns_cookie;

use crate::cli::RunArgs;
use crate::policy::{self, Policy};
use crate::redundant;

/// Everything that the agent holds of the host.
#[derive(Debug)]
pub struct Host {
    cgroup: OwnedFd,
    namespace: netns::Claim,
    /// Bound to `--listen`, not accepting yet.
    pub listener: TcpListener,
    /// The control socket; none if it cannot be had, which was told.
    pub control: Option<control::Claim>,
    /// Under the redundant policy.
    pub redundant: Option<redundant::Claim>,
}

impl Host {
    /// Checks, and takes what must be taken.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do about it.
    pub fn claim(args: &RunArgs, policy: &Policy) -> Result<Self> {
        if let Some(path) = &args.control {
            control::check(path)?;
        }
        let redundant = policy.redundant();
        let key = match redundant.and_then(|settings| settings.key.as_deref()) {
            Some(path) => key::read(path)?,
            None => Vec::new(),
        };
        privileges::check()?;
        mptcp::check()?;
        if policy.weights().has_standby() {
            standby::check()?;
        }
        let cgroup = cgroup::open(args.cgroup.as_deref())?;
        let namespace = netns::Claim::take()?;
        let listener = TcpListener::bind(args.listen).map_err(|error| {
            anyhow!(
                "cannot listen on {}: {error}; choose another address or port with --listen",
                args.listen
            )
        })?;
        listener.set_nonblocking(true)?;
        let control = match control::Claim::take(args.control.as_deref())? {
            control::Taken::Socket(claim) => Some(claim),
            control::Taken::Without(reason) => {
                tracing::warn!("no control socket, so no policy set, status or events: {reason}");
                None
            }
        };
        let redundant = redundant.map(|settings| claim_port(settings, key));
        Ok(Self {
            cgroup,
            namespace,
            listener,
            control,
            redundant: redundant.transpose()?,
        })
    }

    /// The cgroup2 directory to attach to.
    pub fn cgroup(&self) -> BorrowedFd<'_> {
        self.cgroup.as_fd()
    }

    /// The cookie of this network namespace, as `bpf_get_netns_cookie` gives it.
    pub fn netns_cookie(&self) -> u64 {
        self.namespace.cookie()
    }
}

fn claim_port(settings: &policy::Redundant, key: Vec<u8>) -> Result<redundant::Claim> {
    let sockets = redundant::Sockets::bind(settings.port).map_err(|(address, error)| {
        anyhow!(
            "cannot use UDP port {} ({address}): {error}; choose another with --redundant-port, \
             the same at both ends",
            settings.port
        )
    })?;
    Ok(redundant::Claim { sockets, key })
}
