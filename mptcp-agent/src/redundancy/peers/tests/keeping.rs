//! Tests of channels over time: kept, lost and found again; and of agents that
//! restart.

use std::collections::BTreeSet;

use super::*;
use crate::redundancy::peers::Notice;

const CUT: &str = "10.0.2.2";

#[test]
fn a_silent_peer_expires_within_3_s_and_returns() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(5000 * MS);
    for host in &mut network.hosts {
        host.notices.clear();
    }
    network.cut.insert(address(CUT));
    network.run(2000 * MS);
    // The kernel's entry of the other path expires by itself.
    let last = network
        .hosts
        .iter()
        .map(|host| host.channels[&2].expires_ns);
    assert!(last.max().unwrap() <= network.now_ns + 500 * MS);
    network.run(1000 * MS);
    for (host, remote) in [(CLIENT, CUT), (SERVER, "10.0.2.1")] {
        let host = &network.hosts[host];
        assert_eq!(host.ready(1, network.now_ns), 1);
        assert_eq!(host.carriers[&1].carriers[1].cookie, 11, "still listed");
        let counts = host.peers.counts(network.now_ns);
        assert_eq!((counts.proven, counts.silent), (1, 1));
        let silent = host.peers.silent_devices(network.now_ns);
        assert_eq!(silent, BTreeSet::from([4]));
        let remote = address(remote);
        assert_eq!(host.notices, [Notice::Silent { remote }]);
    }
    network.run(5000 * MS);
    network.cut.clear();
    // A silent peer gets a hello each 500 ms.
    network.run(510 * MS);
    for (host, remote) in [(CLIENT, CUT), (SERVER, "10.0.2.1")] {
        let host = &network.hosts[host];
        assert_eq!(host.ready(1, network.now_ns), 2);
        let remote = address(remote);
        assert_eq!(host.notices[1..], [Notice::Proven { remote }]);
    }
}

#[test]
fn a_peer_that_stays_silent_is_asked_less_often() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(5000 * MS);
    // The new agent does not know the connection.
    network.restart(SERVER, 777);
    network.run(2600 * MS);
    // It is silent everywhere, which is no device's fault.
    let client = &network.hosts[CLIENT].peers;
    assert!(client.silent_devices(network.now_ns).is_empty());
    let mut asked = |seconds: u64| {
        let before = network.sent_to(address(CUT)).len();
        network.run(seconds * 1000 * MS);
        network.sent_to(address(CUT)).len() - before
    };
    assert!((18..=21).contains(&asked(10)));
    assert!((5..=7).contains(&asked(12)));
    network.hosts[CLIENT].peers.closed(11, network.now_ns);
    network.run(MS);
    let said = network.sent_to(address(CUT)).len();
    network.run(20_000 * MS);
    assert_eq!(network.sent_to(address(CUT)).len(), said);
}

#[test]
fn loss_of_a_fifth_silences_nobody() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    network.loss = 20;
    network.run(300_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.notices.len(), 2, "{:?}", host.notices);
    }
}

#[test]
fn a_long_way_is_no_hindrance() {
    let mut network = pair();
    network.delay_ns = 450 * MS;
    network.connect(TWO_PATHS);
    network.run(60_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
        assert_eq!(host.notices.len(), 2, "{:?}", host.notices);
    }
}

#[test]
fn an_agent_that_restarts_is_proven_anew() {
    for (restarted, other) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
        let mut network = pair();
        let all = (1..=50).map(|number| Connect {
            number,
            ..TWO_PATHS
        });
        all.clone().for_each(|connect| network.connect(connect));
        network.run(5000 * MS);
        network.restart(restarted, 777);
        for connect in all {
            let server = restarted == SERVER;
            network.announce_to(connect, server);
            for subflow in 0..2 {
                network.join_at(connect, subflow, server);
            }
        }
        network.run(1500 * MS);
        for host in &network.hosts {
            assert_eq!(host.channels.len(), 2);
            for connection in 1..=50 {
                assert_eq!(host.ready(connection, network.now_ns), 2);
            }
        }
        let peers = network.hosts[other].carriers.values();
        assert!(peers.into_iter().all(|carriers| carriers.peer == 777));
        let counts = network.hosts[other].peers.counts(network.now_ns);
        assert_eq!((counts.proven, counts.silent, counts.asking), (2, 0, 0));
    }
}

#[test]
fn a_connection_that_only_the_client_has_does_not_silence_others() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    let other = Connect {
        number: 2,
        ..TWO_PATHS
    };
    network.connect(other);
    network.run(5000 * MS);
    // The client's hellos are about the first connection, so that one goes.
    network.hosts[SERVER].peers.closed(10, network.now_ns);
    network.hosts[SERVER].peers.closed(11, network.now_ns);
    for host in &mut network.hosts {
        host.notices.clear();
    }
    network.run(20_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(2, network.now_ns), 2);
        assert_eq!(host.notices, []);
    }
}

#[test]
fn a_subflow_takes_its_channel_to_another_device() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(100 * MS);
    let client = &mut network.hosts[CLIENT];
    let channel = client.channel_of(1, 10).unwrap();
    let moved = crate::redundancy::peers::SubflowInfo {
        cookie: 10,
        connection: 1,
        tuple: client.peers.connections.subflow(10).unwrap().tuple,
        ifindex: 9,
        path: 0,
    };
    client.peers.subflow(moved, network.now_ns);
    network.run(MS);
    assert_eq!(network.hosts[CLIENT].channels[&channel].ifindex, 9);
    network.run(5000 * MS);
    assert_eq!(network.hosts[CLIENT].channels[&channel].ifindex, 9);
}
