#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mptcp_api::wish::Manner;
use serde_json::{Value, json};

use super::*;

fn wanted(weights: &[(&str, u16)]) -> Wanted {
    let weights = weights.iter();
    Wanted {
        peer: 7,
        manner: Manner {
            spill: true,
            per_connection: false,
        },
        weights: weights
            .map(|(text, weight)| (text.parse().unwrap(), *weight))
            .collect(),
    }
}

fn rules(given: Value) -> Rules {
    Rules::new(serde_json::from_value(given).unwrap(), &Rules::default()).unwrap()
}

fn policy(given: Value) -> Policy {
    Policy::new(serde_json::from_value(given).unwrap()).unwrap()
}

#[test]
fn the_operators_own_rules_come_first() {
    let own = rules(json!({
        "policies": {"mine": {"name": "aggregate"}},
        "rules": [{"name": "first", "policy": "mine", "dport": 22}],
    }));
    let wishes = [
        wanted(&[("10.0.1.1", 1), ("fd00::1", 3)]),
        wanted(&[("fd00::2", 9)]),
    ];
    let set = set(&own, &wishes);
    let rules = Rules::new(set, &own).unwrap();
    let names: Vec<_> = rules
        .rules()
        .iter()
        .map(|rule| rule.given.name.clone())
        .collect();
    let expected = ["first", "peer-10.0.1.1", "peer-fd00--2"];
    assert_eq!(names, expected.map(|name| Some(name.to_owned())));
    let dst = &rules.rules()[1].given.dst;
    assert_eq!(dst, &["10.0.1.1", "fd00::1"]);
    let policy = rules.policy(rules.rules()[1].policy).unwrap();
    assert_eq!(
        policy.given().weighted.weights,
        ["remote:10.0.1.1=1", "remote:fd00::1=3"]
    );
    assert_eq!(
        policy.given().weighted.weighted_mode.as_deref(),
        Some("spill")
    );
    // The operator's policy keeps its index.
    assert_eq!(rules.rules()[0].policy, own.rules()[0].policy);
}

#[test]
fn there_is_an_end_to_rules_and_policies() {
    let own = rules(json!({
        "policies": (0..14).map(|n| (format!("p{n}"), json!({"name": "default"})))
            .collect::<serde_json::Map<_, _>>(),
    }));
    let wishes = [wanted(&[("10.0.1.1", 1)]), wanted(&[("10.0.1.2", 1)])];
    assert!(Rules::new(set(&own, &wishes[..1]), &own).is_ok());
    let why = Rules::new(set(&own, &wishes), &own)
        .unwrap_err()
        .to_string();
    assert!(why.contains("16 policies are too many"), "{why}");
}

#[test]
fn a_wish_that_would_break_the_operators_settings_is_refused() {
    let wish = wanted(&[("10.0.1.1", 1), ("10.0.2.1", 3)]);
    let none = Rules::default();
    for (given, expected) in [
        (json!({"name": "default"}), None),
        (
            json!({"name": "weighted", "weights": ["eth0=4", "remote:10.0.0.0/8=1"]}),
            None,
        ),
        (
            json!({"name": "weighted", "weights": ["id:2=4"]}),
            Some("`id:2`"),
        ),
        (
            json!({"name": "overflow", "prefer": ["remote-id:2"]}),
            Some("`remote-id:2`"),
        ),
        (
            json!({"name": "weighted", "weights": ["192.0.2.1=4"]}),
            Some("`192.0.2.1`"),
        ),
        (
            json!({"name": "default", "limits": ["eth0=5mbit"]}),
            Some("limits"),
        ),
        (
            json!({"name": "weighted", "quotas": ["eth0=1GB/day"]}),
            Some("quotas"),
        ),
        (
            json!({"name": "weighted", "leave_out": ["default=loss:5%"]}),
            Some("bounds"),
        ),
    ] {
        let why = conflict(&policy(given.clone()), &none, &wish);
        match expected {
            None => assert_eq!(why, None, "{given}"),
            Some(expected) => assert!(why.unwrap().contains(expected), "{given}"),
        }
    }
    let observe = policy(json!({"name": "default"}));
    let own = |weights: Value| {
        rules(json!({
            "policies": {"mine": {"name": "weighted", "weights": weights}},
            "rules": [{"policy": "mine", "lport": 443}],
        }))
    };
    let why = conflict(&observe, &own(json!(["eth0=4"])), &wish);
    assert!(why.unwrap().contains("rules"), "not on its device any more");
    let same = own(json!(["remote:10.0.1.1=4"]));
    let only = wanted(&[("10.0.1.1", 1)]);
    assert_eq!(conflict(&observe, &same, &only), None);
    let taken = rules(json!({"rules": [{"name": "peer-10.0.1.1", "policy": "default"}]}));
    let why = conflict(&observe, &taken, &wish);
    assert!(why.unwrap().contains("of its own"));
}
