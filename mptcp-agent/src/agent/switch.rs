//! Lets a change of policy act on the running agent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mptcp_api::schema::{ErrorCode, PolicyView, Refusal};
use mptcp_common::abi::{self, PathStats, sweep};
use tokio::sync::mpsc;

use super::change::{self, Copies, Held, Revert, Side};
use super::together::{Wanted, channel, encode};
use super::{Agent, claim, set_rules};
use crate::api::control::view;
use crate::kernel::{Policies, PublishError, program};
use crate::manage;
use crate::policy::{Key, Provided, Redundant};
use crate::redundancy::{Claim, Received, Service};
use crate::rules::{self, Rules};
use crate::state::paths::PathTable;
use crate::state::snapshot::InForce;

impl Agent {
    /// Returns the policy in force, and the one that replaces it by itself, if
    /// any.
    pub(super) fn in_force(&self) -> InForce {
        self.held().in_force(Instant::now())
    }

    /// Returns the same, as clients see it.
    pub(super) fn policy_view(&self) -> PolicyView {
        view::policy(&self.in_force())
    }

    /// Does what [`change::set`] does.
    ///
    /// # Errors
    /// Those of [`change::set`].
    pub(super) fn set_policy(
        &mut self,
        provided: Provided,
        lasting: Option<Duration>,
    ) -> Result<PolicyView, Refusal> {
        let done = change::set(self, provided.clone(), lasting);
        let refused = matches!(&done, Err(refusal) if refusal.code == ErrorCode::Refused);
        // The operator's settings take precedence: if they do not fit beside the
        // wishes of other agents, these are dropped.
        match refused && self.drop_wishes() {
            true => change::set(self, provided, lasting),
            false => done,
        }
    }

    /// Does what [`set_rules::set_rules`] does.
    ///
    /// # Errors
    /// Those of [`set_rules::set_rules`].
    pub(super) fn set_rules(&mut self, rules: rules::Provided) -> Result<(), Refusal> {
        let own = rules.clone();
        let done = set_rules::set_rules(self, rules);
        if self.rules == own {
            self.own_rules = own;
        }
        done
    }

    /// Publishes the table as it is now, for the policies and rules in force.
    ///
    /// # Errors
    /// Those of [`crate::kernel::Kernel::publish`].
    pub(super) fn publish_table(&mut self) -> Result<(), PublishError> {
        let policies = encode(self, &self.policy, &self.rules.rules, &self.table);
        self.kernel.publish(&self.table, &policies, &[])
    }

    /// Does what [`change::revert`] does.
    pub(super) fn revert_policy(&mut self) {
        change::revert(self);
    }

    /// Does what [`change::publish_again`] does.
    pub(super) fn publish_again(&mut self) {
        change::publish_again(self);
    }

    /// Returns whether the pass over the sockets is missing altogether, which
    /// was reported when the agent started.
    fn lacks_sweeps(&self) -> bool {
        let mut hooks = self.kernel.attachments().iter();
        hooks.any(|hook| hook.program == program::ITER && hook.error.is_some())
    }
}

impl Side for Agent {
    type Copies = (Box<Service>, mpsc::Receiver<Received>);

    fn held(&self) -> Held<'_> {
        Held {
            policy: &self.policy,
            key: &self.key,
            table: &self.table,
            rules: &self.rules,
            accounts: &self.keeper.accounts,
            revert: self.revert.as_ref(),
            peering: self.peering.as_ref(),
        }
    }

    fn path_stats(&self) -> Result<Vec<PathStats>> {
        self.kernel.path_stats()
    }

    fn has_copies(&self) -> bool {
        self.redundant.is_some()
    }

    fn prepare_copies(
        &self,
        settings: &Redundant,
        key: &Key,
        copies: bool,
    ) -> Result<Self::Copies> {
        if copies {
            self.kernel.can_copy()?;
        }
        // A port that the present policy uses cannot be bound again, so its
        // sockets are shared.
        let sockets = self
            .redundant
            .as_ref()
            .filter(|_| {
                let held = self.held();
                let old = channel(held.copying(), held.peering);
                old.is_some_and(|(old, _, _)| old.port == settings.port)
            })
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
        let traffic = copies.then(|| self.kernel.channel_traffic()).transpose()?;
        let (service, datagrams) = Service::new(settings, &claim, traffic, self.wishing())?;
        Ok((Box::new(service), datagrams))
    }

    fn start_programs(&mut self) -> Result<()> {
        self.kernel.start_redundant()
    }

    fn stop_programs(&mut self) -> Result<()> {
        self.kernel.stop_redundant()
    }

    fn encode(&self, rules: &Rules) -> Vec<abi::rule::Rule> {
        rules.to_kernel(&self.cgroups.ids(rules))
    }

    fn publish(
        &mut self,
        table: &PathTable,
        policies: &Policies,
        recycled: &[u32],
    ) -> Result<(), PublishError> {
        self.kernel.publish(table, policies, recycled)
    }

    fn generation(&self) -> u32 {
        self.kernel.generation()
    }

    fn visit(&mut self) -> Result<()> {
        match self.try_sweep(sweep::APPLY) {
            Err(_) if self.lacks_sweeps() => Ok(()),
            done => done.map(drop).context(
                "cannot visit the open sockets, so that idle connections take the policy up \
                 only when they send or receive",
            ),
        }
    }

    fn set_copies(&mut self, copies: Copies<Self::Copies>) {
        match copies {
            Copies::None => self.redundant = None,
            Copies::Keep(settings) => {
                if let Some(service) = &mut self.redundant {
                    service.set(&settings);
                }
            }
            Copies::Start((mut service, datagrams)) => {
                service.listen(&mut self.tasks);
                (self.redundant, self.datagrams) = (Some(*service), datagrams);
            }
        }
    }

    fn follow(&mut self) {
        let present = self.devices.borrow().clone();
        if let Some(service) = &mut self.redundant {
            service.follow(present, &self.table, &mut self.kernel);
        }
        self.rematch_copies();
        self.ask_peers();
    }

    fn warn(&self) {
        self.warn_if_missing();
    }

    fn hold(&mut self, wanted: Wanted, table: PathTable, recycled: &[u32]) {
        let Wanted { default, rules } = wanted;
        self.judge.follow(Instant::now(), |index| {
            change::keeps_out(&default.policy, &self.policy, table.label(index))
        });
        (self.policy, self.key) = (default.policy, default.key);
        if rules != self.rules {
            self.hold_rules(rules);
        }
        self.wanted.send_replace(manage::Wanted::of(&self.policy));
        self.table = table;
        for &path in recycled {
            self.history.forget(path);
            self.reach.forget(path);
            self.judge.forget(path);
            let label = Some(self.table.label(path));
            self.keeper.accounts.restart_totals(label);
        }
        self.keeper.follow(self.policy.quotas());
    }

    fn supersede(&mut self, generation: u32) {
        self.table.supersede(generation);
    }

    fn set_revert(&mut self, revert: Option<Revert>) {
        self.revert = revert;
    }

    fn set_unpublished(&mut self, unpublished: bool) {
        self.unpublished = unpublished;
    }
}
