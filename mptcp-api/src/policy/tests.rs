#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;

/// Returns a policy with settings of more than one policy.
fn mixed() -> Given {
    let mut given = Given::named("weighted");
    given.weighted = Weighted {
        weighted_mode: Some("strict".to_owned()),
        weighted_scope: None,
        thin: None,
        weights: vec!["eth0=4".to_owned(), "default=2".to_owned()],
    };
    given.overflow.prefer = vec!["eth0".to_owned()];
    given.redundant = Redundant {
        redundant_copies: Some(2),
        redundant_port: Some(8684),
        redundant_key: Some("/etc/key".into()),
        redundant_budget: Some("40mbit".to_owned()),
    };
    given.shared.limits = vec!["wwan0=20mbit".to_owned()];
    given.shared.quotas = vec!["wwan0=50GB/month".to_owned()];
    given
}

/// Checks that each field of `full`, which has a value for every setting, is a
/// setting of the same name, in the same order.
pub fn check_names(full: &(impl PolicySettings + Serialize)) {
    let values = full.values();
    let text = serde_json::to_string(full).unwrap();
    let fields: Map<String, Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(fields.len(), values.len());
    let places: Vec<_> = values
        .iter()
        .map(|(setting, _)| text.find(&format!("\"{}\":", setting.field())).unwrap())
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert!(values.iter().all(|(_, values)| !values.is_empty()));
}

#[test]
fn no_two_policies_share_a_name() {
    let given = Given::default();
    let values = given.values();
    let mut fields: Vec<_> = values.iter().map(|(setting, _)| setting.field()).collect();
    fields.push(Setting::NAME.field());
    fields.extend(given.all().iter().map(|policy| policy.name()));
    let count = fields.len();
    fields.sort_unstable();
    fields.dedup();
    assert_eq!(fields.len(), count);
}

#[test]
fn settings_lie_beside_the_name() {
    let text = serde_json::to_string(&mixed()).unwrap();
    assert!(text.starts_with(r#"{"name":"weighted","weighted_mode":"strict","weights":["#));
    assert_eq!(serde_json::from_str::<Given>(&text).unwrap(), mixed());
}

fn chosen(given: Value) -> Result<Settings, Invalid> {
    serde_json::from_value::<Given>(given).unwrap().try_into()
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
            json!({"name": "overflow", "prefer": ["eth0", "wwan0"]}),
            Settings::Overflow(Overflow {
                prefer: vec!["eth0".to_owned(), "wwan0".to_owned()],
            }),
        ),
        (
            json!({"name": "aggregate"}),
            Settings::Aggregate(none.aggregate),
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
        ("overflow", "overflow"),
        ("aggregate", "aggregate"),
        ("redundant", "redundant"),
    ] {
        let given = mixed().values().into_iter();
        let given =
            given.filter(|(setting, _)| ![Shared::LIMITS, Shared::QUOTAS].contains(setting));
        for (setting, values) in given.filter(|(_, values)| !values.is_empty()) {
            let of = match setting {
                Weighted::MODE | Weighted::WEIGHTS => "weighted",
                Overflow::PREFER => "overflow",
                _ => "redundant",
            };
            let value = match setting {
                Weighted::WEIGHTS | Overflow::PREFER => json!(values),
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
fn bounds_lie_beside_the_settings_of_the_policies_that_can_leave_paths_out() {
    for (name, refused) in [
        ("default", Some("default, which only observes")),
        ("weighted", None),
        ("overflow", None),
        ("aggregate", None),
        ("redundant", Some("redundant")),
    ] {
        let given = json!({"name": name, "leave_out": ["eth0=loss:5%"]});
        let read: Given = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), given);
        let (setting, values) = read.leave_out.values();
        assert_eq!((setting, values.len()), (LeaveOut::BOUNDS, 1));
        assert!(read.values().contains(&(setting, values)));
        let done = Settings::try_from(read);
        let Some(policy) = refused else {
            assert_eq!(done.unwrap().name(), name);
            continue;
        };
        assert_eq!(
            done.unwrap_err().in_fields(),
            format!(
                "`leave_out` has no effect under policy {policy}: choose policy weighted, \
                 overflow or aggregate, or leave `leave_out` out"
            )
        );
    }
    let given = json!({"name": "weighted", "leave_out": "eth0=loss:5%"});
    let error = serde_json::from_value::<Given>(given).unwrap_err();
    assert!(error.to_string().contains("expected a sequence"), "{error}");
}

#[test]
fn a_setting_of_every_policy_is_taken_beside_those_of_the_policy() {
    check_shared_names(&mixed().shared);
    for name in ["default", "weighted", "overflow", "aggregate", "redundant"] {
        let given = json!({"name": name, "limits": ["wwan0=20mbit"],
                           "quotas": ["wwan0=50GB/month"]});
        let read: Given = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(read.shared, mixed().shared);
        assert_eq!(serde_json::to_value(&read).unwrap(), given);
        assert_eq!(Settings::try_from(read).unwrap().name(), name);
    }
}

/// Checks that each field is a setting of the same name.
fn check_shared_names(full: &Shared) {
    let fields = serde_json::to_value(full).unwrap();
    let fields: Vec<_> = fields.as_object().unwrap().keys().cloned().collect();
    let names = full
        .values()
        .into_iter()
        .map(|(setting, _)| setting.field());
    assert_eq!(fields, names.collect::<Vec<_>>());
}

#[test]
fn a_name_of_no_policy_is_refused_when_a_policy_is_chosen() {
    // A client shows a policy that only a newer agent knows.
    let given: Given = serde_json::from_value(json!({"name": "fast"})).unwrap();
    let error = Settings::try_from(given).unwrap_err();
    assert_eq!(error.setting, Setting::NAME);
    let error = error.in_fields();
    let expected = "`name` is `fast`: expected one of default, weighted, overflow, aggregate, \
                    redundant";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn what_is_no_object_of_known_fields_cannot_be_read() {
    for (given, reason) in [
        (json!("weighted"), "expected a map"),
        (json!({}), "missing field `name`"),
        (json!({"name": 1}), "expected a string"),
        (
            json!({"name": "default", "mode": "x"}),
            "unknown field `mode`, expected one of `name`, `weighted_mode`, \
             `weighted_scope`, `thin`, `weights`, `prefer`, `redundant_copies`, `redundant_port`, \
             `redundant_key`, `redundant_budget`, `leave_out`, `limits`",
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
    assert!(mixed().names_a_file());
    let mut given = mixed();
    given.redundant.redundant_key = None;
    assert!(!given.names_a_file());
}
