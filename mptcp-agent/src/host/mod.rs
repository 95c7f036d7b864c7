//! What the host must offer, checked before anything is attached.
//!
//! The order is from the cheap and general to what takes hold of something;
//! nothing that is taken outlives the process.

mod cgroup;
mod control;
mod key;
mod lock;
mod mptcp;
mod namespace;
mod netns;
mod privileges;
mod standby;

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

pub use cgroup::{Cgroup, is_root as is_cgroup_root};
pub use namespace::Namespace;
pub use netns::Claim as NamespaceClaim;
pub use netns::own_cookie as netns_cookie;

use crate::cli::RunArgs;
use crate::client;
use crate::policy::{self, Policy};
use crate::redundant::{self, Key};

/// Everything that the agent holds of the host.
#[derive(Debug)]
pub struct Host {
    /// The cgroup2 directory to attach to.
    pub cgroup: Cgroup,
    /// Bound to `--listen`, not accepting yet.
    pub listener: TcpListener,
    /// The control socket; none if it cannot be had, which was told.
    pub control: Option<control::Claim>,
    /// The policy to begin with.
    pub provided: Provided,
    /// The sockets of the redundant policy, if that is the policy.
    pub sockets: Option<redundant::Sockets>,
    /// Last: who takes over finds all the rest free.
    namespace: netns::Claim,
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
        privileges::check()?;
        mptcp::check()?;
        let provided = provide(policy.clone())?;
        let cgroup = Cgroup::open(args.cgroup.as_deref())?;
        if let Some(warning) = cgroup.warning() {
            tracing::warn!("{warning}");
        }
        let namespace = if args.take_over {
            take_over(args)?
        } else {
            netns::Claim::take()?
        };
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
        let sockets = policy.redundant().map(bind).transpose()?;
        Ok(Self {
            cgroup,
            listener,
            control,
            provided,
            sockets,
            namespace,
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

/// Takes the namespace from the agent that has it, if one does.
fn take_over(args: &RunArgs) -> Result<netns::Claim> {
    /// How long that one may take to end.
    const PATIENCE: Duration = Duration::from_secs(5);
    let handed_over = client::hand_over(args.control.as_deref())
        .context("cannot take over from the agent that runs")?;
    if !handed_over {
        tracing::info!("--take-over: no agent runs here, so this is an ordinary start");
        return netns::Claim::take();
    }
    let start = Instant::now();
    loop {
        match netns::Claim::take() {
            Err(_) if start.elapsed() < PATIENCE => sleep(Duration::from_millis(5)),
            claim => return claim,
        }
    }
}

/// Removes the control sockets of agents that were killed, and says which.
///
/// # Errors
/// One cannot be removed.
pub fn remove_dead_sockets() -> Result<Vec<PathBuf>> {
    control::remove_dead()
}

/// Whether this process may load and attach.
///
/// # Errors
/// Names what is missing.
pub fn privileges() -> Result<()> {
    privileges::check()
}

/// A policy, and what it needs of the host that can take long to get.
#[derive(Clone, Debug)]
pub struct Provided {
    /// The policy.
    pub policy: Policy,
    /// The content of its key file, as it was when the policy was asked for.
    pub key: Key,
}

/// Gets what `policy` needs. Waits for file systems, and for the kernel to load
/// a module, so the agent's loop never calls it.
///
/// # Errors
/// The host has no BBR for a standby path, or the key cannot be read: one line.
pub fn provide(policy: Policy) -> Result<Provided> {
    let key = policy
        .redundant()
        .and_then(|settings| settings.key.as_deref());
    let key = key.map(key::read).transpose()?.unwrap_or_default();
    if policy.weights().has_standby() {
        standby::check()?;
    }
    Ok(Provided { policy, key })
}

/// Binds the UDP port of the redundant policy.
///
/// # Errors
/// The port is not to be had: one line.
pub fn bind(settings: &policy::Redundant) -> Result<redundant::Sockets> {
    redundant::Sockets::bind(settings.port).map_err(|(address, error)| {
        anyhow!(
            "cannot use UDP port {} ({address}): {error}; choose another with --redundant-port, \
             the same at both ends",
            settings.port
        )
    })
}
