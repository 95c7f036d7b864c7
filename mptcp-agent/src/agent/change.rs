//! Changes of policy, in two phases that types keep apart.
//!
//! ```text
//!   prepare  gets what may fail: BBR for a standby path and the key (by `host`,
//!            ahead of the loop), UDP port, tc programs, a path's index
//!                                                Refused: nothing has changed
//!   commit   writes the maps, then the new generation, which holds from each
//!            socket's next callback on; passes once over the sockets, so that
//!            it holds at once on all; then ends the old policy's tasks and
//!            devices, and starts the new one's
//!                                                Failed: says which policy is in
//!                                                force
//! ```
//!
//! A change of the rules takes the same steps, with the default policy as it is. All
//! steps go through [`Side`], so that a test can let any of them fail.

mod outcome;

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use mptcp_api::schema::{PolicyView, Refusal};
use mptcp_common::abi::{self, PathStats};

use super::is_unused;
use super::together::{Copying, Wanted, channel, check_copying, copying, encode};
use crate::api::control::view;
use crate::kernel::{Policies, PublishError};
use crate::peering::Peering;
use crate::policy::{Key, Policy, Provided, Redundant};
use crate::rules::{self, Rules};
use crate::state::accounts::Accounts;
use crate::state::paths::PathTable;
use crate::state::snapshot::InForce;

pub use outcome::{Failed, Refused};

/// Time until the previous policy is tried again, if it cannot come back.
const AGAIN: Duration = Duration::from_secs(10);

/// The policy that comes back by itself after a temporary one.
#[derive(Clone, Debug, PartialEq)]
pub struct Revert {
    /// When it comes back.
    pub at: Instant,
    /// The policy.
    pub provided: Provided,
}

/// The policy in force, and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The content of its key file.
    pub key: &'a Key,
    /// The paths and their weights.
    pub table: &'a PathTable,
    /// The rules, the policies that they choose, and their key.
    pub rules: &'a rules::Provided,
    /// The bytes that each path has used of its quota.
    pub accounts: &'a Accounts,
    /// The policy that replaces it by itself, if any.
    pub revert: Option<&'a Revert>,
    /// The settings of `--ask-peer` and `--accept-peer-policy`, if either is in use.
    pub peering: Option<&'a Peering>,
}

impl Held<'_> {
    /// Returns how segments are copied, if a policy does so.
    pub(super) fn copying(&self) -> Copying<'_> {
        copying(self.policy, self.key, self.rules)
    }

    /// Returns the policy in force at the time `now`, and the one that comes
    /// back by itself.
    pub fn in_force(&self, now: Instant) -> InForce {
        InForce {
            policy: self.policy.clone(),
            then: self.revert.map(|revert| {
                let after = revert.at.saturating_duration_since(now);
                (revert.provided.policy.clone(), after)
            }),
        }
    }
}

/// Says whether a change of policy starts, keeps or ends the tc programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// The programs are not there, or they end.
    Stop,
    /// The programs stay, and with them what was found out about peers.
    Keep,
    /// The programs start where there were none.
    Start,
    /// The programs start anew, and what was found out about peers no longer
    /// counts.
    Restart,
}

/// The user-space side of the redundant policy under the new policy.
#[derive(Debug)]
pub enum Copies<T> {
    /// It is not there, or it ends.
    None,
    /// It goes on with these settings.
    Keep(Redundant),
    /// It starts, maybe anew.
    Start(T),
}

/// The parts of the agent that a change of policy acts on: the kernel side, the user-space side of
/// copies, and what the agent remembers of its policy.
pub trait Side {
    /// The user-space side of copies, before it starts.
    type Copies;

    /// Returns the policy in force.
    fn held(&self) -> Held<'_>;

    /// Returns the totals of every path.
    fn path_stats(&self) -> Result<Vec<PathStats>>;

    /// Returns whether the user-space side of copies runs, be it for wishes only.
    fn has_copies(&self) -> bool;

