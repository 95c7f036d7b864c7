//! The page's files and the state as JSON.

use std::net::Ipv4Addr;

use mptcp_api::line;
use mptcp_api::schema::Reply;
use mptcp_common::abi;

use super::*;
use crate::api::control::view;
use crate::net::devices::Present;
use crate::policy::Weights;
use crate::rules::Rules;
use crate::state::paths::PathTable;
use crate::state::snapshot::{Gather, Names};

/// Returns a state with this many connections, the last of which has carried the most.
fn state(connections: u64) -> Snapshot {
    let table = PathTable::new(&Weights::EQUAL);
    let names = Names::new(false, &Rules::default());
    let mut gather = Gather::new(&table, &Present::new(), names, None, 1);
    for number in 1..=connections {
        let mut one = abi::Subflow {
            connection: number,
            acked_bytes: number,
            ..abi::Subflow::default()
        };
        one.tuple.local = abi::mapped_v4(Ipv4Addr::LOCALHOST.octets());
        gather.subflow(number, one);
    }
    Snapshot {
        open: gather.finish(None),
        ..Snapshot::default()
    }
}

/// Answers looks with a state of this many connections, and counts them.
fn show(connections: u64) -> (SocketAddr, Arc<std::sync::atomic::AtomicU32>) {
    let (address, mut requests) = start(Duration::from_secs(10));
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let looks = Arc::clone(&count);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            if let Request::Look(reply) = request {
                looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                drop(reply.send(Ok(Box::new(state(connections)))));
            }
        }
    });
    (address, count)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn the_state_is_that_of_the_control_socket() {
    let (address, _) = show(3);
    let state = state(3);
    let policy = &state.policy.policy;
    for (what, reply) in [
        ("status", Reply::Status(Box::new(view::status(&state)))),
        ("policy", Reply::Policy(view::policy(&state.policy))),
        ("quotas", Reply::Quotas(view::quotas(&state.quotas))),
        ("rules", Reply::Rules(control::rules(&state.rules, policy))),
    ] {
        let answer = fetch(address, &format!("GET /api/v1/{what}")).await;
        assert!(
            answer.contains("content-type: application/json"),
            "{answer}"
        );
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        let line = String::from_utf8(line::reply(&reply).unwrap()).unwrap();
        assert_eq!(body(&answer), line, "{what}");
    }
}

#[tokio::test]
async fn connections_are_the_busiest_and_all_are_counted() {
    let (address, _) = show(60);
    for (query, expected) in [("", 50), ("?top=3", 3), ("?top=1000", 60)] {
        let answer = fetch(address, &format!("GET /api/v1/connections{query}")).await;
        let line = line::decode_reply(body(&answer).as_bytes()).unwrap();
        let Reply::Connections(shown) = line else {
            panic!("{answer}")
        };
        assert_eq!((shown.connections.len(), shown.open), (expected, Some(60)));
        assert!(shown.last);
        let first = &shown.connections[0].subflows[0];
        assert_eq!((first.cookie, first.acked_bytes_per_second), (60, None));
    }
}

#[tokio::test]
async fn whoever_asks_at_the_same_time_shares_a_look() {
    let (address, looks) = show(1);
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(tokio::spawn(fetch(address, "GET /api/v1/status")));
    }
    for one in all {
        assert!(one.await.unwrap().starts_with("HTTP/1.1 200"));
    }
    let looks = looks.load(std::sync::atomic::Ordering::Relaxed);
    assert!(looks < 5, "{looks} looks");
}

#[tokio::test]
async fn trouble_with_a_look_is_told() {
    let (address, mut requests) = start(Duration::from_secs(10));
    tells_of_trouble(address, &mut requests, "GET /api/v1/status").await;
    drop(requests);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let answer = fetch(address, "GET /api/v1/status").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn no_answer_lets_a_browser_load_anything_from_elsewhere() {
    let (address, requests) = start(Duration::from_secs(10));
    answer(requests);
    let page = fetch(address, "GET /").await;
    let named = page.split('"').filter(|word| word.starts_with("/page/"));
    let files: Vec<String> = named.map(str::to_owned).collect();
    assert!(files.len() >= 3, "{page}");
    let others = ["/", "/metrics", "/api/v1/status", "/else"].map(str::to_owned);
    for file in files.iter().chain(&others) {
        let answer = fetch(address, &format!("GET {file}")).await;
        let is_there = answer.starts_with("HTTP/1.1 200");
        assert_eq!(is_there, file != "/else", "{file}: {answer}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.contains(header), "{file}: {answer}");
        }
        assert!(!answer.contains("unsafe-"), "{file}");
        assert!(!answer.contains("access-control-allow"), "{file}");
    }
}
