#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use mptcp_api::schema::Side;
use mptcp_common::abi::rule::Facts;
use mptcp_common::address::octets;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(set: Value) -> Result<Rules, String> {
    let set = serde_json::from_value(set).map_err(|error| error.to_string())?;
    Rules::new(set, &Rules::default()).map_err(|error| error.to_string())
}

fn rule(mut rule: Value) -> Result<Rules, String> {
    rule["policy"] = "default".into();
    read(json!({"rules": [rule]}))
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let cases = [
        (
            json!({"dst": "10.0.0.1/8"}),
            "rule 1: dst: `10.0.0.1/8` has host bits set",
        ),
        (
            json!({"dst": "eth0"}),
            "rule 1: dst: `eth0` is neither an address nor",
        ),
        (
            json!({"src": ["10.0.0.0/33"]}),
            "rule 1: src: `10.0.0.0/33` is not a network",
        ),
        (
            json!({"dport": 0}),
            "rule 1: dport: `0` is neither a number from 1 to 65535",
        ),
        (
            json!({"dport": "70000"}),
            "rule 1: dport: `70000` is neither",
        ),
        (
            json!({"dport": "9-8"}),
            "rule 1: dport: `9-8` ends before it begins",
        ),
        (json!({"lport": "http"}), "rule 1: lport: `http` is neither"),
        (
            json!({"lport": [1, 2, 3, 4, 5, 6, 7, 8, 9]}),
            "rule 1: lport: 9 elements are too many",
        ),
        (
            json!({"uid": "root"}),
            "rule 1: uid: `root` is neither a number from 0",
        ),
        (
            json!({"fwmark": "0x10/0x0f"}),
            "rule 1: fwmark: `0x10/0x0f` matches nothing",
        ),
        (json!({"fwmark": "0xg"}), "rule 1: fwmark: `0xg` is no mark"),
        (json!({"dscp": 64}), "rule 1: dscp: `64` is no code point"),
        (
            json!({"dscp": "af99"}),
            "rule 1: dscp: `af99` is no code point",
        ),
        (json!({"side": "both"}), "rule 1: side: `both` is no side"),
        (
            json!({"congestion": "a name that is long"}),
            "rule 1: congestion: `a name",
        ),
        (
            json!({"cgroup": "system.slice"}),
            "rule 1: cgroup: `system.slice` is no path",
        ),
        (
            json!({"cgroup": "/a/../b"}),
            "rule 1: cgroup: `/a/../b` cannot be",
        ),
        (json!({"name": "a b"}), "rule 1: name: `a b` is no name"),
        (
            json!({"name": "\u{1b}[2J"}),
            "rule 1: name: `\\u{1b}[2J` is no name",
        ),
    ];
    for (given, expected) in cases {
        let error = rule(given.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{given}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let weighted = json!({"name": "weighted", "weights": ["a=1"]});
    let copies = |copies| json!({"name": "redundant", "redundant_copies": copies});
    let many: Vec<Value> = (0..65).map(|_| json!({"policy": "default"})).collect();
    let policies: serde_json::Map<String, Value> = (0..16)
        .map(|number| (format!("p{number}"), weighted.clone()))
        .collect();
    let cases = [
        (
            json!({"rules": [{"policy": "fast"}]}),
            "rule 1: policy: there is no policy `fast`",
        ),
        (json!({"rules": many}), "65 rules are too many: 64 fit"),
        (
            json!({"policies": policies}),
            "16 policies are too many: 15 fit",
        ),
        (
            json!({"policies": {"default": weighted}}),
            "policy `default`: this is what",
        ),
        (
            json!({"policies": {"a b": weighted}}),
            "policy `a b`: `a b` is no name",
        ),
        (
            json!({"policies": {"a": {"name": "default", "limits": ["x=1mbit"]}}}),
            "policy `a`: limits hold for the host",
        ),
        (
            json!({"policies": {"a": {"name": "aggregate", "leave_out": ["x=loss:5%"]}}}),
            "policy `a`: paths are left out for the whole host",
        ),
        (
            json!({"policies": {"a": {"name": "x"}}}),
            "policy `a`: `name` is `x`",
        ),
        (
            json!({"policies": {"a": copies(2), "b": copies(3)}}),
            "policy `b`: its redundant settings differ from those of policy `a`",
        ),
        (
            json!({"rules": [{"policy": "default", "name": "x"}, {"policy": "default", "name": "x"}]}),
            "rule 2: name: `x` is the name of an earlier rule",
        ),
    ];
    for (given, expected) in cases {
        let error = read(given.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{given}: {error}");
    }
}

#[test]
fn a_policy_keeps_its_index_and_a_new_one_takes_a_fresh_one() {
    let set = |names: &[&str]| {
        let policies = names.iter().map(|name| (*name, json!({"name": "default"})));
        let policies: BTreeMap<&str, Value> = policies.collect();
        serde_json::from_value(json!({"policies": policies})).unwrap()
    };
    let first = Rules::new(set(&["b", "c"]), &Rules::default()).unwrap();
    let indices = |rules: &Rules| -> Vec<(String, u32)> {
        let named = rules.named().iter();
        named.map(|one| (one.name.clone(), one.index)).collect()
    };
    assert_eq!(indices(&first), [("b".into(), 1), ("c".into(), 2)]);
    let second = Rules::new(set(&["a", "c"]), &first).unwrap();
    assert_eq!(indices(&second), [("a".into(), 3), ("c".into(), 2)]);
    assert_eq!(
        (second.name(2), second.name(0), second.name(9)),
        ("c", "default", "default")
    );
    let names: Vec<String> = (0..15).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let full = Rules::new(set(&names), &second).unwrap();
    let mut all: Vec<u32> = full.named().iter().map(|one| one.index).collect();
    all.sort_unstable();
    assert_eq!(all, (1..16).collect::<Vec<u32>>());
}

#[test]
fn the_earlier_rules_say_why_they_do_not_match() {
    let rules = read(json!({
        "policies": {"fast": {"name": "redundant"}},
        "rules": [
            {"name": "mail", "policy": "fast", "dport": [25, "8000-8099"], "uid": 8},
            {"policy": "fast", "cgroup": "/system.slice"},
            {"policy": "default", "dst": "192.0.2.0/24"},
            {"policy": "fast"},
        ],
    }));
    let rules = rules.unwrap();
    let candidate = Candidate {
        dst: Some("::ffff:192.0.2.1".parse().unwrap()),
        dport: Some(443),
        cgroup: Some("/system.slice-of-another/x".into()),
        ..Candidate::default()
    };
    let explained = explain(&rules, &candidate);
    let reasons: Vec<_> = explained
        .passed
        .iter()
        .map(|(_, reasons)| reasons)
        .collect();
    assert_eq!(
        reasons,
        [
            &vec![
                "dport is 443, not 25, 8000-8099".to_owned(),
                "uid is not known, and should be 8".to_owned(),
            ],
            &vec!["cgroup is /system.slice-of-another/x, not /system.slice".to_owned()],
        ]
    );
    assert_eq!(explained.rule.map(|rule| rule.number), Some(3));
    assert_eq!(explained.policy, "default");
    let below = Candidate {
        cgroup: Some("/system.slice/x.service".into()),
        ..Candidate::default()
    };
    assert_eq!(explain(&rules, &below).policy, "fast");
}

/// Every cgroup of the random cases, with its id and those above it.
const CGROUPS: [(&str, &[u64]); 4] = [
    ("/", &[1]),
    ("/a", &[2, 1]),
    ("/a/b", &[3, 2, 1]),
    ("/c", &[4, 1]),
];

fn address() -> impl Strategy<Value = IpAddr> {
    // Few enough values that rules often match.
    prop_oneof![
        (0..4_u8, 0..4_u8).prop_map(|(a, b)| IpAddr::from([10, a, 0, b])),
        (0..4_u16, 0..4_u16).prop_map(|(a, b)| IpAddr::from([0xfd00, a, 0, 0, 0, 0, 0, b])),
    ]
}

fn net() -> impl Strategy<Value = String> {
    (address(), 0..=128_u8).prop_map(|(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let net = ipnet::IpNet::new(address, bits.min(most)).unwrap();
        net.trunc().to_string()
    })
}

fn some_of<T: Clone + fmt::Debug>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(values, 1..=8),
    ]
}

fn range(most: u32) -> impl Strategy<Value = String> {
    (1..most, 0..3_u32).prop_map(|(first, more)| format!("{first}-{}", first + more))
}

prop_compose! {
    fn any_rule()(
        dst in some_of(net()),
        src in some_of(net()),
        dport in some_of(range(6)),
        lport in some_of(range(6)),
        uid in some_of(range(6)),
        cgroup in prop::option::of(0..5_usize),
        mark in prop::option::of((0..8_u32, 0..8_u32)),
        dscp in prop::option::of(0..3_u32),
        side in prop::option::of(prop_oneof!["client", "server"]),
        congestion in prop::option::of(prop_oneof!["bbr", "cubic", "bbr2"]),
        policy in 0..3_usize,
    ) -> Value {
        let cgroups = ["/", "/a", "/a/b", "/c", "/not/there"];
        let policy = ["default", "one", "two"][policy];
        let mut rule = json!({
            "policy": policy, "dst": dst, "src": src, "dport": dport,
            "lport": lport, "uid": uid,
        });
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                rule[key] = value;
            }
        };
        set("cgroup", cgroup.map(|index| cgroups[index].into()));
        let mark = mark.map(|(value, mask)| format!("{:#x}/{mask:#x}", value & mask));
        set("fwmark", mark.map(Value::from));
        set("dscp", dscp.map(Value::from));
        set("side", side.map(Value::from));
        set("congestion", congestion.map(Value::from));
        rule
    }
}

