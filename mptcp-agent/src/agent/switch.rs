//! Changes the policy while the agent runs.
//!
//! ```text
//!   prepare  gets what may fail: BBR for a standby path and the key (by `host`,
//!            ahead of the loop), UDP port, tc programs, a path's index
//!                                                a refusal changes nothing
//!   commit   writes the maps, then the new generation, which holds from each
//!            socket's next callback on; passes once over the sockets, so that
//!            it holds at once on all; then ends the old policy's tasks and
//!            devices, and starts the new one's
//!                                                a failure is reported with the
//!                                                policy that is in force then
//! ```

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use mptcp_api::schema::{PolicyView, Refusal};
use mptcp_common::abi::sweep;
use tokio::sync::mpsc;

use super::change::{self, Failed, Programs, Refused, Wanted};
use super::claim;
use super::{Agent, is_unused};
use crate::api::control::view;
use crate::policy::{Key, Provided, Redundant};
use crate::redundancy::{Claim, Received, Service};
use crate::state::snapshot::InForce;

/// The policy that comes back by itself after a temporary one.
#[derive(Debug)]
pub(super) struct Revert {
    at: Instant,
    provided: Provided,
}

impl Revert {
    /// Returns when the policy comes back.
    pub(super) fn due(&self) -> Instant {
        self.at
    }
}

/// Everything that a new policy needs, obtained before anything is changed.
struct Prepared {
    provided: Provided,
    wanted: Wanted,
    copies: Copies,
}

/// The redundant policy's side in user space.
enum Copies {
    /// It is not there, or it ends.
    None,
    /// It goes on with these settings.
    Keep(Redundant),
    /// It starts, maybe anew.
    Start(Box<Service>, mpsc::Receiver<Received>),
}

/// Why a policy was not set, or not in full.
enum Failure {
    /// It was refused before anything was changed.
    Refused(Refused),
    /// It failed after something had been changed.
    Failed(Failed),
}

impl Agent {
    /// Returns the policy in force, and the one that replaces it by itself, if
    /// any.
    pub(super) fn in_force(&self) -> InForce {
        let now = Instant::now();
        let after = |at: Instant| at.saturating_duration_since(now);
        InForce {
            policy: self.policy.clone(),
            then: (self.revert.as_ref())
                .map(|revert| (revert.provided.policy.clone(), after(revert.at))),
        }
    }

    /// Returns the same, as clients see it.
    pub(super) fn policy_view(&self) -> PolicyView {
        view::policy(&self.in_force())
    }

