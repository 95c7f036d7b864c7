//! Another policy, while the agent runs.
//!
//! ```text
//!   check    what can fail: BBR for a standby path, key, UDP port, tc programs,
//!            a path's index                       a refusal changes nothing
//!   commit   maps, then the new generation: holds from each socket's next
//!            callback on; one pass over the sockets: holds at once, on all;
//!            then the old policy's tasks and devices go, the new one's come
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use mptcp_common::abi::sweep;
use tokio::sync::mpsc;

use super::{Agent, is_unused};
use crate::control::schema::{ErrorCode, PolicyView, Refusal, Then};
use crate::control::settings;
use crate::host::{self, Provided};
use crate::paths::PathTable;
use crate::policy::{Policy, Redundant};
use crate::redundant::{Claim, Key, Received, Service};

/// The policy that comes back by itself.
#[derive(Debug)]
pub(super) struct Revert {
    at: Instant,
    provided: Provided,
}

impl Revert {
    /// When it comes back.
    pub(super) fn due(&self) -> Instant {
        self.at
    }
}

/// All that a new policy takes, had before anything is changed.
struct Prepared {
    table: PathTable,
    /// Indices that go to other paths.
    recycled: Vec<u32>,
    copies: Copies,
}

/// What becomes of the redundant policy's side.
enum Copies {
    /// It is not there, or ends.
    None,
    /// It goes on with these settings.
    Keep(Redundant),
    /// It starts, maybe anew.
    Start(Box<Service>, mpsc::Receiver<Received>),
}

impl Agent {
    /// The policy in force, and what is to come after it.
    pub(super) fn policy_view(&self) -> PolicyView {
        PolicyView {
            policy: settings::of(&self.policy),
            backend: self.policy.backend().to_owned(),
            then: self.revert.as_ref().map(|revert| Then {
                policy: settings::of(&revert.provided.policy),
                in_seconds: (revert.at.saturating_duration_since(Instant::now())).as_secs_f64(),
            }),
        }
    }

    /// Makes `policy` the one in force, on every connection; for `lasting`, if
    /// that is given, after which the last one that was to stay comes back.
    ///
    /// # Errors
    /// It cannot be had here. Nothing has changed.
    pub(super) fn set_policy(
        &mut self,
        provided: Provided,
        lasting: Option<Duration>,
    ) -> Result<PolicyView, Refusal> {
        let stays = match &self.revert {
            Some(pending) => pending.provided.clone(),
            None => Provided {
                policy: self.policy.clone(),
                key: self.key.clone(),
            },
        };
        let start = Instant::now();
        match self.switch(provided) {
            Ok(()) => {
                self.revert = lasting.map(|lasting| Revert {
                    at: start + lasting,
                    provided: stays,
                });
                tracing::info!(
                    policy = %self.policy,
                    lasting = lasting.map(tracing::field::debug),
                    took = ?start.elapsed(),
                    "the policy is another"
                );
                Ok(self.policy_view())
            }
            Err(error) => {
                tracing::warn!("the policy stays {}: {error:#}", self.policy);
                Err(Refusal {
                    code: ErrorCode::Refused,
                    message: format!("{error:#}"),
                })
            }
        }
    }

    /// The time of a temporary policy is over.
    pub(super) fn revert_policy(&mut self) {
        let Some(Revert { provided, .. }) = self.revert.take() else {
            return;
        };
        match self.switch(provided.clone()) {
            Ok(()) => tracing::info!(policy = %self.policy, "the policy is the one before"),
            Err(error) => {
                // What it lacks (a port) may come back.
                const AGAIN: Duration = Duration::from_secs(10);
                tracing::error!(
                    policy = %provided.policy,
                    "the policy before cannot come back yet, and {} stays: {error:#}",
                    self.policy
                );
                self.revert = Some(Revert {
                    at: Instant::now() + AGAIN,
                    provided,
                });
            }
        }
    }

    fn switch(&mut self, provided: Provided) -> Result<()> {
        let prepared = self.prepare(&provided)?;
        let Provided { policy, key } = provided;
        let copies = policy.redundant().is_some() || self.policy.redundant().is_some();
        self.commit(policy, prepared)?;
        self.key = key;
        if copies {
            // Once more, for the segment sizes of sockets that listen.
            self.sweep(sweep::APPLY);
        }
        self.warn_if_missing();
        Ok(())
    }

    fn prepare(&mut self, provided: &Provided) -> Result<Prepared> {
        let policy = &provided.policy;
        let stats = self.kernel.path_stats()?;
        let mut table = self.table.clone();
        let recycled = table
            .set_weights(&policy.weights(), |path| is_unused(&stats, path))
            .map_err(|reason| anyhow!(reason))?;
        let copies = match (policy.redundant(), self.policy.redundant()) {
            // The path of the key file does not matter, its content does.
            (Some(new), Some(old)) if (new.port, &provided.key) == (old.port, &self.key) => {
                Copies::Keep(new.clone())
            }
            (Some(new), _) => self.prepare_copies(new, &provided.key)?,
            (None, _) => Copies::None,
        };
        Ok(Prepared {
            table,
            recycled,
            copies,
        })
    }

    fn prepare_copies(&mut self, settings: &Redundant, key: &Key) -> Result<Copies> {
        // The port that the policy has had so far cannot be bound once more.
        let sockets = self
            .redundant
            .as_ref()
            .filter(|_| self.policy.redundant().map(|old| old.port) == Some(settings.port))
            .map(Service::sockets)
            .transpose()?;
        let sockets = match sockets {
            Some(sockets) => sockets,
            None => host::bind(settings)?,
        };
        let claim = Claim {
            sockets,
            key: key.clone(),
        };
        let fresh = self.redundant.is_none();
        self.kernel.start_redundant()?;
        let traffic = self.kernel.link_traffic();
        let tasks = &mut self.tasks;
        match traffic.and_then(|traffic| Service::start(settings, &claim, traffic, tasks)) {
            Ok((service, datagrams)) => Ok(Copies::Start(Box::new(service), datagrams)),
            Err(error) => {
                if fresh {
                    self.kernel.stop_redundant()?;
                }
                Err(error)
            }
        }
    }

    fn commit(&mut self, policy: Policy, prepared: Prepared) -> Result<()> {
        let Prepared {
            table,
            recycled,
            copies,
        } = prepared;
        for path in recycled {
            self.kernel.forget_path(path)?;
            self.recent.forget(path);
        }
        // First what open connections feel: attaching and detaching takes longer.
        self.kernel
            .publish(&table, policy.mode())
            .context("cannot tell the kernel side")?;
        self.table = table;
        self.policy = policy;
        self.sweep(sweep::APPLY);
        match copies {
            Copies::None => {
                self.redundant = None;
                self.kernel.stop_redundant()?;
            }
            Copies::Keep(settings) => {
                if let Some(service) = &mut self.redundant {
                    service.set(&settings);
                }
            }
            Copies::Start(service, datagrams) => {
                if self.redundant.take().is_some() {
                    // What was found out with another key or port counts no
                    // more.
                    self.kernel.stop_redundant()?;
                    self.kernel.start_redundant()?;
                }
                (self.redundant, self.datagrams) = (Some(*service), datagrams);
            }
        }
        let present = self.links.borrow().clone();
        if let Some(service) = &mut self.redundant {
            service.follow(present, &self.table, &mut self.kernel);
        }
        Ok(())
    }
}
