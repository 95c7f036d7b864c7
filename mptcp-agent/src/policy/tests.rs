#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use mptcp_api::policy::{
    Overflow as OverflowSettings, Redundant as RedundantSettings, Setting,
    Weighted as WeightedSettings,
};
use proptest::prelude::*;
use serde_json::json;

use super::kind::HoldsOut;
use super::weights::MAX_SELECTORS;
use super::*;

/// Checks weights, and says what is wrong as `run` does.
fn weights(given: &[&str]) -> Result<Weights, String> {
    let mut policy = Given::named("weighted");
    policy.weighted.weights = given.iter().map(ToString::to_string).collect();
    let flag = |_: Setting| "--weight".to_owned();
    let policy = Policy::new(policy).map_err(|error| error.describe(flag))?;
    Ok(policy.weights())
}

#[test]
fn a_weight_is_a_selector_and_a_number() {
    for (text, selector, weight) in [
        ("eth0=4", "eth0", 4),
        ("eth0=0", "eth0", 0),
        ("a=b=65535", "a=b", 65535),
        ("fd00::/64=1", "fd00::/64", 1),
        ("id:2=7", "id:2", 7),
        ("default=0", "default", 0),
    ] {
        let parsed: Weight = text.parse().unwrap();
        assert_eq!(
            (parsed.selector.to_string().as_str(), parsed.weight),
            (selector, weight)
        );
    }
    for (text, reason) in [
        ("eth0", "no weight"),
        ("eth0=", "0 (standby) to 65535"),
        ("eth0=-1", "0 (standby) to 65535"),
        ("eth0=+1", "0 (standby) to 65535"),
        ("eth0=1.5", "0 (standby) to 65535"),
        ("eth0=65536", "0 (standby) to 65535"),
        ("=1", "missing"),
        ("10.0.0.1/24=1", "10.0.0.0/24"),
    ] {
        let error = text.parse::<Weight>().unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn weights_are_checked_as_a_whole() {
    assert_eq!(weights(&[]), Ok(Weights::EQUAL));
    let mixed = weights(&["eth0=4", "default=0", "wwan0=0"]).unwrap();
    assert_eq!((mixed.listed.len(), mixed.unlisted), (2, 0));
    // Standby beside unlisted paths, which weigh 1.
    assert!(weights(&["wwan0=0"]).is_ok());

    for (given, reason) in [
        (&["eth0=1", "eth0=2"][..], "same path, `eth0`"),
        (&["10.0.0.1=1", "10.0.0.1/32=1"], "same path, `10.0.0.1`"),
        (
            &["::ffff:10.0.0.1=1", "10.0.0.1=1"],
            "same path, `10.0.0.1`",
        ),
        (&["id:1=1", "id:01=1"], "same path, `id:1`"),
        (
            &["default=1", "eth0=1", "default=1"],
            "same path, `default`",
        ),
        (&["default=0"], "all weights are 0"),
        (&["eth0=0", "default=0"], "all weights are 0"),
    ] {
        let error = weights(given).unwrap_err();
        assert!(error.contains(reason), "{given:?}: {error}");
    }
}

#[test]
fn as_many_selectors_as_there_are_indices() {
    let many = |count: usize| -> Vec<String> { (0..count).map(|n| format!("id:{n}=1")).collect() };
    let texts = |many: &[String]| weights(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(texts(&many(MAX_SELECTORS)).is_ok());
    assert!(
        texts(&many(MAX_SELECTORS + 1))
            .unwrap_err()
            .contains("63 fit")
    );
}

fn read(settings: serde_json::Value) -> Result<Policy, Invalid> {
    Policy::new(serde_json::from_value(settings).unwrap())
}

#[test]
fn a_policy_takes_no_settings_of_another() {
    let flag = |setting: Setting| format!("--{}", setting.field());
    let of = |name: &str, setting: &str, value: &serde_json::Value| {
        let error = read(json!({"name": name, setting: value})).unwrap_err();
        assert!(
            error
                .in_fields()
                .starts_with(&format!("`{setting}` has no effect"))
        );
        error.describe(flag)
    };
    for name in ["default", "redundant"] {
        let error = of(name, "weights", &json!(["eth0=1"]));
        assert!(error.contains("choose policy weighted"), "{error}");
        assert!(error.starts_with("--weights has no effect"), "{error}");
        let error = of(name, "weighted_mode", &json!("spill"));
        assert!(
            error.starts_with("--weighted_mode has no effect"),
            "{error}"
        );
    }
    for name in ["default", "weighted"] {
        for (setting, value) in [
            ("redundant_copies", json!(2)),
            ("redundant_port", json!(9000)),
            ("redundant_key", json!("/etc/key")),
            ("redundant_budget", json!("1mbit")),
        ] {
            let error = of(name, setting, &value);
            assert!(error.contains("choose policy redundant"), "{error}");
            assert!(error.starts_with(&format!("--{setting}")), "{error}");
        }
    }
}

#[test]
fn an_error_says_which_setting_is_wrong() {
    for (given, setting) in [
        (json!({"name": "fast"}), Setting::NAME),
        (
            json!({"name": "weighted", "weighted_mode": "lax"}),
            WeightedSettings::MODE,
        ),
        (
            json!({"name": "weighted", "weights": ["default=0"]}),
            WeightedSettings::WEIGHTS,
        ),
        (
            json!({"name": "redundant", "redundant_copies": 1}),
            RedundantSettings::COPIES,
        ),
        (
            json!({"name": "redundant", "redundant_port": 0}),
            RedundantSettings::PORT,
        ),
        (
            json!({"name": "redundant", "redundant_key": "key"}),
            RedundantSettings::KEY,
        ),
        (
            json!({"name": "redundant", "redundant_budget": "1"}),
            RedundantSettings::BUDGET,
        ),
        (
            json!({"name": "default", "redundant_budget": "1"}),
            RedundantSettings::BUDGET,
        ),
    ] {
        assert_eq!(read(given.clone()).unwrap_err().setting, setting, "{given}");
    }
}

#[test]
fn defaults_are_taken_for_what_was_not_given() {
    let policy = read(json!({"name": "redundant"})).unwrap();
    let settings = policy.copies().unwrap();
    let port = mptcp_common::abi::redundant::DEFAULT_PORT;
    assert_eq!((settings.copies, settings.port), (2, port));
    assert_eq!((&settings.key, settings.budget), (&None, None));
    assert_eq!(read(json!({"name": "default"})).unwrap(), Policy::default());
}

#[test]
fn each_policy_says_what_it_needs_of_the_host() {
    for (given, needs) in [
        (json!({"name": "default"}), Needs::default()),
        (
            json!({"name": "weighted", "weights": ["eth0=1"]}),
            Needs::default(),
        ),
        (
            json!({"name": "weighted", "weights": ["eth0=0"]}),
            Needs {
                holds_out: Some(HoldsOut {
                    what: "a weight of 0 (standby)",
                    instead: "give the path a weight above 0",
                }),
                ..Needs::default()
            },
        ),
        (
            json!({"name": "overflow", "prefer": ["eth0"]}),
            Needs {
                holds_out: Some(HoldsOut {
                    what: "policy overflow",
                    instead: "choose another policy",
                }),
                ..Needs::default()
            },
        ),
        (json!({"name": "aggregate"}), Needs::default()),
        (
            json!({"name": "redundant", "redundant_key": "/etc/key"}),
            Needs {
                key_file: Some("/etc/key".as_ref()),
                ..Needs::default()
            },
        ),
    ] {
        assert_eq!(read(given).unwrap().needs(), needs);
    }
}

#[test]
fn each_policy_has_its_capabilities_and_backend() {
    for (given, capabilities, name, backend, shown) in [
        (json!({"name": "default"}), 0, "default", "none", "default"),
        (
            json!({"name": "weighted", "weighted_mode": "spill"}),
            capability::CAPS | capability::SPILLS,
            "weighted",
            "pacing",
            "weighted (spill)",
        ),
        (
            json!({"name": "weighted"}),
            capability::CAPS,
            "weighted",
            "pacing",
            "weighted (strict)",
        ),
        (
            json!({"name": "overflow", "prefer": ["eth0", "10.0.0.1/32"]}),
            capability::OVERFLOWS,
            "overflow",
            "pacing",
            "overflow (eth0, 10.0.0.1)",
        ),
        (
            json!({"name": "aggregate"}),
            0,
            "aggregate",
            "none",
            "aggregate",
        ),
        (
            json!({"name": "redundant"}),
            capability::COPIES,
            "redundant",
            "copies",
            "redundant (2 copies)",
        ),
        (
            json!({"name": "weighted", "weighted_scope": "host"}),
            capability::CAPS | capability::HOST,
            "weighted",
            "pacing",
            "weighted (strict, host)",
        ),
    ] {
        let policy = read(given).unwrap();
        assert_eq!(
            (policy.capabilities(), policy.name(), policy.backend()),
            (capabilities, name, backend)
        );
        assert_eq!(policy.to_string(), shown);
    }
}

#[test]
fn the_order_of_preference_becomes_weights_and_ranks() {
    let policy = read(json!({"name": "overflow", "prefer": ["eth0", "wwan0"]})).unwrap();
    let Weights { listed, unlisted } = policy.weights();
    let listed: Vec<_> = listed.iter().map(Weight::to_string).collect();
    assert_eq!(
        (listed, unlisted),
        (["eth0=3", "wwan0=2"].map(str::to_owned).into(), 1)
    );
    let ranks = [3, 2, 1].map(|weight| policy.rank(weight));
    assert_eq!(ranks, [Some(1), Some(2), Some(3)]);

    // The paths that are not named can have a place of their own.
    let policy = read(json!({"name": "overflow", "prefer": ["default", "wwan0"]})).unwrap();
    let Weights { listed, unlisted } = policy.weights();
    assert_eq!((listed[0].weight, unlisted), (2, 3));
    assert!(policy.judges() && policy.overflows() && !policy.caps());
    assert_eq!(Policy::default().rank(1), None);
}

#[test]
fn settings_come_back_in_full() {
    for (given, full) in [
        (json!({"name": "default"}), json!({"name": "default"})),
        (
            json!({"name": "weighted", "weights": ["default=2", "10.0.0.1/32=4", "id:01=0"]}),
            json!({"name": "weighted", "weighted_scope": "connection", "weighted_mode": "strict",
                   "weights": ["10.0.0.1=4", "id:1=0", "default=2"]}),
        ),
        (
            json!({"name": "weighted", "weighted_mode": "spill", "weights": ["default=1"]}),
            json!({"name": "weighted", "weighted_scope": "connection", "weighted_mode": "spill"}),
        ),
        (
            json!({"name": "overflow", "prefer": ["10.0.0.1/32", "default", "id:01"]}),
            json!({"name": "overflow", "prefer": ["10.0.0.1", "default", "id:1"]}),
        ),
        (json!({"name": "aggregate"}), json!({"name": "aggregate"})),
        (
            json!({"name": "redundant"}),
            json!({"name": "redundant", "redundant_copies": 2, "redundant_port": 8684}),
        ),
        (
            json!({"name": "redundant", "redundant_key": "/etc/key",
                   "redundant_budget": "40000kbit"}),
            json!({"name": "redundant", "redundant_copies": 2, "redundant_port": 8684,
                   "redundant_key": "/etc/key", "redundant_budget": "40mbit"}),
        ),
    ] {
        let back = read(given).unwrap().given();
        assert_eq!(serde_json::to_value(back).unwrap(), full);
    }
}

#[test]
fn refused_in_the_words_of_the_protocol() {
    let many: Vec<_> = (0..=64).map(|id| format!("id:{id}=1")).collect();
    let ids: Vec<_> = (0..=64).map(|id| format!("id:{id}")).collect();
    for (given, reason) in [
        (
            json!({"name": "fast"}),
            "`name` is `fast`: expected one of default, weighted, overflow, aggregate, redundant",
        ),
        (
            json!({"name": "weighted", "weighted_mode": "Strict"}),
            "expected one of strict, spill",
        ),
        (
            json!({"name": "default", "weights": ["eth0=1"]}),
            "`weights` has no effect under policy default",
        ),
        (
            json!({"name": "weighted", "redundant_port": 1}),
            "`redundant_port` has no effect under policy weighted",
        ),
        (
            json!({"name": "weighted", "weights": ["eth0"]}),
            "`weights`: `eth0` has no weight",
        ),
        (
            json!({"name": "weighted", "weights": ["eth0=1", "eth0=2"]}),
            "two `weights` name the same path",
        ),
        (json!({"name": "weighted", "weights": many}), "too many"),
        (
            json!({"name": "overflow"}),
            "`prefer` is missing: expected at least one path, the preferred one first",
        ),
        (
            json!({"name": "overflow", "prefer": ["eth0", "id:1", "eth0"]}),
            "`prefer` names the path `eth0` more than once: name each path once",
        ),
        (
            json!({"name": "overflow", "prefer": ["10.0.0.1/24"]}),
            "`prefer`: `10.0.0.1/24` has host bits set",
        ),
        (json!({"name": "overflow", "prefer": ids}), "too many"),
        (
            json!({"name": "overflow", "weights": ["eth0=1"]}),
            "`weights` has no effect under policy overflow",
        ),
        (
            json!({"name": "aggregate", "prefer": ["eth0"]}),
            "`prefer` has no effect under policy aggregate",
        ),
        (
            json!({"name": "redundant", "redundant_copies": 5}),
            "`redundant_copies` is 5: expected 2 to 4",
        ),
        (
            json!({"name": "redundant", "redundant_port": 0}),
            "expected 1 to 65535",
        ),
        (
            json!({"name": "redundant", "redundant_key": "key"}),
            "absolute",
        ),
        (
            json!({"name": "redundant", "redundant_budget": "fast"}),
            "`redundant_budget`: `fast` is not a rate",
        ),
    ] {
        let error = read(given).unwrap_err().in_fields();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("--"), "{error}");
    }
}

fn any_policy() -> impl Strategy<Value = Given> {
    let weight = (0_u8..40, 0_u16..).prop_map(|(id, weight)| match id {
        0..20 => format!("id:{id}={weight}"),
        20..30 => format!("10.{id}.0.0/16={weight}"),
        30..39 => format!("eth{id}={weight}"),
        _ => format!("default={weight}"),
    });
    (
        prop::sample::select(vec![
            "default",
            "weighted",
            "overflow",
            "aggregate",
            "redundant",
        ]),
        prop::option::of(prop::sample::select(vec!["strict", "spill"])),
        prop::collection::vec(weight, 0..6),
        prop::option::of(2_u32..=4),
        prop::option::of(1_u16..),
        prop::option::of("/[a-z]{1,9}"),
        prop::option::of((8_u64..1_000_000, prop::sample::select(vec!["kbit", "mbit"]))),
    )
        .prop_map(|(name, mode, weights, copies, port, key, budget)| {
            let (weighted, redundant) = (name == "weighted", name == "redundant");
            let named = weights.iter().filter_map(|weight| weight.split_once('='));
            let named = named.map(|(selector, _)| selector.to_owned()).collect();
            Given {
                name: name.to_owned(),
                weighted: WeightedSettings {
                    weighted_mode: mode.filter(|_| weighted).map(str::to_owned),
                    weighted_scope: None,
                    weights: if weighted {
                        weights.clone()
                    } else {
                        Vec::new()
                    },
                },
                overflow: OverflowSettings {
                    prefer: if name == "overflow" {
                        named
                    } else {
                        Vec::new()
                    },
                },
                redundant: RedundantSettings {
                    redundant_copies: copies.filter(|_| redundant),
                    redundant_port: port.filter(|_| redundant),
                    redundant_key: key.filter(|_| redundant).map(PathBuf::from),
                    redundant_budget: budget
                        .filter(|_| redundant)
                        .map(|(number, unit)| format!("{number}{unit}")),
                },
                ..Given::default()
            }
        })
}

proptest! {
    #[test]
    fn there_and_back(settings in any_policy()) {
        if let Ok(there) = Policy::new(settings) {
            let back = there.given();
            prop_assert_eq!(Policy::new(back.clone()), Ok(there.clone()));
            prop_assert_eq!(there.given(), back);
        }
    }
}
