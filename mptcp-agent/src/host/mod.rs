//! What the host must offer, checked before anything is attached.
//!
//! The order is from the cheap and general to what takes hold of something;
//! nothing that is taken outlives the process.

mod cgroup;
mod control;
mod key;
mod mptcp;
mod namespace;
mod netns;
mod privileges;
mod standby;

use std::net::TcpListener;

use anyhow::{Result, anyhow};

pub use cgroup::Cgroup;
pub use namespace::Namespace;
pub use netns::Claim as NamespaceClaim;

use crate::cli::RunArgs;
use crate::policy::{self, Policy};
use crate::redundant;

/// Everything that the agent holds of the host.
#[derive(Debug)]
pub struct Host {
    /// The cgroup2 directory to attach to.
    pub cgroup: Cgroup,
    namespace: netns::Claim,
    /// Bound to `--listen`, not accepting yet.
    pub listener: TcpListener,
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
        let key = redundant.map(read_key).transpose()?;
        privileges::check()?;
        mptcp::check()?;
        if policy.weights().has_standby() {
            standby::check()?;
        }
        let cgroup = Cgroup::open(args.cgroup.as_deref())?;
        let namespace = netns::Claim::take()?;
        let listener = TcpListener::bind(args.listen).map_err(|error| {
            anyhow!(
                "cannot listen on {}: {error}; choose another address or port with --listen",
                args.listen
            )
        })?;
        listener.set_nonblocking(true)?;
        let redundant = match redundant.zip(key) {
            Some((settings, key)) => Some(redundant::Claim {
                sockets: bind(settings)?,
                key,
            }),
            None => None,
        };
        Ok(Self {
            cgroup,
            namespace,
            listener,
            redundant,
        })
    }

    /// This network namespace.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn namespace(&self) -> Result<Namespace> {
        Namespace::own(self.namespace.cookie())
    }
}

/// Whether this process may load and attach.
///
/// # Errors
/// Names what is missing.
pub fn privileges() -> Result<()> {
    privileges::check()
}

/// Whether standby paths can be had.
///
/// # Errors
/// They cannot: one line.
pub fn standby() -> Result<()> {
    standby::check()
}

/// What the redundant policy takes of the host, on `sockets` if there are some
/// already.
///
/// # Errors
/// The key cannot be read, or the port is not to be had: one line.
pub fn redundant(
    settings: &policy::Redundant,
    sockets: Option<redundant::Sockets>,
) -> Result<redundant::Claim> {
    let key = read_key(settings)?;
    let sockets = match sockets {
        Some(sockets) => sockets,
        None => bind(settings)?,
    };
    Ok(redundant::Claim { sockets, key })
}

fn read_key(settings: &policy::Redundant) -> Result<Vec<u8>> {
    settings.key.as_deref().map_or(Ok(Vec::new()), key::read)
}

fn bind(settings: &policy::Redundant) -> Result<redundant::Sockets> {
    redundant::Sockets::bind(settings.port).map_err(|(address, error)| {
        anyhow!(
            "cannot use UDP port {} ({address}): {error}; choose another with --redundant-port, \
             the same at both ends",
            settings.port
        )
    })
}
