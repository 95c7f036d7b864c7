#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const OWN: &str = "10.0.1.1:5000";
const PEER: &str = "10.0.1.2:80";

fn socket(local: &str, remote: &str, is_subflow: bool) -> Tcp {
    Tcp {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        listens: false,
        is_subflow,
        inode: 9,
        backoff: 0,
        window_bytes: 100_000,
        rtt_us: 50_000,
        send_buffer_bytes: 300_000,
    }
}

fn own() -> BTreeSet<IpAddr> {
    BTreeSet::from(["10.0.1.1".parse().unwrap()])
}

#[test]
fn plain_connections_are_told_by_who_made_them() {
    let listener = Tcp {
        listens: true,
        ..socket("0.0.0.0:443", "0.0.0.0:0", true)
    };
    let sockets = [
        listener,
        socket(OWN, PEER, false),
        socket(OWN, PEER, true),
        socket("10.0.1.1:443", PEER, false),
        socket(OWN, "127.0.0.1:80", false),
        socket(OWN, "10.0.1.1:80", false),
    ];
    let found = plain(&sockets, &own());
    assert_eq!((found.opened.len(), found.came.len()), (1, 1));
    let found = Ok(found);
    let names = |inodes: &[u32]| {
        assert_eq!(inodes, [9]);
        BTreeSet::from(["curl".to_owned()])
    };
    let finding = plain_tcp(&found, 0, names);
    assert_eq!(finding.result, Verdict::Warning);
    assert!(
        finding
            .seen
            .contains("1 plain TCP connections beside 0 of MPTCP")
    );
    assert!(finding.mend.unwrap().contains("mptcp-agent exec -- curl"));
    assert_eq!(plain_tcp(&found, 1, names).result, Verdict::Ok);
    let unseen = plain_tcp(&Err("x".into()), 0, names);
    assert_eq!(unseen.result, Verdict::Unknown);

    let finding = peers(&found, &Ok(Vec::new()));
    assert_eq!(finding.result, Verdict::Warning);
    assert!(finding.mend.unwrap().starts_with("# on 10.0.1.2: sysctl"));
}

#[test]
fn peers_without_mptcp_are_counted() {
    let connection = |fallback| Mptcp {
        remote: PEER.parse().unwrap(),
        fallback,
    };
    let found = |mptcp: Vec<Mptcp>| peers(&Ok(Plain::default()), &Ok(mptcp));
    assert_eq!(found(vec![connection(false)]).result, Verdict::Ok);
    let finding = found(vec![connection(true), connection(false), connection(true)]);
    assert_eq!(finding.result, Verdict::Warning);
    assert!(finding.seen.contains("2 connections with 10.0.1.2"));
    let unseen = peers(&Ok(Plain::default()), &Err("x".into()));
    assert_eq!(unseen.result, Verdict::Unknown);
}

#[test]
fn a_subflow_is_stuck_if_it_was_so_twice() {
    let with = |backoff| Tcp {
        backoff,
        ..socket(OWN, PEER, true)
    };
    let looks = |before, after| {
        Ok(Twice {
            before: vec![with(before)],
            after: vec![with(after)],
        })
    };
    for (before, after, expected) in [
        (0, 0, Verdict::Ok),
        (5, 0, Verdict::Ok),
        (0, 5, Verdict::Ok),
        (4, 5, Verdict::Warning),
    ] {
        assert_eq!(stale(&looks(before, after), 4, &[]).result, expected);
    }
    let mend = |endpoints: &[&Endpoint]| stale(&looks(4, 4), 4, endpoints).mend.unwrap();
    let expected = "ss -K src 10.0.1.1 sport = :5000 dst 10.0.1.2 dport = :80";
    assert_eq!(mend(&[]), expected);
    let address = "10.0.1.1".parse().unwrap();
    let signal = Endpoint::with_flags(7, address, None, "signal");
    assert_eq!(mend(&[&signal]), expected);
    let subflow = Endpoint::with_flags(7, address, None, "subflow");
    let expected = "ip mptcp endpoint delete id 7 && ip mptcp endpoint add 10.0.1.1 id 7 subflow";
    assert_eq!(mend(&[&subflow]), expected);
}

#[test]
fn a_buffer_is_too_small_if_it_is_full_grown_below_the_window() {
    let limits = |most: u64| Ok(format!("4096 16384 {most}"));
    let one = |window_bytes, send_buffer_bytes| Tcp {
        window_bytes,
        send_buffer_bytes,
        ..socket(OWN, PEER, true)
    };
    for (most, socket, expected) in [
        (4 << 20, one(100_000, 300_000), Verdict::Ok),
        (200_000, one(0, 0), Verdict::Warning),
        (300_000, one(100_000, 300_000), Verdict::Ok),
        (300_000, one(200_000, 300_000), Verdict::Warning),
        // It may still grow.
        (4 << 20, one(200_000, 300_000), Verdict::Ok),
    ] {
        let finding = send_buffers(&limits(most), std::slice::from_ref(&socket));
        assert_eq!(finding.result, expected, "{most} {socket:?}");
    }
    let mend = |window| send_buffers(&limits(300_000), &[one(window, 300_000)]).mend;
    let set = |most| Some(format!("sysctl -w 'net.ipv4.tcp_wmem=4096 16384 {most}'"));
    assert_eq!(mend(200_000), set(4 << 20));
    assert_eq!(mend(3_000_000), set(16 << 20));
    assert_eq!(
        send_buffers(&Ok("1 2".into()), &[]).result,
        Verdict::Unknown
    );
}
