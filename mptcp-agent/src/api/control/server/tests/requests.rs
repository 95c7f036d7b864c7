//! Tests of requests and their answers.

use super::super::*;
use super::fake::{Fake, event, request};

#[tokio::test]
async fn a_policy_is_shown_set_and_refused() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    let Reply::Policy(view) = peer.ask(&request("policy-show")).await else {
        panic!("no policy")
    };
    assert_eq!(view.policy.name, "default");
    let set = r#"{"version":1,"request":"policy-set","policy":
        {"name":"weighted","weights":["eth0=4"]}}"#
        .replace('\n', " ");
    let Reply::Policy(view) = peer.ask(&set).await else {
        panic!("no policy")
    };
    assert_eq!(view.policy.weighted.weights, ["eth0=4"]);

    let (code, why) = peer.refused(&set.replace("=4", "=x")).await;
    assert_eq!(code, ErrorCode::Refused);
    assert!(why.contains("`x` is not a weight"), "{why}");
    let never = set.replace("}}", "},\"for_seconds\":0}");
    assert_eq!(peer.refused(&never).await.0, ErrorCode::Refused);
    let Reply::Policy(view) = peer.ask(&request("policy-show")).await else {
        panic!("no policy")
    };
    assert_eq!(view.policy.weighted.weights, ["eth0=4"]);
}

#[tokio::test]
async fn the_agents_own_refusal_comes_through() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    let (code, why) = peer.refused(&request("status")).await;
    assert_eq!((code, why.as_str()), (ErrorCode::Failed, "no maps"));
}

#[tokio::test]
async fn quotas_are_shown_and_reset() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    let reply = peer.ask(&request("quota-show")).await;
    assert_eq!(reply, Reply::Quotas(mptcp_api::schema::Quotas::default()));
    // The fake refuses each path by its name.
    let reset = r#"{"version":1,"request":"quota-reset","path":"wwan0"}"#;
    let refused = (ErrorCode::Refused, "wwan0".to_owned());
    assert_eq!(peer.refused(reset).await, refused);
    let (code, why) = peer.refused(&request("quota-reset")).await;
    assert_eq!(code, ErrorCode::Malformed);
    assert!(why.contains("`path`"), "{why}");
}

#[tokio::test]
async fn after_an_error_the_connection_goes_on() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    for (line, code) in [
        ("", ErrorCode::Malformed),
        ("status", ErrorCode::Malformed),
        (r#"{"version":1,"request":"reboot"}"#, ErrorCode::Malformed),
        (r#"{"version":2,"request":"status"}"#, ErrorCode::Version),
        ("\u{0}\u{1}", ErrorCode::Malformed),
    ] {
        assert_eq!(peer.refused(line).await.0, code, "{line}");
    }
    // Two lines that are sent at once are two requests.
    let twice = format!("{0}\n{0}\n", request("policy-show"));
    peer.send(&twice).await;
    for _ in 0..2 {
        assert!(matches!(peer.reply().await, Some(Reply::Policy(_))));
    }
}

#[tokio::test]
async fn connections_come_in_parts() {
    for (count, parts) in [
        (0, &[0][..]),
        (1, &[1]),
        (PART, &[PART]),
        (2 * PART + 3, &[PART, PART, 3]),
    ] {
        let fake = Fake::start(Limits::default()).answering(count);
        let mut peer = fake.connect().await;
        peer.send(&format!("{}\n", request("connections"))).await;
        let mut seen = Vec::new();
        loop {
            let Some(Reply::Connections(part)) = peer.reply().await else {
                panic!("no connections")
            };
            seen.push(part.connections.len());
            if part.last {
                break;
            }
        }
        assert_eq!(seen, parts);
    }
}

#[tokio::test]
async fn events_from_the_first_line_on() {
    let fake = Fake::impatient();
    let mut peer = fake.connect().await;
    let Reply::Lost(lost) = peer.ask(&request("events")).await else {
        panic!("no first line")
    };
    assert_eq!((lost.in_ring, lost.to_client), (0, 0));
    for number in 0..3 {
        fake.events.send(event(number)).unwrap();
        assert_eq!(peer.reply().await.as_ref(), Some(&*event(number)));
    }
}

#[tokio::test]
async fn only_root_and_the_agents_user_take_its_place() {
    for (rights, expected) in [(Rights::Use, false), (Rights::All, true)] {
        let access = Access::new(None);
        let fake = Fake::with_access(Limits::default(), access, Some(rights)).answering(0);
        let mut peer = fake.connect().await;
        let reply = peer.ask(&request("hand-over")).await;
        assert_eq!(reply == Reply::HandedOver, expected, "{reply:?}");
        if let Reply::Error(refusal) = reply {
            assert_eq!(refusal.code, ErrorCode::Forbidden);
        }
        assert!(matches!(
            peer.ask(&request("policy-show")).await,
            Reply::Policy(_)
        ));
    }
}

/// Makes a request for the redundant policy with this key file.
fn with_key(path: &std::path::Path) -> String {
    format!(
        "{{\"version\":1,\"request\":\"policy-set\",\"policy\":{{\"name\":\"redundant\",\
         \"redundant_key\":\"{}\"}}}}",
        path.display()
    )
}

#[tokio::test]
async fn only_root_and_the_agents_user_name_a_key_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, [b'k'; 32]).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for rights in [Rights::Use, Rights::All] {
        let access = Access::new(None);
        let fake = Fake::with_access(Limits::default(), access, Some(rights)).answering(0);
        let mut peer = fake.connect().await;
        // A client that may not name a path does not learn what is there
        // either.
        for path in [&path, &directory.path().join("absent")] {
            let reply = peer.ask(&with_key(path)).await;
            match (rights, reply) {
                (Rights::All, Reply::Policy(view)) => {
                    assert_eq!(view.policy.redundant.redundant_key.as_ref(), Some(path));
                }
                (Rights::All, Reply::Error(refusal)) => {
                    assert_eq!(refusal.code, ErrorCode::Refused);
                    assert!(refusal.message.contains("No such file"), "{refusal:?}");
                }
                (_, Reply::Error(refusal)) => assert_eq!(
                    (refusal.code, refusal.message.as_str()),
                    (
                        ErrorCode::Forbidden,
                        "only root, and the user that the agent runs as, may name a key file"
                    )
                ),
                (_, other) => panic!("{other:?}"),
            }
        }
        // Both may set the policy itself.
        let plain = r#"{"version":1,"request":"policy-set","policy":{"name":"redundant"}}"#;
        assert!(matches!(peer.ask(plain).await, Reply::Policy(_)));
    }
}

