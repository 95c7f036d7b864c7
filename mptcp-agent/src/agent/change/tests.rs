//! Lets every step of a change fail once, and compares what the agent says with
//! what a fake kernel side then does.
//!
//! ```text
//!   step         what it stands for                          if it fails
//!   stats        reading the paths' totals                   refused
//!   copies       UDP port, tc programs, sockets, random key  refused
//!   start        tc programs may attach                      taken back
//!   publish      writes of maps (each one: kernel/publish)   taken back or mixed
//!   undo         ending what `start` began, on the way back  mixed
//!   visit        a pass over the sockets                     incomplete
//!   stop         end of copies, tc programs detach           incomplete
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;
mod rules;
mod wishes;

use mptcp_api::schema::ErrorCode;
use serde_json::json;

use super::*;
use fake::{Fake, expired, limited, logged, observe, provided, redundant, weighted};

/// A policy in force, a new one, and the steps that lead there.
type Transition = (Provided, Provided, &'static [&'static str]);

fn transitions() -> Vec<Transition> {
    vec![
        (
            observe(),
            weighted(5),
            &["stats", "publish", "visit", "stop"],
        ),
        (
            weighted(5),
            weighted(7),
            &["stats", "publish", "visit", "stop"],
        ),
        (
            observe(),
            limited(5),
            &["stats", "publish", "visit", "stop"],
        ),
        (
            limited(5),
            limited(7),
            &["stats", "publish", "visit", "stop"],
        ),
        (
            weighted(5),
            redundant(2, 1, "k"),
            &["stats", "copies", "start", "publish", "visit", "visit"],
        ),
        (
            redundant(2, 1, "k"),
            weighted(5),
            &["stats", "publish", "visit", "stop", "visit"],
        ),
        // The number of copies is changed, and nothing starts anew.
        (
            redundant(2, 1, "k"),
            redundant(3, 1, "k"),
            &["stats", "publish", "visit", "visit"],
        ),
        // Port and key are what peers were proven with.
        (
            redundant(2, 1, "k"),
            redundant(2, 9, "k"),
            &[
                "stats", "copies", "publish", "visit", "stop", "start", "visit",
            ],
        ),
        (
            redundant(2, 1, "k"),
            redundant(2, 1, "other"),
            &[
                "stats", "copies", "publish", "visit", "stop", "start", "visit",
            ],
        ),
    ]
}

const LASTING: Option<Duration> = Some(Duration::from_secs(60));

#[test]
fn a_change_takes_these_steps() {
    for (before, after, steps) in transitions() {
        let mut fake = Fake::new(&before);
        let (done, log) = logged(|| set(&mut fake, after.clone(), LASTING));
        let view = done.unwrap();
        assert_eq!(*fake.steps.borrow(), steps);
        assert_eq!(fake.provided(), after);
        fake.assert_true();
        assert!(fake.followed && !fake.unpublished);
        assert_eq!(fake.programs, after.policy.copies().is_some());
        assert_eq!(fake.revert.as_ref().unwrap().provided, before);
        assert_eq!(view.policy, after.policy.given());
        assert_eq!(view.backend, after.policy.backend());
        assert_eq!(view.then.unwrap().policy, before.policy.given());
        let expected = format!("INFO policy changed policy={}", after.policy);
        assert!(log[0].starts_with(&expected) && log.len() == 1, "{log:?}");
    }
}

