#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

fn subflow(path: &str, acked: u64, changes: &Value) -> Value {
    let mut subflow = json!({
        "cookie": 1, "path": path, "device": path, "local": "10.0.0.1:40000",
        "remote": "192.0.2.1:443", "local_id": 0, "joined": false, "backup": false,
        "stale": false, "alive": true, "srtt_seconds": 0.0125, "cwnd_segments": 10,
        "sent_bytes": acked + 1, "acked_bytes": acked, "received_bytes": 100,
        "retransmitted_segments": 0, "queued_bytes": 0, "share": 0.5, "copies_sent": 0,
    });
    for (key, value) in changes.as_object().unwrap() {
        subflow[key] = value.clone();
    }
    subflow
}

fn some() -> Vec<Connection> {
    let connection = |token: &str, subflows: Vec<Value>| {
        json!({"token": token, "side": "client", "fallback": false, "steered": true,
               "subflows": subflows})
    };
    let all = json!([
        connection("00000002", vec![
            subflow("eth0", 4_000_000, &json!({"remote_id": 0})),
            subflow("wwan0", 1_000_000, &json!({
                "local_id": 2, "cap_bytes_per_second": 125_000, "srtt_seconds": 0.08})),
        ]),
        connection("00000001", vec![
            subflow("eth0", 9_000, &json!({"stale": true, "share": 1.0})),
        ]),
        {"side": "server", "fallback": true, "steered": false, "subflows": []},
    ]);
    serde_json::from_value(all).unwrap()
}

fn at(width: usize) -> String {
    let terminal = Terminal {
        width: Some(width),
        colours: false,
    };
    let mut all = some();
    by(SortKey::Acked, &mut all);
    text(terminal, &all)
}

#[test]
fn at_60_columns() {
    assert_eq!(
        at(60),
        "TOKEN     PATH   LOCAL           STATE    ACKED   SHARE\n\
         00000002  eth0   10.0.0.1:40000  steered  4.00M   50.0%\n\
         00000002  wwan0  10.0.0.1:40000  steered  1.00M   50.0%\n\
         00000001  eth0   10.0.0.1:40000  stale    9.00k  100.0%\n\
         -         -      -               -            -       -\n\
         (no room for 10 more columns: see --json)\n"
    );
}

#[test]
fn at_100_columns() {
    assert_eq!(
        at(100),
        "TOKEN     PATH   LOCAL           REMOTE         STATE       SRTT  ACKED  RECEIVED   SHARE\n\
         00000002  eth0   10.0.0.1:40000  192.0.2.1:443  steered  12.5 ms  4.00M       100   50.0%\n\
         00000002  wwan0  10.0.0.1:40000  192.0.2.1:443  steered  80.0 ms  1.00M       100   50.0%\n\
         00000001  eth0   10.0.0.1:40000  192.0.2.1:443  stale    12.5 ms  9.00k       100  100.0%\n\
         -         -      -               -              -              -      -         -       -\n\
         (no room for SIDE, IDS, CWND, SENT, CAP, QUEUED, RETRANSMITTED: see --json)\n"
    );
}

#[test]
fn at_160_columns() {
    assert_eq!(
        at(160),
        "TOKEN     SIDE    PATH   LOCAL           REMOTE         IDS  STATE       SRTT  CWND  ACKED   SENT  RECEIVED   SHARE          CAP  QUEUED  RETRANSMITTED\n\
         00000002  client  eth0   10.0.0.1:40000  192.0.2.1:443  0/0  steered  12.5 ms    10  4.00M  4.00M       100   50.0%            -       0              0\n\
         00000002  client  wwan0  10.0.0.1:40000  192.0.2.1:443  2/?  steered  80.0 ms    10  1.00M  1.00M       100   50.0%  1.00 Mbit/s       0              0\n\
         00000001  client  eth0   10.0.0.1:40000  192.0.2.1:443  0/?  stale    12.5 ms    10  9.00k  9.00k       100  100.0%            -       0              0\n\
         -         server  -      -               -                -  -              -     -      -      -         -       -            -       -              -\n"
    );
}

#[test]
fn each_key_has_its_order() {
    let order = |sort| {
        let mut all = some();
        by(sort, &mut all);
        let tokens = all.into_iter().map(|connection| connection.token);
        tokens
            .map(|token| token.map_or(0, |token| token.parse().unwrap()))
            .collect::<Vec<u32>>()
    };
    for (sort, expected) in [
        (SortKey::Token, [0, 1, 2]),
        (SortKey::Acked, [2, 1, 0]),
        (SortKey::Sent, [2, 1, 0]),
        (SortKey::Received, [2, 1, 0]),
        (SortKey::Rtt, [2, 1, 0]),
        (SortKey::Share, [1, 2, 0]),
        (SortKey::Subflows, [2, 1, 0]),
        // All values are equal, so the order is by token.
        (SortKey::Retransmitted, [0, 1, 2]),
        (SortKey::Queued, [0, 1, 2]),
    ] {
        assert_eq!(order(sort), expected, "{sort:?}");
    }
}

#[test]
fn the_state_is_what_is_most_worth_knowing() {
    let mut connection = some().remove(0);
    let said = |connection: &Connection, changes: Value| {
        let subflow = subflow("eth0", 1, &changes);
        state(connection, &serde_json::from_value(subflow).unwrap()).1
    };
    assert_eq!(said(&connection, json!({})), "steered");
    assert_eq!(said(&connection, json!({"backup": true})), "backup");
    assert_eq!(said(&connection, json!({"alive": false})), "down");
    assert_eq!(
        said(&connection, json!({"stale": true, "alive": false})),
        "stale"
    );
    assert_eq!(
        said(&connection, json!({"cap_bytes_per_second": 0})),
        "standby"
    );
    connection.steered = false;
    assert_eq!(said(&connection, json!({})), "ok");
    connection.peer_proven = Some(true);
    assert_eq!(said(&connection, json!({})), "copied");
    connection.fallback = true;
    assert_eq!(said(&connection, json!({})), "plain TCP");
}

#[test]
fn nothing_is_said_in_words() {
    assert_eq!(text(Terminal::default(), &[]), "no connections\n");
}

#[test]
fn a_connection_that_lacks_a_subflow_says_so() {
    let mut all = some();
    all[1].subflows_allowed = Some(2);
    all[1].short = true;
    // It has all that it may have.
    all[0].subflows_allowed = Some(2);
    let at = |width, all: &[Connection]| {
        let terminal = Terminal {
            width: Some(width),
            colours: false,
        };
        text(terminal, all)
    };
    assert_eq!(
        at(70, &all),
        "TOKEN     SUBFLOWS  PATH   LOCAL           STATE    ACKED   SHARE\n\
         00000002         -  eth0   10.0.0.1:40000  steered  4.00M   50.0%\n\
         00000002         -  wwan0  10.0.0.1:40000  steered  1.00M   50.0%\n\
         00000001    1 of 2  eth0   10.0.0.1:40000  stale    9.00k  100.0%\n\
         -                -  -      -               -            -       -\n\
         (no room for 10 more columns: see --json)\n\
         1 connection has fewer subflows than this host's endpoints allow (`ip mptcp endpoint`)\n"
    );
    all[0].short = true;
    let narrow = at(40, &all);
    assert!(
        narrow.ends_with(
            "2 connections have fewer subflows than this host's endpoints allow \
             (`ip mptcp endpoint`)\n"
        ),
        "{narrow}"
    );
}
