#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn weights(given: &[&str]) -> Result<Weights, String> {
    let given: Vec<Weight> = given.iter().map(|text| text.parse().unwrap()).collect();
    Weights::new(&given)
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

#[test]
fn a_policy_takes_no_arguments_of_another() {
    let none = RedundantGiven::default();
    let weight: Weight = "eth0=1".parse().unwrap();
    let spill = Some(WeightedMode::Spill);
    let new = |name, mode, weights: &[Weight], redundant: &RedundantGiven| {
        Policy::new(name, mode, weights, redundant)
    };
    for name in [PolicyName::Default, PolicyName::Redundant] {
        let error = new(name, None, std::slice::from_ref(&weight), &none).unwrap_err();
        assert!(error.contains("choose policy weighted"), "{error}");
        assert!(error.starts_with("--weight has no effect"), "{error}");
        let error = new(name, spill, &[], &none).unwrap_err();
        assert!(
            error.starts_with("--weighted-mode has no effect"),
            "{error}"
        );
    }
    let copies = RedundantGiven {
        copies: Some(2),
        ..RedundantGiven::default()
    };
    for name in [PolicyName::Default, PolicyName::Weighted] {
        let error = new(name, None, &[], &copies).unwrap_err();
        assert!(error.contains("choose policy redundant"), "{error}");
        assert!(error.starts_with("--redundant-copies"), "{error}");
    }
}

#[test]
fn each_policy_has_its_capabilities_and_backend() {
    let none = RedundantGiven::default();
    let new = |name, mode| Policy::new(name, mode, &[], &none).unwrap();
    for (policy, capabilities, name, backend, shown) in [
        (
            new(PolicyName::Default, None),
            0,
            "default",
            "none",
            "default",
        ),
        (
            new(PolicyName::Weighted, Some(WeightedMode::Spill)),
            capability::CAPS | capability::SPILLS,
            "weighted",
            "pacing",
            "weighted (spill)",
        ),
        (
            new(PolicyName::Weighted, None),
            capability::CAPS,
            "weighted",
            "pacing",
            "weighted (strict)",
        ),
        (
            new(PolicyName::Redundant, None),
            capability::COPIES,
            "redundant",
            "copies",
            "redundant (2 copies)",
        ),
    ] {
        assert_eq!(
            (policy.capabilities(), policy.name(), policy.backend()),
            (capabilities, name, backend)
        );
        assert_eq!(policy.to_string(), shown);
    }
}
