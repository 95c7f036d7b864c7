//! A case: the same traffic on the same links, measured under the default
//! scheduler and under each policy. Each policy is a row of the table.
//!
//! The policies are measured one after the other, in rounds in which they change
//! places, so that a load on this machine that comes and goes does not always
//! meet the same policy. Ratios are those of one round.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use mptcp_lab::cleanup;

use super::column::{self, Column};
use super::policy::Policy;
use crate::bench::progress::Progress;
use crate::bench::rows::{Choice, Results};

/// The settings and the results of measuring rows.
pub struct Bench<'a> {
    /// The agent's binary.
    pub agent: PathBuf,
    /// How often each policy is measured.
    pub rounds: usize,
    /// The chosen rows.
    pub choice: &'a Choice,
    /// Whether the default scheduler is measured a second time.
    pub noise: bool,
    /// The line at the foot of the terminal.
    pub progress: Progress,
    /// The results so far.
    pub done: Results,
    /// The group whose header was printed last.
    pub group: &'static str,
}

/// A case of one of the groups.
pub trait Case {
    /// The result of measuring one policy once.
    type Measured: Send;

    /// Returns the name of the case's group, the first word of its rows.
    fn group(&self) -> &'static str;

    /// Describes the group and its targets.
    fn about(&self) -> &'static str;

    /// Names the row of a policy.
    fn label(&self, policy: Policy) -> String;

    /// Returns the policies, without the default scheduler.
    fn policies(&self) -> Vec<Policy>;

    /// Estimates how long it takes to measure these policies once.
    fn length(&self, policies: &[Policy]) -> Duration;

    /// Measures one policy once.
    fn measure(&self, agent: &Path, policy: Policy) -> Result<Self::Measured>;

    /// Measures each of these policies once, in this order. `now` shows which one is
    /// being measured.
    fn round(
        &self,
        agent: &Path,
        policies: &[Policy],
        now: &dyn Fn(&str),
    ) -> Vec<Result<Self::Measured>> {
        let measure = |policy: &Policy| {
            now(&policy.to_string());
            self.measure(agent, *policy)
        };
        policies.iter().map(measure).collect()
    }

    /// Returns a row's columns, from the results of each round under the policy and
    /// under the default scheduler. All rows of a group have the same columns.
    fn columns(
        &self,
        policy: Policy,
        mine: &[Self::Measured],
        default: &[Self::Measured],
    ) -> Vec<Column>;
}

/// A case of any group.
pub trait AnyCase {
    /// Returns the names of all rows.
    fn labels(&self) -> Vec<String>;

    /// Estimates how long one round of the chosen rows takes.
    fn length(&self, choice: &Choice) -> Duration;

    /// Measures and prints the chosen rows.
    fn run(&self, bench: &mut Bench);
}

impl<C: Case> AnyCase for C {
    fn labels(&self) -> Vec<String> {
        let policies = self.policies().into_iter();
        policies.map(|policy| self.label(policy)).collect()
    }

    fn length(&self, choice: &Choice) -> Duration {
        let policies = [vec![Policy::Default], chosen(self, choice)].concat();
        Case::length(self, &policies)
    }

    fn run(&self, bench: &mut Bench) {
        let mut policies = [vec![Policy::Default], chosen(self, bench.choice)].concat();
        if bench.noise {
            policies.insert(1, Policy::Again);
        }
        let measured = measure(self, bench, &policies);
        let mut results = policies.into_iter().zip(measured);
        let Some((_, default)) = results.next() else {
            return;
        };
        let label = self.label(Policy::Default);
        let default = match default {
            Ok(default) => default,
            Err(error) => {
                for (policy, _) in results {
                    let why = anyhow!("default scheduler: {}", one_line(&error));
                    bench.add(self, policy, Err(why));
                }
                return;
            }
        };
        let columns = self.columns(Policy::Default, &default, &default);
        bench.header(self, &columns);
        let outcome = column::outcome(&label, &columns, bench.rounds, false);
        bench.progress.clear();
        bench.done.add(&label, Ok(outcome));
        for (policy, mine) in results {
            let columns = mine.map(|mine| self.columns(policy, &mine, &default));
            bench.add(self, policy, columns);
        }
    }
}

fn chosen<C: Case + ?Sized>(case: &C, choice: &Choice) -> Vec<Policy> {
    let mut policies = case.policies();
    policies.retain(|policy| choice.wants(&case.label(*policy)));
    policies
}

/// Measures all rounds. A policy that cannot be measured is left out of the
/// rounds that follow.
fn measure<C: Case>(case: &C, bench: &Bench, policies: &[Policy]) -> Vec<Result<Vec<C::Measured>>> {
    let mut measured: Vec<Result<Vec<C::Measured>>> = Vec::new();
    measured.resize_with(policies.len(), || Ok(Vec::new()));
    for round in 0..bench.rounds {
        let mut order: Vec<usize> = (0..policies.len())
            .filter(|&one| measured[one].is_ok())
            .collect();
        // Without the default scheduler there is nothing to compare with.
        if order.first() != Some(&0) {
            break;
        }
        let places = order.len();
        order.rotate_left(round % places);
        let turns: Vec<Policy> = order.iter().map(|&one| policies[one]).collect();
        let now = |what: &str| {
            let phase = format!("round {} of {}: {what}", round + 1, bench.rounds);
            bench.progress.now(case.label(policies[0]), &phase);
        };
        let results = case.round(&bench.agent, &turns, &now);
        for (&one, result) in order.iter().zip(results) {
            let result = result.or_else(|error| again(case, bench, policies[one], &error));
            match (result, &mut measured[one]) {
                (Ok(result), Ok(all)) => all.push(result),
                (Err(error), all) => *all = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
    }
    measured
}

/// Measures a policy once more after a failure: now and then the kernel resets a
/// subflow in its first moments, with an agent or without.
fn again<C: Case>(case: &C, bench: &Bench, policy: Policy, error: &Error) -> Result<C::Measured> {
    cleanup::rest_if_interrupted();
    let result = case.measure(&bench.agent, policy);
    if result.is_ok() {
        let (label, why) = (case.label(policy), one_line(error));
        bench
            .progress
            .print(&format!("{label}: measured again after: {why}"));
    }
    result
}

impl Bench<'_> {
    /// Prints the header of a group before its first row.
    fn header<C: Case>(&mut self, case: &C, columns: &[Column]) {
        if self.group != case.group() {
            self.group = case.group();
            let names = column::header(case.group(), columns, self.rounds);
            let about = column::wrapped(case.about());
            self.progress.print(&format!("\n{about}\n{names}"));
        }
    }

    /// Prints the row of a policy, and counts it.
    fn add<C: Case>(&mut self, case: &C, policy: Policy, columns: Result<Vec<Column>>) {
        if policy.steers() {
            self.progress.step();
        }
        self.progress.clear();
        let label = case.label(policy);
        let outcome =
            columns.map(|columns| column::outcome(&label, &columns, self.rounds, policy.steers()));
        // The agent's message may have several lines, but a row has one.
        let outcome = outcome.map_err(|error| anyhow!(one_line(&error)));
        self.done.add(&label, outcome);
    }
}

fn one_line(error: &Error) -> String {
    let text = format!("{error:#}");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}