    /// Puts `provided` in force on every connection. If `lasting` is given, the
    /// last policy that was set without a time limit comes back after that
    /// time.
    ///
    /// # Errors
    /// The policy cannot be used here, and nothing has changed; or the change
    /// has failed, and the message says which policy is in force.
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
        let done = self.switch(provided);
        let in_force = match &done {
            Ok(()) => true,
            Err(Failure::Failed(failed)) => failed.is_in_force(),
            Err(Failure::Refused(_)) => false,
        };
        if in_force {
            self.revert = lasting.map(|lasting| Revert {
                at: start + lasting,
                provided: stays,
            });
        }
        match done {
            Ok(()) => {
                tracing::info!(
                    policy = %self.policy,
                    lasting = lasting.map(tracing::field::debug),
                    took = ?start.elapsed(),
                    "policy changed"
                );
                Ok(self.policy_view())
            }
            Err(Failure::Refused(refused)) => {
                let refusal = Refusal::from(refused);
                tracing::warn!("the policy stays {}: {}", self.policy, refusal.message);
                Err(refusal)
            }
            Err(Failure::Failed(failed)) => {
                let refusal = failed.refusal(&self.policy);
                tracing::error!("a change of policy failed: {}", refusal.message);
                Err(refusal)
            }
        }
    }

    /// Brings back the policy that was in force before a temporary one.
    pub(super) fn revert_policy(&mut self) {
        let Some(Revert { provided, .. }) = self.revert.take() else {
            return;
        };
        let why = match self.switch(provided.clone()) {
            Ok(()) => {
                let policy = &self.policy;
                tracing::info!(%policy, "temporary policy expired, previous policy restored");
                return;
            }
            Err(Failure::Failed(failed)) if failed.is_in_force() => {
                tracing::error!("{}", failed.refusal(&self.policy).message);
                return;
            }
            Err(Failure::Failed(failed)) => failed.refusal(&self.policy).message,
            Err(Failure::Refused(Refused(error))) => format!("{error:#}"),
        };
        // The policy lacks something that may become available, such as a port.
        const AGAIN: Duration = Duration::from_secs(10);
        tracing::error!(
            policy = %provided.policy,
            "the policy before cannot come back yet, and {} stays: {why}",
            self.policy
        );
        self.revert = Some(Revert {
            at: Instant::now() + AGAIN,
            provided,
        });
    }

    fn switch(&mut self, provided: Provided) -> Result<(), Failure> {
        let copies = provided.policy.copies().is_some() || self.policy.copies().is_some();
        let prepared = self.prepare(provided);
        let prepared = prepared.map_err(|error| Failure::Refused(Refused(error)))?;
        let done = self.commit(prepared);
        if copies {
            // Sweep once more, to adjust the segment sizes of listening
            // sockets.
            self.sweep(sweep::APPLY);
        }
        self.warn_if_missing();
        done.map_err(Failure::Failed)
    }

    /// Gets everything that the policy needs. Changes nothing.
    fn prepare(&self, provided: Provided) -> Result<Prepared> {
        let policy = &provided.policy;
        let stats = self.kernel.path_stats()?;
        let mut table = self.table.clone();
        let recycled = table
            .set_weights(&policy.weights(), |path| is_unused(&stats, path))
            .map_err(|reason| anyhow!(reason))?;
        let (copies, programs) = match (policy.copies(), self.policy.copies()) {
            // The content of the key file matters, not its path.
            (Some(new), Some(old))
                if (new.port, &provided.key) == (old.port, &self.key)
                    && self.redundant.is_some() =>
            {
                (Copies::Keep(new.clone()), Programs::Keep)
            }
            (Some(new), _) => {
                let programs = match self.redundant {
                    Some(_) => Programs::Restart,
                    None => Programs::Start,
                };
                (self.prepare_copies(new, &provided.key)?, programs)
            }
            (None, _) => (Copies::None, Programs::Stop),
        };
        Ok(Prepared {
            wanted: Wanted {
                table,
                capabilities: policy.capabilities(),
                recycled,
                programs,
            },
            provided,
            copies,
        })
    }

    fn prepare_copies(&self, settings: &Redundant, key: &Key) -> Result<Copies> {
        self.kernel.can_copy()?;
        // A port that the present policy uses cannot be bound again, so its
        // sockets are shared.
        let sockets = self
            .redundant
            .as_ref()
            .filter(|_| self.policy.copies().map(|old| old.port) == Some(settings.port))
            .map(Service::sockets)
            .transpose()?;
        let sockets = match sockets {
            Some(sockets) => sockets,
            None => claim::bind(settings)?,
        };
        let claim = Claim {
            sockets,
            key: key.clone(),
        };
        let traffic = self.kernel.link_traffic()?;
        let (service, datagrams) = Service::new(settings, &claim, traffic)?;
        Ok(Copies::Start(Box::new(service), datagrams))
    }

    fn commit(&mut self, prepared: Prepared) -> Result<(), Failed> {
        let Prepared {
            provided,
            wanted,
            copies,
        } = prepared;
        let recycled = wanted.recycled.clone();
        let programs = match change::put_in_force(&mut self.kernel, &mut self.table, wanted) {
            Ok(programs) => programs,
            Err(failed) => {
                self.unpublished |= matches!(failed, Failed::Mixed(_));
                return Err(failed);
            }
        };
        // This publication replaced whatever an earlier one had left half-way.
        self.unpublished = false;
        for path in recycled {
            self.recent.forget(path);
        }
        (self.policy, self.key) = (provided.policy, provided.key);
        // Sweep first, because open connections feel this step. Attaching and
        // detaching takes longer.
        self.sweep(sweep::APPLY);
        match copies {
            Copies::None => self.redundant = None,
            Copies::Keep(settings) => {
                if let Some(service) = &mut self.redundant {
                    service.set(&settings);
                }
            }
            Copies::Start(mut service, datagrams) => {
                service.listen(&mut self.tasks);
                (self.redundant, self.datagrams) = (Some(*service), datagrams);
            }
        }
        let done = change::follow_up(&mut self.kernel, programs);
        let present = self.links.borrow().clone();
        if let Some(service) = &mut self.redundant {
            service.follow(present, &self.table, &mut self.kernel);
        }
        done
    }

    /// Publishes the policy in force again, after a failure that left the
    /// kernel side with something else.
    pub(super) fn publish_again(&mut self) {
        self.table.supersede(self.kernel.generation());
        let capabilities = self.policy.capabilities();
        match self.kernel.publish(&self.table, capabilities, &[]) {
            Ok(()) => {
                self.unpublished = false;
                tracing::info!(policy = %self.policy, "the kernel side has the policy in full again");
                self.sweep(sweep::APPLY);
            }
            Err(error) => tracing::debug!("the kernel side still lacks the policy: {error}"),
        }
    }
}