    /// Gets what copies need, and starts nothing. Unless it `copies`, that is for
    /// wishes only.
    fn prepare_copies(&self, settings: &Redundant, key: &Key, copies: bool)
    -> Result<Self::Copies>;

    /// Lets the tc programs be attached.
    fn start_programs(&mut self) -> Result<()>;

    /// Ends copying and detaches the tc programs.
    fn stop_programs(&mut self) -> Result<()>;

    /// Returns what the programs are told of the rules, as far as the host has
    /// the cgroups that they name.
    fn encode(&self, rules: &Rules) -> Vec<abi::rule::Rule>;

    /// Makes the programs obey `table` and `policies`.
    fn publish(
        &mut self,
        table: &PathTable,
        policies: &Policies,
        recycled: &[u32],
    ) -> Result<(), PublishError>;

    /// Returns the generation that was published last.
    fn generation(&self) -> u32;

    /// Applies the policy to every socket.
    fn visit(&mut self) -> Result<()>;

    /// Ends, keeps or starts the user-space side of copies.
    fn set_copies(&mut self, copies: Copies<Self::Copies>);

    /// Tells the user-space side of copies which devices there are. What the
    /// devices or maps refuse is logged and tried again, and fails no change.
    fn follow(&mut self);

    /// Warns of weights that name nothing.
    fn warn(&self);

    /// Remembers what is in force, and the paths whose index is another's.
    fn hold(&mut self, wanted: Wanted, table: PathTable, recycled: &[u32]);

    /// Makes later generations of the table differ from `generation`.
    fn supersede(&mut self, generation: u32);

    /// Remembers the policy that comes back by itself.
    fn set_revert(&mut self, revert: Option<Revert>);

    /// Remembers whether the kernel side lacks the policy in force, or parts of
    /// it, so that it has to be published again.
    fn set_unpublished(&mut self, unpublished: bool);
}

/// Everything that a new policy needs, obtained before anything is changed.
struct Prepared<T> {
    wanted: Wanted,
    table: PathTable,
    /// Indices that go to other paths.
    recycled: Vec<u32>,
    copies: Copies<T>,
    programs: Programs,
}

/// Why a policy was not set, or not in full.
pub(super) enum Failure {
    /// It was refused before anything was changed.
    Refused(Refused),
    /// It failed after something had been changed.
    Failed(Failed),
}

/// Puts `provided` in force on every connection that no rule matches, as [`set_all`]
/// does.
///
/// # Errors
/// Those of [`set_all`].
pub fn set(
    side: &mut impl Side,
    provided: Provided,
    lasting: Option<Duration>,
) -> Result<PolicyView, Refusal> {
    let (default, rules) = (provided, side.held().rules.clone());
    set_all(side, Wanted { default, rules }, lasting)
}

/// Puts what is wanted in force on every connection. If `lasting` is given, the last
/// policy that was set without a time limit comes back after that time.
///
/// # Errors
/// The policy cannot be used here, and nothing has changed; or the change has
/// failed, and the message says which policy is in force.
pub fn set_all(
    side: &mut impl Side,
    wanted: Wanted,
    lasting: Option<Duration>,
) -> Result<PolicyView, Refusal> {
    let held = side.held();
    let stays = held.revert.map_or_else(
        || Provided {
            policy: held.policy.clone(),
            key: held.key.clone(),
        },
        |pending| pending.provided.clone(),
    );
    let start = Instant::now();
    let done = switch(side, wanted);
    let in_force = match &done {
        Ok(()) => true,
        Err(Failure::Failed(failed)) => failed.is_in_force(),
        Err(Failure::Refused(_)) => false,
    };
    if in_force {
        side.set_revert(lasting.map(|lasting| Revert {
            at: start + lasting,
            provided: stays,
        }));
    }
    let policy = side.held().policy;
    match done {
        Ok(()) => {
            tracing::info!(
                %policy,
                lasting = lasting.map(tracing::field::debug),
                took = ?start.elapsed(),
                "policy changed"
            );
            Ok(view::policy(&side.held().in_force(Instant::now())))
        }
        Err(Failure::Refused(refused)) => {
            let refusal = Refusal::from(refused);
            tracing::warn!("the policy stays {policy}: {}", refusal.message);
            Err(refusal)
        }
        Err(Failure::Failed(failed)) => {
            let refusal = failed.refusal(policy);
            tracing::error!("a change of policy failed: {}", refusal.message);
            Err(refusal)
        }
    }
}

