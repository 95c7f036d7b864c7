//! The schema as other programs know it. If one of these strings must change,
//! the protocol changes: see module `schema` for when to raise `VERSION`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mptcp_api::line;
use mptcp_api::schema::{ErrorCode, VERSION};

/// Each kind of reply, with all fields that it can have.
const REPLIES: [&str; 10] = [
    concat!(
        r#"{"version":1,"reply":"policy","policy":{"name":"weighted","weighted_mode":"strict","#,
        r#""weights":["eth0=4"],"redundant_copies":2,"redundant_port":8684,"#,
        r#""redundant_key":"/etc/key","redundant_budget":"40mbit","#,
        r#""leave_out":["eth0=loss:5%,rtt:300ms"],"#,
        r#""limits":["wwan0=20mbit","eth0=none"],"quotas":["wwan0=50GB/month"]},"#,
        r#""backend":"pacing","#,
        r#""then":{"policy":{"name":"default"},"in_seconds":1.5}}"#
    ),
    concat!(
        r#"{"version":1,"reply":"status","agent":{"version":"0.1.0","commit":"abc","pid":7,"#,
        r#""uptime_seconds":2.5,"listen":"127.0.0.1:8684","#,
        r#""listeners":["127.0.0.1:8684","unix:/run/a.sock"],"web_tls":true,"web_auth":false,"#,
        r#""outlived":false,"#,
        r#""not_outlived_because":"no bpffs"},"#,
        r#""policy":{"policy":{"name":"default"},"backend":"none"},"#,
        r#""hooks":[{"program":"sockops","purpose":"subflows","attached":false,"reason":"x"}],"#,
        r#""paths":[{"path":"eth0","listed":true,"present":true,"device":"eth0","#,
        r#""addresses":["10.0.0.1"],"subflows":2,"alive":1,"#,
        r#""carrier":true,"heard_seconds":0.125,"weight":4,"#,
        r#""left_out":{"reason":"loss","tried":true,"for_seconds":1.5,"loss":0.0625,"#,
        r#""loss_bound":0.05,"rtt_seconds":0.5,"rtt_bound_seconds":0.25},"#,
        r#""limit_bytes_per_second":2500000,"quota":{"used_bytes":7,"quota_bytes":9,"#,
        r#""spent":false,"period":"month,reset:15","since":"2026-11-15T00:00:00Z","#,
        r#""until":"2026-12-15T00:00:00Z","count":"device","direction":"both","#,
        r#""action":"standby"},"share":0.5,"target_share":0.75,"#,
        r#""rtt_seconds":0.25,"sent_bytes_per_second":1.0,"acked_bytes_per_second":2.0,"#,
        r#""received_bytes_per_second":3.0,"retransmitted_segments":4,"#,
        r#""scheduler":{"decisions":5,"blocked":6,"candidates":{"eligible":7}},"#,
        r#""copies":{"sent":1,"dropped":2,"received_first":3,"received_duplicate":4,"#,
        r#""rescued_bytes":5}}],"#,
        r#""peers":{"proven":1,"silent":2,"asking":3,"refused":4},"#,
        r#""connections":5,"subflows":6,"events_lost":7,"map_full":8}"#
    ),
    concat!(
        r#"{"version":1,"reply":"connections","connections":[{"token":"00abcdef","#,
        r#""side":"client","fallback":false,"steered":true,"peer_proven":true,"#,
        r#""subflows":[{"cookie":9,"path":"eth0","device":"eth0","local":"10.0.0.1:1","#,
        r#""remote":"10.0.0.2:2","local_id":0,"remote_id":1,"joined":false,"backup":false,"#,
        r#""stale":false,"congestion_locked":true,"alive":true,"#,
        r#""heard_seconds":0.125,"srtt_seconds":0.5,"min_rtt_seconds":0.25,"#,
        r#""cwnd_segments":10,"sent_bytes":1,"acked_bytes":2,"received_bytes":3,"#,
        r#""retransmitted_segments":4,"queued_bytes":5,"share":0.5,"#,
        r#""cap_bytes_per_second":6,"queue_limit_bytes":7,"copies_sent":8}]}],"last":true}"#
    ),
    concat!(
        r#"{"version":1,"reply":"event","time":"2026-11-24T21:14:45.123456Z","#,
        r#""event":"subflow_closed","path":"eth0","token":"00abcdef","local":"10.0.0.1:1","#,
        r#""remote":"10.0.0.2:2","local_id":0,"remote_id":1,"side":"server","#,
        r#""reason":"reset","backup":true,"stale":true,"sent_bytes":1,"acked_bytes":2,"#,
        r#""received_bytes":3,"loss":0.0625,"loss_bound":0.05,"rtt_seconds":0.5,"#,
        r#""rtt_bound_seconds":0.25,"used_bytes":5,"quota_bytes":4,"#,
        r#""until":"2026-12-01T00:00:00Z","cookie":9}"#
    ),
    concat!(
        r#"{"version":1,"reply":"quotas","quotas":[{"path":"wwan0","used_bytes":9,"#,
        r#""quota_bytes":9,"spent":true,"period":"day","since":"2026-11-15T00:00:00Z","#,
        r#""until":"2026-11-16T00:00:00Z","count":"connections","direction":"rx","#,
        r#""action":"warn"}],"file":"/var/lib/mptcp-agent/quota.json","saved":false,"#,
        r#""not_saved_because":"read-only"}"#
    ),
    concat!(
        r#"{"version":1,"reply":"rules","policies":[{"name":"default","policy":"#,
        r#"{"name":"default"},"backend":"none","connections":3}],"rules":[{"number":1,"#,
        r#""rule":{"policy":"default","cgroup":"/a"},"cgroup_missing":true,"connections":1,"#,
        r#""connections_opened":2,"sent_bytes":3,"acked_bytes":4,"received_bytes":5}],"#,
        r#""unmatched":{"connections":6,"connections_opened":7,"sent_bytes":8,"#,
        r#""acked_bytes":9,"received_bytes":10}}"#
    ),
    r#"{"version":1,"reply":"lost","in_ring":1,"to_client":2}"#,
    concat!(
        r#"{"version":1,"reply":"reloaded","policy":{"policy":{"name":"default"},"#,
        r#""backend":"none"},"changed":true,"needs_restart":["listen"],"warnings":["a:1:1: b"]}"#
    ),
    r#"{"version":1,"reply":"handed-over"}"#,
    r#"{"version":1,"reply":"error","code":"too-long","message":"no"}"#,
];

