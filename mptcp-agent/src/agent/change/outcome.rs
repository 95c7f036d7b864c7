//! How a change of policy ends that does not succeed.

use mptcp_api::schema::{ErrorCode, Refusal};

use crate::policy::Policy;

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