#[test]
fn each_step_fails_once_and_the_answer_and_the_log_are_true() {
    for (before, after, steps) in transitions() {
        for (number, &step) in (1..).zip(steps) {
            for sticks in [false, true] {
                if sticks && step != "publish" {
                    continue;
                }
                let case = format!("{} -> {}: {step} {number}", before.policy, after.policy);
                let mut fake = Fake::new(&before);
                (fake.fails, fake.sticks) = (vec![number], sticks);
                let (done, log) = logged(|| set(&mut fake, after.clone(), LASTING));
                let refusal = done.unwrap_err();
                let why = format!("step {step} fails");
                let written = steps.iter().position(|&step| step == "publish").unwrap() + 1;
                let (code, is_new, message, line) = match step {
                    "stats" | "copies" => (
                        ErrorCode::Refused,
                        false,
                        why.clone(),
                        format!("WARN the policy stays {}: {why}", before.policy),
                    ),
                    "start" | "publish" if number <= written => {
                        let message = match sticks {
                            false => format!(
                                "{why}; what was written is taken back: policy {} is in force",
                                before.policy
                            ),
                            true => format!(
                                "{why}; going back failed, too: stuck; the kernel side holds parts \
                                 of both policies: the agent tries each second to bring policy {} \
                                 back",
                                before.policy
                            ),
                        };
                        let line = format!("ERROR a change of policy failed: {message}");
                        (ErrorCode::Failed, false, message, line)
                    }
                    _ => {
                        let message = format!(
                            "policy {} is in force, but not in full: {why}",
                            after.policy
                        );
                        let line = format!("ERROR a change of policy failed: {message}");
                        (ErrorCode::Failed, true, message, line)
                    }
                };
                assert_eq!((refusal.code, refusal.message), (code, message), "{case}");
                assert_eq!(log, [line], "{case}");

                let expected = if is_new { &after } else { &before };
                assert_eq!(fake.provided(), *expected, "{case}");
                let reverts = fake.revert.as_ref().map(|revert| &revert.provided);
                assert_eq!(reverts, is_new.then_some(&before), "{case}");
                assert_eq!(fake.unpublished, sticks, "{case}");
                if is_new {
                    // Every step was taken all the same.
                    assert_eq!(*fake.steps.borrow(), steps, "{case}");
                    assert!(fake.followed, "{case}");
                } else {
                    assert_eq!(fake.programs, before.policy.copies().is_some(), "{case}");
                    assert!(!fake.followed, "{case}");
                }
                if sticks {
                    assert_eq!(fake.obeyed, None, "{case}");
                    fake.fails.clear();
                    let ((), log) = logged(|| publish_again(&mut fake));
                    let line = format!(
                        "INFO the kernel side has the policy in full again policy={}",
                        before.policy
                    );
                    assert_eq!(log, [line], "{case}");
                    assert!(!fake.unpublished, "{case}");
                }
                fake.assert_true();

                // Nothing stands in the way of the same change.
                (fake.fails, fake.sticks) = (Vec::new(), false);
                set(&mut fake, after.clone(), None).unwrap();
                assert_eq!(fake.provided(), after, "{case}");
                fake.assert_true();
            }
        }
    }
}

#[test]
fn a_way_back_that_fails_is_told() {
    // After `publish`, the copies that were started for nothing do not end.
    for sticks in [false, true] {
        let mut fake = Fake::new(&weighted(5));
        (fake.fails, fake.sticks) = (vec![4, 5], sticks);
        let (done, log) = logged(|| set(&mut fake, redundant(2, 1, "k"), None));
        assert_eq!(
            *fake.steps.borrow(),
            ["stats", "copies", "start", "publish", "stop"]
        );
        let message = done.unwrap_err().message;
        let stuck = if sticks {
            "; going back failed, too: stuck"
        } else {
            ""
        };
        assert_eq!(
            message,
            format!(
                "step publish fails{stuck}; nor did the copies end: step stop fails; the kernel \
                 side holds parts of both policies: the agent tries each second to bring policy \
                 weighted (strict) back"
            )
        );
        assert_eq!(log, [format!("ERROR a change of policy failed: {message}")]);
        assert!(fake.unpublished && !fake.programs && fake.copies.is_none());
        assert_eq!(fake.provided(), weighted(5));

        // It is tried again until it works.
        let tried = fake.steps.borrow().len();
        (fake.fails, fake.sticks) = (vec![tried + 1, tried + 4], true);
        let ((), log) = logged(|| publish_again(&mut fake));
        assert_eq!(
            log,
            [
                "DEBUG the kernel side still lacks the policy: step publish fails; going back \
              failed, too: stuck"
            ]
        );
        assert!(fake.unpublished && fake.obeyed.is_none());
        logged(|| publish_again(&mut fake));
        assert!(!fake.unpublished);
        fake.assert_true();
        // The maps are right, even if no socket can be visited.
        fake.fails = vec![fake.steps.borrow().len() + 2];
        let ((), log) = logged(|| publish_again(&mut fake));
        assert_eq!(
            log,
            [
                "INFO the kernel side has the policy in full again policy=weighted (strict)",
                "DEBUG the policy is not on every open socket yet: step visit fails"
            ]
        );
        fake.assert_true();
    }
}

