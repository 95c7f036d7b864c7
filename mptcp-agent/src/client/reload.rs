//! `reload`.

use mptcp_api::schema::{Reloaded, Reply, Request, one_line};

use super::connection::Connection;
use super::{Failure, Output, policy};

/// Lets the agent read its configuration file anew, and prints what is in force.
pub fn run(agent: &mut Connection, output: Output) -> Result<(), Failure> {
    let reply = agent.exchange(&Request::Reload)?;
    let Reply::Reloaded(reloaded) = &reply else {
        return Err(Failure::unexpected());
    };
    output.write(&reply, |_| describe(reloaded))
}

/// Says in one line each: the policy, the settings that need a restart, and what
/// has no effect.
fn describe(reloaded: &Reloaded) -> String {
    let policy = policy::describe(&reloaded.policy);
    let mut text = match reloaded.changed {
        true => format!("the policy is now {policy}\n"),
        false => format!("the policy stays {policy}\n"),
    };
    if !reloaded.needs_restart.is_empty() {
        let settings = reloaded.needs_restart.join(", ");
        text += &one_line(&format!("these settings need a restart: {settings}"));
        text += "\n";
    }
    for warning in &reloaded.warnings {
        text += &one_line(&format!("{warning} (a warning)"));
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_changed_and_what_needs_a_restart() {
        let mut reloaded: Reloaded = serde_json::from_value(json!({
            "policy": {"policy": {"name": "default"}, "backend": "none"},
            "changed": true, "needs_restart": ["listen", "a\u{1b}b"],
            "warnings": ["f:1:1: leave-out has no effect"],
        }))
        .unwrap();
        assert_eq!(
            describe(&reloaded),
            "the policy is now default (backend none)\n\
             these settings need a restart: listen, a\u{fffd}b\n\
             f:1:1: leave-out has no effect (a warning)\n"
        );
        reloaded.changed = false;
        reloaded.needs_restart.clear();
        reloaded.warnings.clear();
        assert_eq!(
            describe(&reloaded),
            "the policy stays default (backend none)\n"
        );
    }
}
