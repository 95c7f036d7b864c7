#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

fn status() -> Status {
    let path = |name: &str, weight: u16, subflows: u64, alive: u64| {
        json!({
            "path": name, "listed": true, "present": name != "usb0", "device": name,
            "addresses": ["10.0.0.1", "fd00::1"], "subflows": subflows, "alive": alive,
            "weight": weight, "share": 0.8, "rtt_seconds": 0.0305,
            "sent_bytes_per_second": 5_000_000.0, "acked_bytes_per_second": 4_900_000.0,
            "received_bytes_per_second": 10.0, "retransmitted_segments": 12,
        })
    };
    serde_json::from_value(json!({
        "agent": {"version": "0.1.0", "commit": "abc", "pid": 7, "uptime_seconds": 3725.2,
                  "listen": "127.0.0.1:8684", "outlived": true},
        "policy": {"policy": {"name": "weighted", "weighted_mode": "strict",
                              "weights": ["eth0=4"]}, "backend": "pacing"},
        "hooks": [
            {"program": "sockops", "purpose": "subflows", "attached": true},
            {"program": "iter_tcp", "purpose": "older connections", "attached": false,
             "reason": "no such hook"},
        ],
        "paths": [path("eth0", 4, 3, 3), path("wwan0", 0, 3, 2), path("usb0", 1, 0, 0)],
        "connections": 3, "subflows": 6, "events_lost": 0, "map_full": 0,
    }))
    .unwrap()
}

fn at(width: usize) -> String {
    let terminal = Terminal {
        width: Some(width),
        colours: false,
    };
    text(terminal, &status())
}

const HEAD: &str = "\
agent         0.1.0 (commit abc), pid 7, up 1h 2m
policy        weighted --weighted-mode strict --weight eth0=4 (backend pacing)
metrics       http://127.0.0.1:8684/metrics
connections   3, subflows 6
lost          0 events, 0 connections and subflows that found their map full
dead man      limits are lifted even if the agent is killed

";

/// Returns the tables. The text before them is the same at every width.
fn below_head(text: String) -> String {
    text.strip_prefix(HEAD).unwrap().to_owned()
}

#[test]
fn at_60_columns() {
    assert_eq!(
        below_head(at(60)),
        "HOOK      STATE         PURPOSE\n\
         sockops   attached      subflows\n\
         iter_tcp  not attached  older connections\n\
         iter_tcp: no such hook\n\n\
         PATH   STATE    WEIGHT  SHARE        ACKED      RTT\n\
         eth0   alive         4  80.0%  39.2 Mbit/s  30.5 ms\n\
         wwan0  standby       0  80.0%  39.2 Mbit/s  30.5 ms\n\
         usb0   absent        1  80.0%  39.2 Mbit/s  30.5 ms\n\
         (no room for 5 more columns: see --json)\n"
    );
}

#[test]
fn at_100_columns() {
    assert_eq!(
        below_head(at(100)),
        "HOOK      STATE         PURPOSE\n\
         sockops   attached      subflows\n\
         iter_tcp  not attached  older connections\n\
         iter_tcp: no such hook\n\n\
         PATH   STATE    WEIGHT  SHARE        ACKED         SENT  RECEIVED      RTT  SUBFLOWS\n\
         eth0   alive         4  80.0%  39.2 Mbit/s  40.0 Mbit/s  80 bit/s  30.5 ms         3\n\
         wwan0  standby       0  80.0%  39.2 Mbit/s  40.0 Mbit/s  80 bit/s  30.5 ms    2 of 3\n\
         usb0   absent        1  80.0%  39.2 Mbit/s  40.0 Mbit/s  80 bit/s  30.5 ms         0\n\
         (no room for RETRANSMITTED, ADDRESSES: see --json)\n"
    );
}

