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
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

pub use cgroup::Cgroup;
pub use namespace::Namespace;
pub use netns::Claim as NamespaceClaim;
pub use netns::own_cookie as netns_cookie;

use crate::cli::RunArgs;
use crate::client;
use crate::policy::{self, Policy};
use crate::redundant;

/// Everything that the agent holds of the host.
#[derive(Debug)]
pub struct Host {
    /// The cgroup2 directory to attach to.
    pub cgroup: Cgroup,
    /// Bound to `--listen`, not accepting yet.
    pub listener: TcpListener,
    /// The control socket; none if it cannot be had, which was told.
    pub control: Option<control::Claim>,
    /// Under the redundant policy.
    pub redundant: Option<redundant::Claim>,
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
        let redundant = policy.redundant();
        let key = redundant.map(read_key).transpose()?;
        privileges::check()?;
        mptcp::check()?;
        if policy.weights().has_standby() {
            standby::check()?;
        }
        let cgroup = Cgroup::open(args.cgroup.as_deref())?;
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
        let redundant = match redundant.zip(key) {
            Some((settings, key)) => Some(redundant::Claim {
                sockets: bind(settings)?,
                key,
            }),
            None => None,
        };
        Ok(Self {
            cgroup,
            listener,
            control,
            redundant,
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