#[test]
fn every_later_failure_is_told() {
    let mut fake = Fake::new(&redundant(2, 1, "k"));
    fake.fails = vec![4, 5, 6, 7];
    let refusal = set(&mut fake, redundant(2, 9, "k"), None).unwrap_err();
    assert_eq!(
        refusal.message,
        "policy redundant (2 copies) is in force, but not in full: step visit fails; step stop \
         fails; step start fails; step visit fails"
    );
    assert_eq!(fake.provided(), redundant(2, 9, "k"));
    fake.assert_true();
}

#[test]
fn a_temporary_policy_expires() {
    let (before, after) = (redundant(2, 1, "k"), weighted(5));
    let mut fake = expired(&before, &after);
    let ((), log) = logged(|| revert(&mut fake));
    let line =
        "INFO temporary policy expired, previous policy restored policy=redundant (2 copies)";
    assert_eq!(log, [line]);
    assert_eq!((fake.provided(), &fake.revert), (before, &None));
    fake.assert_true();
    // There is nothing more to bring back.
    let ((), log) = logged(|| revert(&mut fake));
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn the_last_permanent_policy_comes_back() {
    let mut fake = expired(&observe(), &weighted(5));
    set(&mut fake, weighted(7), LASTING).unwrap();
    assert_eq!(fake.revert.as_ref().unwrap().provided, observe());
    // A change that is refused leaves it.
    fake.fails = vec![fake.steps.borrow().len() + 1];
    set(&mut fake, weighted(9), None).unwrap_err();
    assert_eq!(fake.revert.as_ref().unwrap().provided, observe());
    set(&mut fake, weighted(9), None).unwrap();
    assert_eq!(fake.revert, None);
}

#[test]
fn each_step_of_coming_back_fails_once_and_the_log_is_true() {
    for (before, after, steps) in transitions() {
        // The way back from `from` to `to` has the steps of the transition.
        let (to, from) = (after, before);
        for (number, &step) in (1..).zip(steps) {
            for sticks in [false, true] {
                if sticks && step != "publish" {
                    continue;
                }
                let case = format!("{} -> {}: {step} {number}", from.policy, to.policy);
                let mut fake = expired(&to, &from);
                (fake.fails, fake.sticks) = (vec![number], sticks);
                let start = Instant::now();
                let ((), log) = logged(|| revert(&mut fake));
                let written = steps.iter().position(|&step| step == "publish").unwrap() + 1;
                let is_new = number > written;
                let stays = format!(
                    "ERROR the policy before cannot come back yet, and {} stays: step {step} fails",
                    from.policy
                );
                let again = format!("policy={}", to.policy);
                let full = format!(
                    "ERROR policy {} is in force, but not in full: step {step} fails",
                    to.policy
                );
                assert_eq!(log.len(), 1, "{case}: {log:?}");
                if is_new {
                    assert_eq!(log, [full], "{case}");
                    assert_eq!((fake.provided(), &fake.revert), (to.clone(), &None));
                } else {
                    assert!(log[0].starts_with(&stays), "{case}: {log:?}");
                    assert!(log[0].ends_with(&again), "{case}: {log:?}");
                    assert_eq!(log[0].contains("parts of both policies"), sticks, "{case}");
                    assert_eq!(fake.provided(), from, "{case}");
                    let revert = fake.revert.as_ref().unwrap();
                    assert_eq!(revert.provided, to, "{case}");
                    assert!(revert.at >= start + AGAIN, "{case}");
                }
                assert_eq!(fake.unpublished, sticks, "{case}");

                // The next attempt, ten seconds later, brings it back.
                (fake.fails, fake.sticks) = (Vec::new(), false);
                logged(|| revert(&mut fake));
                assert_eq!((fake.provided(), &fake.revert), (to.clone(), &None));
                assert!(!fake.unpublished, "{case}");
                fake.assert_true();
            }
        }
    }
}

#[test]
fn more_paths_than_indices_are_refused() {
    let many = |kind: &str| -> Provided {
        let weights: Vec<_> = (0..63).map(|id| format!("{kind}:{id}=1")).collect();
        provided(json!({"name": "weighted", "weights": weights}), "")
    };
    let mut fake = Fake::new(&many("id"));
    // All of them have open subflows, so none can make way.
    fake.live = 1;
    let (done, log) = logged(|| set(&mut fake, many("remote-id"), LASTING));
    let refusal = done.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Refused);
    assert_eq!(
        log,
        [format!(
            "WARN the policy stays weighted (strict): {}",
            refusal.message
        )]
    );
    assert_eq!((fake.provided(), &fake.revert), (many("id"), &None));
    assert_eq!(*fake.steps.borrow(), ["stats"]);
    fake.assert_true();
    fake.live = 0;
    set(&mut fake, many("remote-id"), LASTING).unwrap();
    assert!(!fake.recycled.is_empty());
    fake.assert_true();
}