prop_compose! {
    fn any_candidate()(
        dst in address(),
        src in address(),
        dport in 1..8_u16,
        lport in 1..8_u16,
        uid in 0..8_u32,
        cgroup in 0..4_usize,
        fwmark in 0..8_u32,
        dscp in 0..3_u32,
        server in any::<bool>(),
        congestion in prop_oneof!["bbr", "cubic"],
    ) -> (Candidate, usize) {
        let candidate = Candidate {
            dst: Some(dst),
            src: Some(src),
            dport: Some(dport),
            lport: Some(lport),
            cgroup: Some(CGROUPS[cgroup].0.to_owned()),
            uid: Some(uid),
            fwmark: Some(fwmark),
            dscp: Some(dscp),
            side: Some(if server { Side::Server } else { Side::Client }),
            congestion: Some(congestion),
        };
        (candidate, cgroup)
    }
}

/// Returns what the programs would know of a connection.
fn facts(candidate: &Candidate, cgroup: usize) -> Facts {
    let facts = Facts::default();
    let set_address = |words: &[mptcp_common::word::Word; 2], address: Option<IpAddr>| {
        let number = u128::from_be_bytes(octets(address.unwrap()));
        words[0].set((number >> 64) as u64);
        words[1].set(number as u64);
    };
    set_address(&facts.remote, candidate.dst);
    set_address(&facts.local, candidate.src);
    facts.remote_port.set(candidate.dport.unwrap().into());
    facts.local_port.set(candidate.lport.unwrap().into());
    facts.uid.set(candidate.uid.unwrap().into());
    facts.mark.set(candidate.fwmark.unwrap().into());
    let place = usize::from(!candidate.dst.unwrap().is_ipv4());
    facts.dscp[place].set(candidate.dscp.unwrap().into());
    facts
        .side
        .set(u64::from(candidate.side == Some(Side::Server)));
    let name = mptcp_common::rule::name(candidate.congestion.as_ref().unwrap().as_bytes());
    facts.congestion[0].set(name[0]);
    facts.congestion[1].set(name[1]);
    for (word, id) in facts.cgroups.iter().zip(CGROUPS[cgroup].1) {
        word.set(*id);
    }
    facts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_programs_agree_with_the_explanation(
        given in prop::collection::vec(any_rule(), 0..12),
        (candidate, cgroup) in any_candidate(),
    ) {
        let set = json!({
            "policies": {"one": {"name": "default"}, "two": {"name": "default"}},
            "rules": given,
        });
        let rules = read(set).unwrap();
        let ids = CGROUPS.iter().map(|(path, ids)| ((*path).to_owned(), ids[0]));
        let told = rules.to_kernel(&ids.collect());
        let facts = facts(&candidate, cgroup);
        let found = told.iter().position(|rule| rule.matches(&facts));
        let explained = explain(&rules, &candidate);
        prop_assert_eq!(found, explained.rule.map(|rule| rule.number - 1));
        let policy = found.map_or(0, |index| told[index].policy);
        prop_assert_eq!(rules.name(policy), explained.policy);
        prop_assert!(explained.passed.iter().all(|(_, reasons)| !reasons.is_empty()));
    }
}
