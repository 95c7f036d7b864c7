//! The two phases of a change of policy, in types.
//!
//! ```text
//!   prepare   may refuse           Refused      nothing has been changed
//!   commit    cannot refuse        Failed       says which policy is in force
//! ```
//!
//! This module holds the part of `commit` that writes to the kernel side. It
//! writes through [`Door`], so that a test can let any step fail.

use anyhow::Result;
use mptcp_api::schema::{ErrorCode, Refusal};

use crate::kernel::{Kernel, PublishError};
use crate::policy::Policy;
use crate::state::paths::PathTable;

/// The reason why a policy cannot be used here. Nothing has been changed.
#[derive(Debug)]
pub struct Refused(pub anyhow::Error);

/// Says how a change that had begun has failed.
#[derive(Debug)]
pub enum Failed {
    /// The agent took back what it had written: the policy before is in force.
    TakenBack(anyhow::Error),
    /// The new policy is in force, but something that belongs to it failed.
    Incomplete(anyhow::Error),
    /// The kernel side holds parts of both policies, because what had been
    /// written could not be taken back in full. The loop goes on trying to
    /// bring back the policy before.
    Mixed(anyhow::Error),
}

impl From<Refused> for Refusal {
    fn from(Refused(error): Refused) -> Self {
        Self::new(ErrorCode::Refused, &format!("{error:#}"))
    }
}

impl Failed {
    /// Returns whether the new policy is in force.
    pub fn is_in_force(&self) -> bool {
        matches!(self, Self::Incomplete(_))
    }

    /// Returns the reply to the client, which names the policy that is in force
    /// now.
    pub fn refusal(&self, in_force: &Policy) -> Refusal {
        let message = match self {
            Self::TakenBack(error) => {
                format!("{error:#}; what was written is taken back: policy {in_force} is in force")
            }
            Self::Incomplete(error) => {
                format!("policy {in_force} is in force, but not in full: {error:#}")
            }
            Self::Mixed(error) => format!(
                "{error:#}; the kernel side holds parts of both policies: the agent tries each \
                 second to bring policy {in_force} back"
            ),
        };
        Refusal::new(ErrorCode::Failed, &message)
    }
}

/// Lists the steps by which a change of policy reaches the kernel side.
pub trait Door {
    /// Does what [`Kernel::publish`] does.
    fn publish(
        &mut self,
        table: &PathTable,
        capabilities: u32,
        recycled: &[u32],
    ) -> Result<(), PublishError>;

    /// Does what [`Kernel::generation`] does.
    fn generation(&self) -> u32;

    /// Does what [`Kernel::start_redundant`] does.
    fn start_redundant(&mut self) -> Result<()>;

    /// Does what [`Kernel::stop_redundant`] does.
    fn stop_redundant(&mut self) -> Result<()>;
}

impl Door for Kernel {
    fn publish(
        &mut self,
        table: &PathTable,
        capabilities: u32,
        recycled: &[u32],
    ) -> Result<(), PublishError> {
        self.publish(table, capabilities, recycled)
    }

    fn generation(&self) -> u32 {
        self.generation()
    }

    fn start_redundant(&mut self) -> Result<()> {
        self.start_redundant()
    }

