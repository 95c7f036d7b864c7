#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;

/// Returns a policy with every setting that any policy has.
fn everything() -> Given {
    Given {
        name: "weighted".to_owned(),
        default: Observe {},
        weighted: Weighted {
            weighted_mode: Some("strict".to_owned()),
            weights: vec!["eth0=4".to_owned(), "default=2".to_owned()],
        },
        redundant: Redundant {
            redundant_copies: Some(2),
            redundant_port: Some(8684),
            redundant_key: Some("/etc/key".into()),
            redundant_budget: Some("40mbit".to_owned()),
        },
    }
}

fn chosen(given: Value) -> Result<Settings, Invalid> {
    serde_json::from_value::<Given>(given).unwrap().try_into()
}

#[test]
fn every_field_is_a_setting_of_the_same_name() {
    let given = everything();
    let Value::Object(fields) = serde_json::to_value(&given).unwrap() else {
        panic!("no object")
    };
    let values = given.values();
    let settings = values.iter().map(|(setting, _)| setting.field());
    let settings: Vec<_> = ["name"].into_iter().chain(settings).collect();
    assert_eq!(fields.keys().collect::<Vec<_>>(), {
        let mut sorted = settings.clone();
        sorted.sort_unstable();
        sorted
    });
    // All were given, so all have values.
    assert!(values.iter().all(|(_, values)| !values.is_empty()));
    // JSON has them in the same order.
    let text = serde_json::to_string(&given).unwrap();
    let places: Vec<_> = settings
        .iter()
        .map(|field| text.find(&format!("\"{field}\":")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(serde_json::from_str::<Given>(&text).unwrap(), given);
}

#[test]
fn the_policy_of_the_name_is_chosen() {
    let none = Given::default();
    for (given, expected) in [
        (json!({"name": "default"}), Settings::Default(none.default)),
        (
            json!({"name": "weighted"}),
            Settings::Weighted(none.weighted),
        ),
        (
            json!({"name": "redundant", "redundant_port": 1}),
            Settings::Redundant(Redundant {
                redundant_port: Some(1),
                ..Redundant::default()
            }),
        ),
    ] {
        let settings = chosen(given.clone()).unwrap();
        assert_eq!(settings, expected);
        let back = serde_json::to_value(Given::from(settings)).unwrap();
        assert_eq!(back, given);
    }
}

#[test]
fn a_setting_of_another_policy_is_refused() {
    for (name, policy) in [
        ("default", "default, which only observes"),
        ("weighted", "weighted"),
        ("redundant", "redundant"),
    ] {
        for (setting, values) in everything().values() {
            let of = match setting {
                Weighted::MODE | Weighted::WEIGHTS => "weighted",
                _ => "redundant",
            };
            let value = match setting {
                Weighted::WEIGHTS => json!(values),
                Redundant::COPIES | Redundant::PORT => json!(values[0].parse::<u16>().unwrap()),
                _ => json!(values[0]),
            };
            let given = json!({"name": name, setting.field(): value});
            if of == name {
                assert!(chosen(given).is_ok());
                continue;
            }
            let error = chosen(given).unwrap_err();
            assert_eq!(error.setting, setting);
            assert_eq!(
                error.in_fields(),
                format!(
                    "`{0}` has no effect under policy {policy}: choose policy {of}, or leave \
                     `{0}` out",
                    setting.field()
                )
            );
            let error = error.describe(|setting| format!("--{}", setting.field()));
            assert!(error.starts_with("--") && !error.contains('`'), "{error}");
        }
    }
}

#[test]
fn a_name_of_no_policy_is_refused_when_a_policy_is_chosen() {
    // A client shows a policy that only a newer agent knows.
    let given: Given = serde_json::from_value(json!({"name": "fast"})).unwrap();
    let error = Settings::try_from(given).unwrap_err();
    assert_eq!(error.setting, Setting::NAME);
    assert_eq!(
        error.in_fields(),
        "`name` is `fast`: expected one of default, weighted, redundant"
    );
}

#[test]
fn what_is_no_object_of_known_fields_cannot_be_read() {
    for (given, reason) in [
        (json!("weighted"), "expected a map"),
        (json!({}), "missing field `name`"),
        (json!({"name": 1}), "expected a string"),
        (
            json!({"name": "default", "mode": "x"}),
            "unknown field `mode`, expected one of `name`, `weighted_mode`, `weights`, \
             `redundant_copies`, `redundant_port`, `redundant_key`, `redundant_budget`",
        ),
        (
            json!({"name": "weighted", "weights": "eth0=1"}),
            "invalid type: string \"eth0=1\", expected a sequence",
        ),
        (
            json!({"name": "redundant", "redundant_port": 65536}),
            "invalid value: integer `65536`, expected u16",
        ),
    ] {
        let error = serde_json::from_value::<Given>(given).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn only_a_key_is_a_file() {
    assert!(everything().names_a_file());
    let mut given = everything();
    given.redundant.redundant_key = None;
    assert!(!given.names_a_file());
}
