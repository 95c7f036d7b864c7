#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

const FULL: &str = r#"
listen = "127.0.0.1:8684"
max-connections = 100

[path.lte]
device = "wwan0"
limit = "20mbit"

[path.fibre]
address = "10.0.0.0/24"

[policy.default]
policy = "weighted"
weights = { lte = 1, fibre = 4 }

[[rule]]
policy = "default"
dport = [22, "8000-8099"]
"#;

#[test]
fn each_value_knows_its_place() {
    let file = parse(FULL).unwrap();
    let place = |start| Place::of(FULL, start).to_string();
    assert_eq!(place(file.listen.unwrap().start()), "2:10");
    let (name, path) = file.path.last_key_value().unwrap();
    assert_eq!((name.as_str(), place(name.start())), ("lte", "5:7".into()));
    assert_eq!(place(path.limit.as_ref().unwrap().start()), "7:9");
    let policy = file.policy.first_key_value().unwrap().1;
    let weights = policy.weights.as_ref().unwrap();
    let (name, weight) = weights.first_key_value().unwrap();
    assert_eq!((name.as_str(), **weight), ("fibre", 4));
    assert_eq!(
        (place(name.start()), place(weight.start())),
        ("14:22".into(), "14:30".into())
    );
    assert_eq!(place(file.rule[0].start()), "16:1");
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(parse("").unwrap(), File::default());
}

#[test]
fn mistakes_have_their_place() {
    for (text, mistake) in [
        (
            "lisen = 1",
            "1:1: unknown key \"lisen\" (did you mean \"listen\"?)",
        ),
        (
            "[policy.default]\npolicy = \"weighted\"\n  wieghts = {}",
            "3:3: unknown key \"wieghts\" (did you mean \"weights\"?)",
        ),
        (
            "[policy.default]\npolicy = \"weighted\"\nweighted-mode = \"spill\"",
            "3:1: unknown key \"weighted-mode\" (did you mean \"mode\"?)",
        ),
        (
            "[policy.default]\npolicy = \"redundant\"\nredundant_port = 1",
            "3:1: unknown key \"redundant_port\" (did you mean \"port\"?)",
        ),
        (
            "[path.lte]\nnonsense = 1",
            "2:1: unknown key \"nonsense\": expected one of device, address, id, remote-id, \
             remote, remote-port, limit, leave-out, quota, standby",
        ),
        (
            "[path.lte]\n\"a`, b\" = 1",
            "2:1: unknown key \"a`, b\": expected one of device, address, id, remote-id, \
             remote, remote-port, limit, leave-out, quota, standby",
        ),
        (
            "[policy.a]\nmode = \"spill\"",
            "1:1: the key \"policy\" is missing",
        ),
        (
            "listen = 8684",
            "1:10: wrong kind of value: integer `8684`, expected a string, or a list of strings",
        ),
        (
            "max-connections = \"many\"",
            "1:19: wrong kind of value: string \"many\", expected a whole number",
        ),
        (
            "listen = [\"a\", 1]",
            "1:16: wrong kind of value: integer `1`, expected a string",
        ),
        ("listen = \"a\"\nlisten = \"b\"", "2:1: duplicate key"),
        ("[path.a]\n[path.b]\n[path.a]", "3:7: duplicate key"),
        (
            "[[rule]]\npolicy = \"a\"\nport = 1",
            "3:1: unknown key \"port\" (did you mean \"dport\"?)",
        ),
        ("é = [", "1:6: unclosed array"),
        ("listen = \"a", "1:12: invalid basic string"),
    ] {
        let said = parse(text).unwrap_err().to_string();
        assert!(said.starts_with(mistake), "{text}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = "#".repeat(LONGEST);
    assert!(parse(&long).is_ok());
    let said = parse(&(long + "#")).unwrap_err().to_string();
    assert!(said.contains("expected at most 1048576"), "{said}");
    let rules = "[[rule]]\npolicy = \"default\"\n";
    assert_eq!(parse(&rules.repeat(MOST_RULES)).unwrap().rule.len(), 64);
    let said = parse(&rules.repeat(MOST_RULES + 1)).unwrap_err();
    assert_eq!(
        said.to_string(),
        "129:1: there are 65 rules: expected at most 64"
    );
    // Neither the stack nor the message grows with what is nested or quoted.
    let nested = format!("listen = {}", "[".repeat(100_000));
    assert!(parse(&nested).is_err());
    let said = parse(&format!("\"{}\" = 1", "k".repeat(9999))).unwrap_err();
    assert!(said.message.len() < 400, "{}", said.message.len());
}

#[test]
fn near_names() {
    let known = ["weights", "mode", "prefer", "leave-out", "id"];
    for (unknown, expected) in [
        ("wieghts", Some("weights")),
        ("weight", Some("weights")),
        ("Leave_Out", Some("leave-out")),
        ("ids", Some("id")),
        ("weighted-mode", Some("mode")),
        ("colour", None),
        ("", None),
    ] {
        assert_eq!(nearest(unknown, known), expected, "{unknown}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}=\".,#a-z0-9 \n-]{0,80}") {
        if let Err(mistake) = parse(&text) {
            prop_assert!(!mistake.to_string().contains(char::is_control));
        }
    }

    #[test]
    fn a_file_that_someone_has_spoilt_makes_it_panic_neither(
        at in 0..FULL.len(), with in "\\PC{0,3}", cut in 0_usize..12,
    ) {
        let mut text = FULL.to_owned();
        text.replace_range(at..(at + cut).min(FULL.len()), &with);
        if let Err(mistake) = parse(&text) {
            prop_assert!(mistake.place.line <= FULL.lines().count() + 1);
        }
    }
}