    fn stop_redundant(&mut self) -> Result<()> {
        self.stop_redundant()
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

/// Holds all that the programs obey under the new policy.
#[derive(Debug)]
pub struct Wanted {
    /// The paths and their weights.
    pub table: PathTable,
    /// Bits of `abi::capability`.
    pub capabilities: u32,
    /// Indices that go to other paths.
    pub recycled: Vec<u32>,
    /// Whether the tc programs start, stay or end.
    pub programs: Programs,
}

/// Puts `wanted` in force and moves its paths to `table`. If that fails, goes
/// back to what was there before, as far as the maps allow.
///
/// # Errors
/// A map refused an entry. The new policy is not in force then.
pub fn put_in_force(
    door: &mut impl Door,
    table: &mut PathTable,
    wanted: Wanted,
) -> Result<Programs, Failed> {
    let programs = wanted.programs;
    let start = programs == Programs::Start;
    if start {
        door.start_redundant().map_err(Failed::TakenBack)?;
    }
    match door.publish(&wanted.table, wanted.capabilities, &wanted.recycled) {
        Ok(()) => {
            *table = wanted.table;
            Ok(programs)
        }
        Err(error) => {
            // The programs have seen generations above that of the table.
            table.supersede(door.generation());
            let stopped = if start { door.stop_redundant() } else { Ok(()) };
            Err(match (error, stopped) {
                (PublishError::TakenBack(error), Ok(())) => Failed::TakenBack(error),
                (error, Ok(())) => Failed::Mixed(error.into()),
                (error, Err(then)) => {
                    Failed::Mixed(anyhow::anyhow!("{error}; nor did the copies end: {then:#}"))
                }
            })
        }
    }
}

/// Ends or starts the tc programs for a policy that is in force already. Takes
/// every step, even if the one before has failed.
///
/// # Errors
/// The first failure.
pub fn follow_up(door: &mut impl Door, programs: Programs) -> Result<(), Failed> {
    let done = match programs {
        Programs::Stop => door.stop_redundant(),
        Programs::Keep | Programs::Start => Ok(()),
        Programs::Restart => {
            let stopped = door.stop_redundant();
            stopped.and(door.start_redundant())
        }
    };
    done.map_err(Failed::Incomplete)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use anyhow::ensure;
    use mptcp_common::abi::capability;

    use super::*;
    use crate::policy::Weights;

    /// A kernel side in which one step fails.
    #[derive(Default)]
    struct Fake {
        /// Capabilities and generation.
        in_force: (u32, u32),
        copies: bool,
        steps: usize,
        fails: usize,
        /// Whether a failing `publish` cannot be taken back.
        sticks: bool,
    }

    impl Fake {
        fn step(&mut self) -> Result<()> {
            self.steps += 1;
            ensure!(self.steps != self.fails, "step {} fails", self.fails);
            Ok(())
        }
    }

    impl Door for Fake {
        fn publish(
            &mut self,
            table: &PathTable,
            capabilities: u32,
            _: &[u32],
        ) -> Result<(), PublishError> {
            match self.step() {
                Ok(()) => self.in_force = (capabilities, table.generation()),
                Err(error) if self.sticks => {
                    let then = anyhow::anyhow!("stuck");
                    return Err(PublishError::Mixed { error, then });
                }
                Err(error) => {
                    self.in_force.1 = table.generation() + 1;
                    return Err(PublishError::TakenBack(error));
                }
            }
            Ok(())
        }

        fn generation(&self) -> u32 {
            self.in_force.1
        }

        fn start_redundant(&mut self) -> Result<()> {
            self.step()?;
            self.copies = true;
            Ok(())
        }

        fn stop_redundant(&mut self) -> Result<()> {
            self.copies = false;
            self.step()
        }
    }

    fn table(weight: u16) -> PathTable {
        let weights = Weights {
            unlisted: weight,
            ..Weights::EQUAL
        };
        let mut table = PathTable::new(&weights);
        table.supersede(u32::from(weight) * 10);
        table
    }

    /// Changes from one policy to another, and lets step `fails` fail.
    fn change(fails: usize, sticks: bool, programs: Programs) -> (Fake, PathTable, Option<Failed>) {
        let mut now = table(1);
        let mut fake = Fake {
            in_force: (capability::CAPS, now.generation()),
            copies: matches!(programs, Programs::Keep | Programs::Restart),
            fails,
            sticks,
            ..Fake::default()
        };
        let wanted = Wanted {
            table: table(2),
            capabilities: capability::COPIES,
            recycled: Vec::new(),
            programs,
        };
        let done = put_in_force(&mut fake, &mut now, wanted)
            .and_then(|programs| follow_up(&mut fake, programs));
        (fake, now, done.err())
    }

    #[test]
    fn what_fails_is_told_with_the_policy_that_is_in_force() {
        use Programs::{Keep, Restart, Start, Stop};

        for (programs, steps) in [(Stop, 2), (Keep, 1), (Start, 2), (Restart, 3)] {
            let (fake, now, failed) = change(0, false, programs);
            assert!(failed.is_none(), "{failed:?}");
            assert_eq!((fake.steps, fake.in_force.0), (steps, capability::COPIES));
            assert_eq!(now.weight(0), 2);
            for (fails, sticks) in (1..=steps).flat_map(|step| [(step, false), (step, true)]) {
                let (fake, now, failed) = change(fails, sticks, programs);
                let failed = failed.unwrap();
                let is_new = fake.in_force.0 == capability::COPIES;
                assert_eq!(failed.is_in_force(), is_new, "{programs:?} {fails}");
                assert_eq!(now.weight(0), if is_new { 2 } else { 1 });
                // Whatever is published from here on has a newer generation.
                assert!(now.generation() >= fake.in_force.1);
                if !is_new {
                    assert_eq!(fake.copies, matches!(programs, Keep | Restart));
                }
                let refusal = failed.refusal(&Policy::default());
                assert_eq!(refusal.code, ErrorCode::Failed);
                assert!(refusal.message.contains("policy default"), "{refusal:?}");
                assert!(refusal.message.contains("fails"), "{refusal:?}");
            }
        }
    }

    #[test]
    fn only_a_policy_that_is_mixed_is_said_to_be() {
        let publish = 1;
        let (_, _, failed) = change(publish, true, Programs::Keep);
        assert!(matches!(failed, Some(Failed::Mixed(_))));
        let (_, _, failed) = change(publish, false, Programs::Keep);
        assert!(matches!(failed, Some(Failed::TakenBack(_))));
        // The copies had been started for nothing, so they end.
        let (fake, _, failed) = change(2, false, Programs::Start);
        assert!(matches!(failed, Some(Failed::TakenBack(_))) && !fake.copies);
    }

    #[test]
    fn a_refusal_is_another_kind_of_answer() {
        let refusal = Refusal::from(Refused(anyhow::anyhow!("no port")));
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (ErrorCode::Refused, "no port")
        );
    }
}
