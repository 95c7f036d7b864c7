//! Tests that no client can harm the others, whatever it does.

use super::super::*;
use super::fake::{Fake, SHORT, event, request};
use crate::api::control::EVENT_QUEUE;

#[tokio::test]
async fn a_line_that_is_too_long_ends_it() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peer = fake.connect().await;
    // The longest line that is still read is malformed, but does no harm.
    let longest = "x".repeat(line::LONGEST_REQUEST);
    assert_eq!(peer.refused(&longest).await.0, ErrorCode::Malformed);
    peer.send(&format!("{longest}x")).await;
    match peer.reply().await {
        Some(Reply::Error(refusal)) => assert_eq!(refusal.code, ErrorCode::TooLong),
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.reply().await, None);
}

#[tokio::test]
async fn a_line_without_its_newline_is_no_request() {
    let fake = Fake::start(Limits::default()).answering(0);
    for unfinished in ["", "{\"version\":1,", &request("policy-show")] {
        let mut peer = fake.connect().await;
        peer.send(unfinished).await;
        peer.finish().await;
        assert_eq!(peer.reply().await, None, "{unfinished}");
    }
    // The agent answers the requests that came before it.
    let mut peer = fake.connect().await;
    peer.send(&format!("{0}\n{0}", request("policy-show")))
        .await;
    peer.finish().await;
    assert!(matches!(peer.reply().await, Some(Reply::Policy(_))));
    assert_eq!(peer.reply().await, None);
}

#[tokio::test]
async fn a_listener_may_send_what_it_likes() {
    let fake = Fake::start(Limits::default());
    let mut peer = fake.connect().await;
    peer.ask(&request("events")).await;
    peer.send(&"x".repeat(2 * line::LONGEST_REQUEST)).await;
    for number in 0..3 {
        fake.events.send(event(number)).unwrap();
        assert_eq!(peer.reply().await.as_ref(), Some(&*event(number)));
    }
}

#[tokio::test]
async fn silence_and_half_a_line_are_dropped() {
    let fake = Fake::impatient().answering(0);
    for begun in ["", "{\"version\":1,"] {
        let mut peer = fake.connect().await;
        peer.send(begun).await;
        assert_eq!(peer.reply().await, None);
    }
    // Silence after an answer ends the connection as well.
    let mut peer = fake.connect().await;
    assert!(matches!(
        peer.ask(&request("policy-show")).await,
        Reply::Policy(_)
    ));
    assert_eq!(peer.reply().await, None);
}

#[tokio::test]
async fn one_client_too_many_is_told() {
    let fake = Fake::start(Limits::default()).answering(0);
    let mut peers = Vec::new();
    for _ in 0..Limits::default().clients {
        let mut peer = fake.connect().await;
        peer.ask(&request("policy-show")).await;
        peers.push(peer);
    }
    let mut late = fake.connect().await;
    let Some(Reply::Error(refusal)) = late.reply().await else {
        panic!("it is served")
    };
    assert_eq!(refusal.code, ErrorCode::Busy);
    assert_eq!(late.reply().await, None);
    // The other clients are still served, and a place becomes free when its
    // client leaves.
    peers[0].ask(&request("policy-show")).await;
    peers.pop();
    served(&fake).await;
}

#[tokio::test]
async fn who_closes_while_it_waits_for_events_frees_its_place() {
    let limits = Limits {
        clients: 1,
        ..Limits::default()
    };
    let fake = Fake::start(limits).answering(0);
    let mut peer = fake.connect().await;
    peer.ask(&request("events")).await;
    drop(peer);
    served(&fake).await;
}

/// Waits until a client is served.
async fn served(fake: &Fake) {
    let asked = async {
        loop {
            let mut peer = fake.connect().await;
            // A request that is turned away may find the socket closed.
            if matches!(peer.reply_to("policy-show").await, Some(Reply::Policy(_))) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), asked).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_is_told_of() {
    let limits = Limits {
        answer: SHORT,
        ..Limits::default()
    };
    let fake = Fake::start(limits);
    for name in [
        "policy-show",
        "rules-show",
        "status",
        "connections",
        "hand-over",
    ] {
        let mut peer = fake.connect().await;
        let (code, why) = peer.refused(&request(name)).await;
        assert_eq!(code, ErrorCode::Failed);
        assert_eq!(why, "the agent does not answer");
    }
    // The agent's loop can see that nobody waits for the answer any more.
    let mut fake = fake;
    let Some(Call::PolicyShow(reply)) = fake.calls.recv().await else {
        panic!("no call")
    };
    assert!(reply.is_closed());
}

#[tokio::test]
async fn who_reads_too_slowly_loses_events_and_is_told() {
    let fake = Fake::start(Limits::default());
    let mut slow = fake.connect().await;
    slow.ask(&request("events")).await;
    let count = 4 * EVENT_QUEUE;
    for number in 0..count {
        fake.events.send(event(number)).unwrap();
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < count as u64 {
        match slow.reply().await {
            Some(Reply::Event(event)) => {
                // Events come in order, and none comes twice.
                assert_eq!(event.time, (seen + lost).to_string());
                seen += 1;
            }
            Some(Reply::Lost(gap)) => lost += gap.to_client,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0 && seen >= EVENT_QUEUE as u64, "{seen} {lost}");
}

#[tokio::test]
async fn who_does_not_read_at_all_is_closed() {
    let limits = Limits {
        clients: 1,
        write: SHORT,
        ..Limits::default()
    };
    let fake = Fake::start(limits).answering(20_000);
    let mut deaf = fake.connect().await;
    deaf.send(&format!("{}\n", request("connections"))).await;
    served(&fake).await;
    drop(deaf);
}