/// Brings back the policy that was in force before a temporary one. If it lacks
/// something that may become available, such as a port, tries again later.
pub fn revert(side: &mut impl Side) {
    let Some(Revert { provided, .. }) = side.held().revert.cloned() else {
        return;
    };
    side.set_revert(None);
    let wanted = Wanted {
        default: provided.clone(),
        rules: side.held().rules.clone(),
    };
    let done = switch(side, wanted);
    let policy = side.held().policy;
    let why = match done {
        Ok(()) => {
            tracing::info!(%policy, "temporary policy expired, previous policy restored");
            return;
        }
        Err(Failure::Failed(failed)) if failed.is_in_force() => {
            tracing::error!("{}", failed.refusal(policy).message);
            return;
        }
        Err(Failure::Failed(failed)) => failed.refusal(policy).message,
        Err(Failure::Refused(Refused(error))) => format!("{error:#}"),
    };
    tracing::error!(
        policy = %provided.policy,
        "the policy before cannot come back yet, and {policy} stays: {why}"
    );
    side.set_revert(Some(Revert {
        at: Instant::now() + AGAIN,
        provided,
    }));
}

/// Publishes the policy in force again, after a failure that left the kernel
/// side with something else.
pub fn publish_again(side: &mut impl Side) {
    side.supersede(side.generation());
    let held = side.held();
    let table = held.table.clone();
    let policies = encode(side, held.policy, &held.rules.rules, &table);
    match side.publish(&table, &policies, &[]) {
        Ok(()) => {
            side.set_unpublished(false);
            let policy = side.held().policy;
            tracing::info!(%policy, "the kernel side has the policy in full again");
            if let Err(error) = side.visit() {
                tracing::debug!("the policy is not on every open socket yet: {error:#}");
            }
        }
        Err(error) => tracing::debug!("the kernel side still lacks the policy: {error}"),
    }
}

/// Prepares what is wanted, and puts it in force.
pub(super) fn switch(side: &mut impl Side, wanted: Wanted) -> Result<(), Failure> {
    let prepared = prepare(side, wanted);
    let prepared = prepared.map_err(|error| Failure::Refused(Refused(error)))?;
    let done = commit(side, prepared);
    side.warn();
    done.map_err(Failure::Failed)
}

/// Gets everything that the policy needs. Changes nothing.
fn prepare<S: Side>(side: &S, wanted: Wanted) -> Result<Prepared<S::Copies>> {
    let held = side.held();
    let Wanted { default, rules } = &wanted;
    let policy = &default.policy;
    check_copying(default, rules, held.peering)?;
    let stats = side.path_stats()?;
    let mut table = held.table.clone();
    let recycled = table
        .set_weights(&rules.rules.name_paths(policy.weights()), |path| {
            is_unused(&stats, path)
        })
        .map_err(|reason| anyhow!(reason))?;
    table.set_limits(policy.limits().clone());
    // A path that is left out stays so if its bounds are the same.
    table.retain_left_out(|label| keeps_out(policy, held.policy, label));
    table.hold_out(|label| held.accounts.holds_out(label, policy.quotas()));
    let new = channel(copying(policy, &default.key, rules), held.peering);
    let old = channel(held.copying(), held.peering).filter(|_| side.has_copies());
    let copies = match (new, old) {
        // The content of the key file matters, not its path.
        (Some((new, key, copies)), Some((old, old_key, copied)))
            if (new.port, key, copies) == (old.port, old_key, copied) =>
        {
            Copies::Keep(new.clone())
        }
        (Some((new, key, copies)), _) => Copies::Start(side.prepare_copies(new, key, copies)?),
        (None, _) => Copies::None,
    };
    let copied = old.is_some_and(|(_, _, copied)| copied);
    let programs = match (&copies, new.is_some_and(|(_, _, copies)| copies)) {
        (_, false) => Programs::Stop,
        (Copies::Keep(_), true) => Programs::Keep,
        (_, true) if copied => Programs::Restart,
        (_, true) => Programs::Start,
    };
    Ok(Prepared {
        wanted,
        table,
        recycled,
        copies,
        programs,
    })
}

