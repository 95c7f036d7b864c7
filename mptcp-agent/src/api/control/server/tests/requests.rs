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