#[test]
fn a_path_whose_quota_is_spent_rests_from_the_first_moment_of_a_policy_on() {
    use mptcp_api::saved::{Account, Bytes};

    let policy = |quotas: &[&str]| -> Provided {
        let weights = ["id:1=3", "id:2=1"];
        let given = json!({"name": "weighted", "weights": weights, "quotas": quotas});
        provided(given, "")
    };
    let mut fake = Fake::new(&policy(&[]));
    fake.accounts = Accounts::load(&[Account {
        path: "id:2".to_owned(),
        every: "day".to_owned(),
        end: i64::MAX,
        used: Bytes {
            sent: 5_000_000,
            received: 0,
        },
        ..Account::default()
    }]);
    for (quotas, expected) in [
        (&["id:2=5MB/day"][..], [3, 0]),
        (&["id:1=5MB/day", "id:2=4MB/day"], [3, 0]),
        (&["id:2=5MB/day,action:warn"], [3, 1]),
        (&["id:2=5MB/day,direction:rx"], [3, 1]),
        (&["id:2=6MB/day"], [3, 1]),
        (&["id:2=5MB/day"], [3, 0]),
        (&[], [3, 1]),
    ] {
        set(&mut fake, policy(quotas), None).unwrap();
        assert_eq!(fake.table.weights()[1..3], expected, "{quotas:?}");
        assert_eq!(fake.obeyed, Some(fake.believed()));
    }
}

#[test]
fn only_a_policy_that_is_mixed_is_said_to_be() {
    for (failed, in_force) in [
        (Failed::TakenBack(anyhow!("x")), false),
        (Failed::Incomplete(anyhow!("x")), true),
        (Failed::Mixed(anyhow!("x")), false),
    ] {
        assert_eq!(failed.is_in_force(), in_force);
        let refusal = failed.refusal(&Policy::default());
        assert_eq!(refusal.code, ErrorCode::Failed);
        assert!(refusal.message.contains("policy default"), "{refusal:?}");
        assert_eq!(
            refusal.message.contains("parts of both policies"),
            matches!(failed, Failed::Mixed(_))
        );
    }
}

#[test]
fn a_refusal_is_another_kind_of_answer() {
    let refusal = Refusal::from(Refused(anyhow::anyhow!("no port")));
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (ErrorCode::Refused, "no port")
    );
}
