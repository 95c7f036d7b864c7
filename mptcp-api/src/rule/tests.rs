use serde_json::json;

use super::*;

fn read(value: serde_json::Value) -> Result<Rule, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn every_key_is_read_and_written_back() {
    let value = json!({
        "name": "mail", "policy": "fast", "dst": ["192.0.2.0/24", "2001:db8::/32"],
        "src": ["10.0.0.1"], "dport": [25, "8000-8099"], "lport": [1], "cgroup": "/system.slice",
        "uid": [1000, "2000-2999"], "fwmark": "0x10/0xff", "dscp": "ef", "side": "client",
        "congestion": "bbr",
    });
    let rule = read(value.clone()).expect("it can be read");
    assert_eq!(
        rule.dport,
        [Number::Of(25), Number::Text("8000-8099".into())]
    );
    assert_eq!(
        serde_json::to_value(&rule).expect("it can be written"),
        value
    );
}

#[test]
fn one_element_needs_no_brackets() {
    let rule = read(json!({"policy": "fast", "dst": "192.0.2.1", "dport": 443, "lport": "80"}));
    let rule = rule.expect("it can be read");
    assert_eq!(rule.dst, ["192.0.2.1"]);
    assert_eq!(rule.dport, [Number::Of(443)]);
    assert_eq!(rule.lport, [Number::Of(80)]);
}

#[test]
fn nothing_but_the_policy_is_needed() {
    let rule = read(json!({"policy": "fast"})).expect("it can be written");
    assert_eq!(
        serde_json::to_value(&rule).expect("it can be written"),
        json!({"policy": "fast"})
    );
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let cases = [
        (json!({}), "missing field `policy`"),
        (json!({"policy": "a", "port": 1}), "unknown field `port`"),
        (
            json!({"policy": "a", "dst": 1}),
            "expected a string, or a list of strings",
        ),
        (
            json!({"policy": "a", "dport": -1}),
            "expected a number from 0 to",
        ),
        (json!({"policy": "a", "dport": [-1]}), "out of range"),
        (
            json!({"policy": "a", "dport": 1.5}),
            "expected a number from 0 to",
        ),
        (json!({"policy": "a", "side": 1}), "expected a string"),
    ];
    for (value, expected) in cases {
        let error = read(value.clone()).expect_err("it is refused");
        assert!(error.contains(expected), "{value}: {error}");
    }
}
