//! Changes of the rules.

use super::*;
use crate::agent::set_rules::set_rules;
use crate::rules::{Provided as ProvidedRules, Rules};
use mptcp_api::schema::ErrorCode;

/// Returns rules with these policies, by name, and one rule for each.
fn rules(policies: &serde_json::Value, key: &str) -> ProvidedRules {
    let names: Vec<&String> = policies.as_object().unwrap().keys().collect();
    let rules: Vec<_> = (1..)
        .zip(&names)
        .map(|(port, name)| json!({"policy": name, "dport": port}))
        .collect();
    let set = json!({"policies": policies, "rules": rules});
    let set = serde_json::from_value(set).unwrap();
    ProvidedRules {
        rules: Rules::new(set, &Rules::default()).unwrap(),
        key: Key::new(key.into()),
    }
}

fn copying(copies: u32, key: &str) -> ProvidedRules {
    rules(
        &json!({"fast": {"name": "redundant", "redundant_copies": copies, "redundant_port": 1}}),
        key,
    )
}

fn weighted_rules() -> ProvidedRules {
    rules(
        &json!({"bulk": {"name": "weighted", "weights": ["id:7=3"]}}),
        "",
    )
}

const CHANGE: &[&str] = &["stats", "publish", "visit", "stop"];

#[test]
fn rules_start_and_end_copies_beside_a_weighted_policy() {
    let mut fake = Fake::new(&weighted(5));
    let (done, log) = logged(|| set_rules(&mut fake, copying(2, "k")));
    done.unwrap();
    assert!(
        log[0].starts_with("INFO rules changed rules=1 policies=1"),
        "{log:?}"
    );
    let starts = ["stats", "copies", "start", "publish", "visit", "visit"];
    assert_eq!(fake.steps.take(), starts);
    assert_eq!(fake.provided(), weighted(5));
    fake.assert_true();
    // A change of the default policy keeps them.
    set(&mut fake, weighted(7), None).unwrap();
    assert_eq!(fake.steps.take(), ["stats", "publish", "visit", "visit"]);
    assert!(fake.programs);
    fake.assert_true();
    set_rules(&mut fake, weighted_rules()).unwrap();
    let ends = ["stats", "publish", "visit", "stop", "visit"];
    assert_eq!(fake.steps.take(), ends);
    assert!(!fake.programs && fake.copies.is_none());
    fake.assert_true();
}

#[test]
fn a_host_copies_in_one_way() {
    let mut fake = Fake::new(&redundant(2, 1, "k"));
    // Nothing starts anew if both say the same.
    set_rules(&mut fake, copying(2, "k")).unwrap();
    assert_eq!(fake.steps.take(), ["stats", "publish", "visit", "visit"]);
    for other in [copying(3, "k"), copying(2, "other")] {
        let refusal = set_rules(&mut fake, other).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Refused);
        assert!(
            refusal.message.contains("a host has one of each"),
            "{refusal:?}"
        );
    }
    set(&mut fake, redundant(3, 1, "k"), None).unwrap_err();
    assert!(fake.steps.take().is_empty());
    assert_eq!(fake.rules, copying(2, "k"));
    fake.assert_true();
    // The default policy may end copying; that of the rules goes on.
    set(&mut fake, observe(), None).unwrap();
    assert!(fake.programs);
    fake.assert_true();
}

#[test]
fn each_step_fails_once_and_the_rules_before_stay() {
    for sticks in [false, true] {
        for (number, &step) in (1..).zip(CHANGE) {
            let mut fake = Fake::new(&weighted(5));
            (fake.fails, fake.sticks) = (vec![number], sticks);
            let (done, log) = logged(|| set_rules(&mut fake, weighted_rules()));
            let refusal = done.unwrap_err();
            let why = format!("step {step} fails");
            let expected = match (step, sticks) {
                ("stats", _) => why,
                ("publish", false) => {
                    format!("{why}; what was written is taken back: the rules before are in force")
                }
                ("publish", true) => format!(
                    "{why}; going back failed, too: stuck; the kernel side holds parts of both: \
                     the agent tries each second to bring the rules before back"
                ),
                _ => format!("the rules are in force, but not in full: {why}"),
            };
            assert_eq!(refusal.message, expected);
            assert_eq!(log.len(), 1, "{log:?}");
            let is_new = matches!(step, "visit" | "stop");
            assert_eq!(fake.rules == weighted_rules(), is_new, "{step}");
            assert_eq!(fake.unpublished, sticks && step == "publish");
            if fake.unpublished {
                fake.fails.clear();
                logged(|| publish_again(&mut fake));
            }
            fake.assert_true();
        }
    }
}

#[test]
fn a_temporary_policy_that_expires_leaves_the_rules_as_they_are_then() {
    let mut fake = expired(&observe(), &weighted(5));
    set_rules(&mut fake, weighted_rules()).unwrap();
    logged(|| revert(&mut fake));
    assert_eq!(fake.provided(), observe());
    assert_eq!(fake.rules, weighted_rules());
    fake.assert_true();
}