#[tokio::test]
async fn the_configuration_is_reloaded_or_refused_with_the_place() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    let (code, why) = peer.refused(&request("reload")).await;
    assert_eq!(code, ErrorCode::Refused);
    assert!(why.contains("cannot read the configuration"), "{why}");
    fake.configure("max-connections = 5\n[policy.default]\npolicy = \"aggregate\"\n");
    let Reply::Reloaded(reloaded) = peer.ask(&request("reload")).await else {
        panic!("not reloaded")
    };
    assert_eq!(reloaded.policy.policy.name, "aggregate");
    assert_eq!(reloaded.needs_restart, ["max-connections"]);
    fake.configure("[policy.default]\npolicy = \"weighted\"\nwieghts = {}\n");
    let (code, why) = peer.refused(&request("reload")).await;
    assert_eq!(code, ErrorCode::Refused);
    let place = "config.toml:3:1: unknown key \"wieghts\" (did you mean \"weights\"?)";
    assert!(why.ends_with(place), "{why}");
    let Reply::Policy(view) = peer.ask(&request("policy-show")).await else {
        panic!("no policy")
    };
    assert_eq!(view.policy.name, "aggregate");
}

#[tokio::test]
async fn a_policy_is_saved_for_good_only() {
    const SET: &str =
        r#"{"version":1,"request":"policy-set","save":true,"policy":{"name":"aggregate"}}"#;
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    // Without the file there is nothing to save to, and nothing changes.
    assert_eq!(peer.refused(SET).await.0, ErrorCode::Refused);
    fake.configure("# mine\n[policy.default]\npolicy = \"default\"\n");
    let brief = SET.replace("\"save\"", "\"for_seconds\":9,\"save\"");
    let (code, why) = peer.refused(&brief).await;
    assert_eq!(
        (code, why.contains("cannot be saved")),
        (ErrorCode::Refused, true)
    );
    let Reply::Policy(view) = peer.ask(&request("policy-show")).await else {
        panic!("no policy")
    };
    assert_eq!(view.policy.name, "default");
    assert!(matches!(peer.ask(SET).await, Reply::Policy(_)));
    let saved = "# mine\n[policy.default]\npolicy = \"aggregate\"\n";
    assert_eq!(fake.configuration(), saved);
}

#[tokio::test]
async fn those_who_may_not_name_files_neither_reload_nor_save() {
    for line in [
        request("reload"),
        r#"{"version":1,"request":"policy-set","save":true,"policy":{"name":"default"}}"#
            .to_owned(),
    ] {
        let access = Access::new(None);
        let fake = Fake::with_access(Limits::default(), access, Some(Rights::Use)).answering(0);
        fake.configure("");
        let mut peer = fake.connect().await;
        assert_eq!(peer.refused(&line).await.0, ErrorCode::Forbidden);
        assert_eq!(fake.configuration(), "");
    }
}

/// Makes a request for these rules.
fn rules_set(rules: &str) -> String {
    format!("{{\"version\":1,\"request\":\"rules-set\",\"rules\":{rules}}}")
}

#[tokio::test]
async fn rules_are_checked_before_the_agent_hears_of_them() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    let good = r#"{"policies":{"a":{"name":"default"}},"rules":[{"policy":"a","dport":1}]}"#;
    assert!(matches!(peer.ask(&rules_set(good)).await, Reply::Rules(_)));
    for (rules, code, why) in [
        (
            r#"{"rules":[{"policy":"b"}]}"#,
            ErrorCode::Refused,
            "rule 1: policy: there is no policy `b`",
        ),
        (
            r#"{"policies":{"a":{"name":"weighted","weights":["x"]}}}"#,
            ErrorCode::Refused,
            "policy `a`: `weights`",
        ),
        (r#"{"rules":[{"port":1}]}"#, ErrorCode::Malformed, ""),
    ] {
        let (found, said) = peer.refused(&rules_set(rules)).await;
        assert_eq!(found, code, "{said}");
        assert!(said.starts_with(why), "{said}");
    }
}

#[tokio::test]
async fn rules_that_name_a_file_need_more_rights() {
    let rules = r#"{"policies":{"a":{"name":"redundant","redundant_key":"/nonexistent"}}}"#;
    for (rights, code) in [
        (Rights::Use, ErrorCode::Forbidden),
        (Rights::All, ErrorCode::Refused),
    ] {
        let access = Access::new(None);
        let fake = Fake::with_access(Limits::default(), access, Some(rights)).answering(0);
        let mut peer = fake.connect().await;
        assert_eq!(peer.refused(&rules_set(rules)).await.0, code);
    }
}