/// Each kind of request, with all fields that it can have.
const REQUESTS: [&str; 13] = [
    r#"{"version":1,"request":"policy-show"}"#,
    concat!(
        r#"{"version":1,"request":"policy-set","policy":{"name":"redundant","#,
        r#""redundant_copies":3},"for_seconds":600}"#
    ),
    concat!(
        r#"{"version":1,"request":"policy-set","policy":{"name":"aggregate","#,
        r#""leave_out":["default=rtt:300ms","eth0=none"]}}"#
    ),
    r#"{"version":1,"request":"policy-set","policy":{"name":"default"},"save":true}"#,
    r#"{"version":1,"request":"reload"}"#,
    r#"{"version":1,"request":"rules-show"}"#,
    concat!(
        r#"{"version":1,"request":"rules-set","rules":{"policies":{"fast":{"name":"redundant"}},"#,
        r#""rules":[{"name":"ssh","policy":"fast","dst":["192.0.2.0/24"],"dport":[22,"8000-8099"],"#,
        r#""fwmark":"0x10/0xff"}]}}"#
    ),
    r#"{"version":1,"request":"status"}"#,
    r#"{"version":1,"request":"connections"}"#,
    r#"{"version":1,"request":"events"}"#,
    r#"{"version":1,"request":"quota-show"}"#,
    r#"{"version":1,"request":"quota-reset","path":"wwan0"}"#,
    r#"{"version":1,"request":"hand-over"}"#,
];

#[test]
fn what_is_written_is_what_was_read() {
    assert_eq!(VERSION, 1);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for expected in REPLIES {
        let reply = line::decode_reply(expected.as_bytes()).unwrap();
        let written = text(line::reply(&reply).unwrap());
        assert_eq!(written, format!("{expected}\n"));
    }
    for expected in REQUESTS {
        let request = line::decode(expected.as_bytes()).unwrap();
        let written = text(line::request(&request).unwrap());
        assert_eq!(written, format!("{expected}\n"));
    }
}

#[test]
fn a_reply_may_have_fields_that_a_client_does_not_know() {
    let newer = r#"{"version":1,"reply":"lost","in_ring":1,"to_client":2,"elsewhere":3}"#;
    assert!(line::decode_reply(newer.as_bytes()).is_ok());
}

#[test]
fn every_code_has_its_name() {
    for (code, name) in [
        (ErrorCode::Malformed, "malformed"),
        (ErrorCode::TooLong, "too-long"),
        (ErrorCode::Version, "version"),
        (ErrorCode::Forbidden, "forbidden"),
        (ErrorCode::Busy, "busy"),
        (ErrorCode::Refused, "refused"),
        (ErrorCode::Failed, "failed"),
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), name);
    }
}
