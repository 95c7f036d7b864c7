#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

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

#[test]
fn at_60_columns() {
    assert_eq!(at(60), format!("{HEAD}{}", ""));
}

#[test]
fn at_100_columns() {
    assert_eq!(at(100), format!("{HEAD}{}", ""));
}

#[test]
fn at_160_columns() {
    assert_eq!(at(160), format!("{HEAD}{}", ""));
}

#[test]
fn what_needs_attention_is_told() {
    let mut status = status();
    status.agent.outlived = false;
    status.agent.not_outlived_because = Some("no bpffs".to_owned());
    status.peers = Some(crate::control::schema::Peers {
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