#[test]
fn at_160_columns() {
    assert_eq!(
        below_head(at(160)),
        "HOOK      STATE         PURPOSE\n\
         sockops   attached      subflows\n\
         iter_tcp  not attached  older connections\n\
         iter_tcp: no such hook\n\n\
         PATH   STATE    WEIGHT  SHARE        ACKED         SENT  RECEIVED      RTT  SUBFLOWS  RETRANSMITTED  ADDRESSES\n\
         eth0   alive         4  80.0%  39.2 Mbit/s  40.0 Mbit/s  80 bit/s  30.5 ms         3             12  10.0.0.1, fd00::1\n\
         wwan0  standby       0  80.0%  39.2 Mbit/s  40.0 Mbit/s  80 bit/s  30.5 ms    2 of 3             12  10.0.0.1, fd00::1\n\
         usb0   absent        1  80.0%  39.2 Mbit/s  40.0 Mbit/s  80 bit/s  30.5 ms         0             12  10.0.0.1, fd00::1\n"
    );
}

#[test]
fn what_needs_attention_is_told() {
    let mut status = status();
    status.agent.outlived = false;
    status.agent.not_outlived_because = Some("no bpffs".to_owned());
    status.peers = Some(mptcp_api::schema::Peers {
        proven: 2,
        ..Default::default()
    });
    let shown = text(Terminal::default(), &status);
    assert!(shown.contains("limits stay if the agent is killed: no bpffs"));
    assert!(shown.contains("peers         2 proven, 0 silent"));
    let colours = Terminal {
        colours: true,
        ..Terminal::default()
    };
    let shown = text(colours, &status);
    assert!(shown.contains("\x1b[31mnot attached\x1b[0m"), "{shown}");
    assert!(shown.contains("\x1b[31mabsent\x1b[0m"), "{shown}");
}

#[test]
fn a_path_of_which_nothing_is_heard_is_not_called_alive() {
    let said = |weight: u16, changes: Value| {
        let mut path = json!({
            "path": "wwan0", "listed": true, "present": true, "device": "wwan0",
            "addresses": [], "subflows": 1, "alive": 1, "carrier": true, "weight": weight,
            "heard_seconds": 2.0, "sent_bytes_per_second": 0.0,
            "acked_bytes_per_second": 0.0, "received_bytes_per_second": 0.0,
            "retransmitted_segments": 0,
        });
        for (key, value) in changes.as_object().unwrap() {
            path[key] = value.clone();
        }
        state(&serde_json::from_value(path).unwrap()).1
    };
    assert_eq!(said(1, json!({})), "alive");
    assert_eq!(said(0, json!({})), "standby");
    let loss = json!({"reason": "loss", "tried": false, "for_seconds": 2.0, "loss": 0.071,
                      "loss_bound": 0.05});
    let out = json!({"left_out": loss, "heard_seconds": 95.0});
    assert_eq!(said(1, out), "left out: loss 7.1% of at most 5.0%");
    let rtt = json!({"reason": "rtt", "tried": true, "for_seconds": 2.0, "rtt_seconds": 0.4123,
                     "rtt_bound_seconds": 0.3});
    let tried = json!({"left_out": rtt});
    assert_eq!(
        said(1, tried.clone()),
        "tried again: round trip 412 ms of at most 300 ms"
    );
    let down = json!({"left_out": tried["left_out"], "alive": 0});
    assert_eq!(
        said(1, down),
        "down, tried again: round trip 412 ms of at most 300 ms"
    );
    let quiet = json!({"heard_seconds": 95.0});
    assert_eq!(said(0, quiet.clone()), "standby, unknown for 1m 35s");
    assert_eq!(said(1, quiet), "unknown for 1m 35s");
    assert_eq!(said(0, json!({"heard_seconds": null})), "standby, unknown");
    let receives = json!({"heard_seconds": 95.0, "received_bytes_per_second": 1.0});
    assert_eq!(said(1, receives), "alive");
    assert_eq!(said(0, json!({"carrier": false, "alive": 0})), "no carrier");
    assert_eq!(said(0, json!({"alive": 0})), "down");
}