/// Returns whether the path of this label, if it is left out under the policy
/// `old`, stays so under `new`.
pub fn keeps_out(new: &Policy, old: &Policy, label: &str) -> bool {
    let bound = new.bounds().of(label);
    !bound.is_none() && bound == old.bounds().of(label)
}

fn commit<S: Side>(side: &mut S, prepared: Prepared<S::Copies>) -> Result<(), Failed> {
    let Prepared {
        wanted,
        table,
        recycled,
        copies,
        programs,
    } = prepared;
    let copied = side.held().copying().is_some();
    put_in_force(side, &wanted, &table, &recycled, programs)?;
    side.hold(wanted, table, &recycled);
    let copies_now = side.held().copying().is_some();
    // This publication replaced whatever an earlier one had left half-way.
    side.set_unpublished(false);
    // Take every step, even if one before it has failed. Visit the sockets
    // first, because open connections feel this step. Attaching and detaching
    // takes longer.
    let mut failures = vec![side.visit()];
    side.set_copies(copies);
    match programs {
        Programs::Keep | Programs::Start => {}
        Programs::Stop => failures.push(side.stop_programs()),
        Programs::Restart => {
            failures.push(side.stop_programs());
            failures.push(side.start_programs());
        }
    }
    side.follow();
    if copied || copies_now {
        // Visit the sockets once more, to adjust the segment sizes of listening
        // sockets.
        failures.push(side.visit());
    }
    let failures = failures.into_iter().filter_map(Result::err);
    let mut texts: Vec<String> = failures.map(|error| format!("{error:#}")).collect();
    texts.dedup();
    if texts.is_empty() {
        return Ok(());
    }
    Err(Failed::Incomplete(anyhow!(texts.join("; "))))
}

/// Makes the programs obey the new policy. If that fails, goes back to what was
/// there before, as far as the maps allow.
///
/// # Errors
/// A map refused an entry. The new policy is not in force then.
fn put_in_force(
    side: &mut impl Side,
    wanted: &Wanted,
    table: &PathTable,
    recycled: &[u32],
    programs: Programs,
) -> Result<(), Failed> {
    let start = programs == Programs::Start;
    if start {
        side.start_programs().map_err(Failed::TakenBack)?;
    }
    let policies = encode(side, &wanted.default.policy, &wanted.rules.rules, table);
    let Err(error) = side.publish(table, &policies, recycled) else {
        return Ok(());
    };
    // The programs have seen generations above that of the table.
    side.supersede(side.generation());
    let stopped = match start {
        true => side.stop_programs(),
        false => Ok(()),
    };
    let failed = match (error, stopped) {
        (PublishError::TakenBack(error), Ok(())) => Failed::TakenBack(error),
        (error, Ok(())) => Failed::Mixed(error.into()),
        (error, Err(then)) => Failed::Mixed(anyhow!("{error}; nor did the copies end: {then:#}")),
    };
    if matches!(failed, Failed::Mixed(_)) {
        side.set_unpublished(true);
    }
    Err(failed)
}

#[cfg(test)]
mod tests;
