//! Changes the rules: the same two phases as for a change of the policy.

use std::time::Instant;

use mptcp_api::schema::{ErrorCode, Refusal};

use super::change::{Failed, Failure, Side, switch};
use super::together::Wanted;
use crate::policy::Provided;
use crate::rules;

/// Puts rules, and the policies that they choose, in force on every connection.
/// The default policy stays.
///
/// # Errors
/// The rules cannot be used here, and nothing has changed; or the change has
/// failed, and the message says so.
pub fn set_rules(side: &mut impl Side, rules: rules::Provided) -> Result<(), Refusal> {
    let start = Instant::now();
    let held = side.held();
    let default = Provided {
        policy: held.policy.clone(),
        key: held.key.clone(),
    };
    let done = switch(side, Wanted { default, rules });
    let held = side.held();
    match done {
        Ok(()) => {
            let (rules, policies) = (held.rules.rules.rules(), held.rules.rules.named());
            tracing::info!(
                rules = rules.len(),
                policies = policies.len(),
                took = ?start.elapsed(),
                "rules changed"
            );
            Ok(())
        }
        Err(Failure::Refused(refused)) => {
            let refusal = Refusal::from(refused);
            tracing::warn!("the rules stay as they are: {}", refusal.message);
            Err(refusal)
        }
        Err(Failure::Failed(failed)) => {
            let refusal = refusal(&failed);
            tracing::error!("a change of the rules failed: {}", refusal.message);
            Err(refusal)
        }
    }
}

/// Returns the reply to the client.
fn refusal(failed: &Failed) -> Refusal {
    let message = match failed {
        Failed::TakenBack(error) => {
            format!("{error:#}; what was written is taken back: the rules before are in force")
        }
        Failed::Incomplete(error) => {
            format!("the rules are in force, but not in full: {error:#}")
        }
        Failed::Mixed(error) => format!(
            "{error:#}; the kernel side holds parts of both: the agent tries each second to \
                 bring the rules before back"
        ),
    };
    Refusal::new(ErrorCode::Failed, &message)
}
