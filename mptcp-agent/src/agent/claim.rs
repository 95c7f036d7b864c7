//! Checks the host and takes what the agent holds of it, before the agent
//! starts.
//!
//! The cheap and general checks come first, then the steps that take something.
//! Nothing that is taken outlives the process.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::together::{channel, check_copying, copying};
use crate::cli::RunArgs;
use crate::host::{
    self, Cgroup, Listener, Namespace, NamespaceClaim, SocketClaim, SocketPurpose, SocketTaken,
};
use crate::manage::Manager;
use crate::peering::{self, Peering};
use crate::policy::{self, Policy, Provided, Redundant};
use crate::rules::{self, Rules};
use crate::web::Web;
use crate::{client, kernel, redundancy};

/// Everything that the agent holds of the host.
#[derive(Debug)]
pub(super) struct Host {
    /// The cgroup2 directory to attach to.
    pub cgroup: Cgroup,
    /// Bound to each place of `--listen`, not accepting yet.
    pub listeners: Vec<Listener>,
    /// TLS and passwords of HTTP, until the task that follows their file starts.
    pub web: Option<Web>,
    /// The control socket; `None` if it cannot be had, which was logged.
    pub control: Option<SocketClaim>,
    /// The policy to begin with.
    pub provided: Provided,
    /// The rules to begin with.
    pub rules: rules::Provided,
    /// The settings of `--ask-peer` and `--accept-peer-policy`, if either is in use.
    pub peering: Option<Peering>,
    /// The sockets of the redundant policy, if a policy copies, or if agents ask
    /// each other for something.
    pub sockets: Option<redundancy::Sockets>,
    /// The manager of endpoints and routes, until its task starts.
    pub manager: Option<Manager>,
    /// The last field, so that it is dropped last: an agent that takes over
    /// then finds everything else free.
    namespace: NamespaceClaim,
}

impl Host {
    /// Checks the host, and takes what the agent needs.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do about it.
    pub fn claim(
        args: &RunArgs,
        policy: &Policy,
        rules: &Rules,
        peering: Option<peering::Settings>,
    ) -> Result<Self> {
        if let Some(path) = &args.control {
            host::check_socket_path(SocketPurpose::Control, path)?;
        }
        if let Some(directory) = &args.state_dir {
            host::store::check(directory)?;
        }
        host::privileges()?;
        host::check_mptcp()?;
        host::types::check(args.btf.as_deref())?;
        let web = Web::read(args.web_config_file.as_deref())?;
        let managed = args.manage.settings();
        Manager::check(&managed)?;
        let provided = policy::provide(policy.clone())?;
        let rules = rules::provide(rules.clone())?;
        let peering = peering.map(peering::provide).transpose()?;
        check_copying(&provided, &rules, peering.as_ref())?;
        let cgroup = Cgroup::open(args.cgroup.as_deref())?;
        if let Some(warning) = cgroup.warning() {
            tracing::warn!("{warning}");
        }
        let namespace = if args.take_over {
            take_over(args)?
        } else {
            NamespaceClaim::take(kernel::is_beating)?
        };
        let listeners = Listener::take_all(&args.listen)?;
        let control = match SocketClaim::take(args.control.as_deref())? {
            SocketTaken::Socket(claim) => Some(claim),
            SocketTaken::Without(reason) => {
                tracing::warn!("no control socket, so no policy set, status or events: {reason}");
                None
            }
        };
        let channel = channel(copying(policy, &provided.key, &rules), peering.as_ref());
        let sockets = channel.map(|(settings, _, _)| bind(settings)).transpose()?;
        let manager = Some(Manager::claim(managed, namespace.cookie())?);
        if !web.guards()
            && let Some(warning) = host::open_to_others(&args.listen)
        {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            cgroup,
            listeners,
            web: Some(web),
            control,
            provided,
            rules,
            peering,
            sockets,
            manager,
            namespace,
        })
    }

    /// Returns this network namespace.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn namespace(&self) -> Result<Namespace> {
        Namespace::own(self.namespace.cookie())
    }
}

/// Takes the namespace over from the agent that has it, if there is one.
fn take_over(args: &RunArgs) -> Result<NamespaceClaim> {
    /// How long the other agent may take to end.
    const PATIENCE: Duration = Duration::from_secs(5);
    let handed_over = client::hand_over(args.control.as_deref())
        .context("cannot take over from the agent that runs")?;
    if !handed_over {
        tracing::info!("--take-over: no agent runs here, so this is an ordinary start");
        return NamespaceClaim::take(kernel::is_beating);
    }
    let start = Instant::now();
    loop {
        match NamespaceClaim::take(kernel::is_beating) {
            Err(_) if start.elapsed() < PATIENCE => sleep(Duration::from_millis(5)),
            claim => return claim,
        }
    }
}

/// Binds the UDP port of the redundant policy.
///
/// # Errors
/// The port cannot be had; the error is one line.
pub(super) fn bind(settings: &Redundant) -> Result<redundancy::Sockets> {
    redundancy::Sockets::bind(settings.port).map_err(|(address, error)| {
        anyhow!(
            "cannot use UDP port {} ({address}): {error}; choose another with --redundant-port, \
             the same at both ends",
            settings.port
        )
    })
}
