//! `policy show` and `policy set`.

use mptcp_api::policy::Given;
use mptcp_api::schema::{PolicyView, Reply, Request, one_line};

use super::connection::Connection;
use super::{Failure, Output, format};
use crate::cli;

/// Prints the policy in force.
pub fn show(agent: &mut Connection, output: Output) -> Result<(), Failure> {
    print(agent, output, &Request::PolicyShow)
}

/// Changes the policy, and prints the new one.
pub fn set(
    agent: &mut Connection,
    output: Output,
    policy: &Given,
    for_seconds: Option<u64>,
    save: bool,
) -> Result<(), Failure> {
    let request = Request::PolicySet {
        policy: Box::new(policy.clone()),
        for_seconds,
        save,
    };
    print(agent, output, &request)
}

fn print(agent: &mut Connection, output: Output, request: &Request) -> Result<(), Failure> {
    let reply = agent.exchange(request)?;
    let Reply::Policy(view) = &reply else {
        return Err(Failure::unexpected());
    };
    output.write(&reply, |_| describe(view) + "\n")
}

/// Describes in one line the policy in force, and the one that comes back.
pub fn describe(view: &PolicyView) -> String {
    let mut text = format!("{} (backend {})", settings(&view.policy), view.backend);
    if let Some(then) = &view.then {
        text += &format!(
            "; in {}: {}",
            format::duration(then.in_seconds),
            settings(&then.policy)
        );
    }
    one_line(&text)
}

/// Returns the settings as they are written on the command line.
pub(super) fn settings(given: &Given) -> String {
    let mut text = given.name.clone();
    for (setting, values) in given.values() {
        for value in values {
            text += &format!(" {} {value}", cli::flag(setting));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn one_line_that_can_be_typed_again() {
        for (view, expected) in [
            (
                json!({"policy": {"name": "default"}, "backend": "none"}),
                "default (backend none)",
            ),
            (
                json!({"policy": {"name": "weighted", "weighted_mode": "strict",
                                  "weights": ["eth0=4", "default=0"]},
                       "backend": "pacing",
                       "then": {"policy": {"name": "default"}, "in_seconds": 599.2}}),
                "weighted --weighted-mode strict --weight eth0=4 --weight default=0 \
                 (backend pacing); in 9m 59s: default",
            ),
            (
                json!({"policy": {"name": "overflow", "prefer": ["eth0", "wwan0"]},
                       "backend": "pacing"}),
                "overflow --prefer eth0 --prefer wwan0 (backend pacing)",
            ),
            (
                json!({"policy": {"name": "redundant", "redundant_copies": 2,
                                  "redundant_port": 8684, "redundant_key": "/etc/a\u{1b}key",
                                  "redundant_budget": "40mbit"},
                       "backend": "copies"}),
                "redundant --redundant-copies 2 --redundant-port 8684 --redundant-key \
                 /etc/a\u{fffd}key --redundant-budget 40mbit (backend copies)",
            ),
        ] {
            assert_eq!(describe(&serde_json::from_value(view).unwrap()), expected);
        }
    }
}
