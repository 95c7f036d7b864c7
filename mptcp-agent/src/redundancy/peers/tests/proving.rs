//! Tests of proving peers and subflows.

use mptcp_common::abi::redundant::DEFAULT_PORT;

use super::*;
use crate::redundancy::peers::{Counts, Notice, octets};

#[test]
fn two_round_trips_prove_both_ends() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(0);
    assert_eq!(network.hosts[CLIENT].peers.counts(network.now_ns).asking, 2);
    // The first answer proves the server, the second hello the client.
    network.run(2 * MS);
    assert_eq!(network.hosts[CLIENT].ready(1, network.now_ns), 2);
    assert_eq!(network.hosts[SERVER].ready(1, network.now_ns), 0);
    network.run(MS);
    assert_eq!(network.hosts[SERVER].ready(1, network.now_ns), 2);

    for (this, that) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let host = &network.hosts[this];
        assert_eq!(host.carriers[&1].peer, 100 + that as u64);
        assert_eq!(host.views.len(), 0);
        let channel = host.channels[&host.channel_of(1, 10).unwrap()];
        let addresses = ["10.0.1.1", "10.0.1.2"].map(|text| octets(address(text)));
        assert_eq!(
            (channel.local, channel.remote),
            (addresses[this], addresses[that])
        );
        assert_eq!(
            (channel.local_port, channel.remote_port),
            (DEFAULT_PORT, DEFAULT_PORT)
        );
        assert_eq!(channel.ifindex, 3);
        assert_eq!((channel.mtu, channel.path), (0, 0));
        let counts = host.peers.counts(network.now_ns);
        assert_eq!((counts.proven, counts.silent, counts.asking), (2, 0, 0));
        assert_eq!(host.notices.len(), 2);
    }
    // No more messages until the channels must be kept alive.
    let said = network.log.len();
    assert_eq!(said, 2 * 4);
    network.run(400 * MS);
    assert_eq!(network.log.len(), said);
}

#[test]
fn subflows_join_and_leave() {
    let mut network = pair();
    network.announce(TWO_PATHS);
    network.join(TWO_PATHS, 0);
    network.run(100 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 1);
    }
    network.join(TWO_PATHS, 1);
    network.run(100 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
    }
    network.close(TWO_PATHS, 0);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 1);
        assert!(host.peers.knows(1));
    }
    network.close(TWO_PATHS, 1);
    for host in &network.hosts {
        // The channels are kept for the next connection.
        assert_eq!((host.channels.len(), host.carriers.len()), (2, 0));
        assert!(!host.peers.knows(1));
    }
}

#[test]
fn a_hello_that_comes_too_early_is_made_up_for() {
    let mut network = pair();
    network.announce_to(TWO_PATHS, false);
    network.join_at(TWO_PATHS, 0, false);
    network.run(100 * MS);
    let counts = network.hosts[SERVER].peers.counts(network.now_ns);
    assert_eq!((counts.hellos.unknown, counts.hellos.answered), (1, 0));
    // Now the server knows the connection, but not its subflow.
    network.announce_to(TWO_PATHS, true);
    network.run(200 * MS);
    let counts = network.hosts[SERVER].peers.counts(network.now_ns);
    assert_eq!((counts.hellos.unknown, counts.hellos.answered), (2, 0));
    network.join_at(TWO_PATHS, 0, true);
    network.run(400 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 1);
    }
}

#[test]
fn connections_share_a_channel() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    let other = Connect {
        number: 2,
        ..TWO_PATHS
    };
    network.connect(other);
    network.run(100 * MS);
    let said = network.log.len();
    network.run(10_000 * MS);
    // 20 hellos and answers on each of two channels.
    let kept = network.log.len() - said;
    assert!((2 * 2 * 19..=2 * 2 * 20).contains(&kept), "{kept}");
    for host in &network.hosts {
        assert_eq!(host.channels.len(), 2);
        assert_eq!(host.channel_of(1, 10), host.channel_of(2, 20));
        assert_eq!(host.notices.len(), 2);
    }
    network.close(TWO_PATHS, 0);
    network.close(TWO_PATHS, 1);
    network.run(10_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.carriers.len(), 1);
        assert_eq!(host.ready(2, network.now_ns), 2);
    }
}

#[test]
fn many_that_open_at_once_are_proven_at_once() {
    let mut network = pair();
    for number in 1..=300 {
        network.connect(Connect {
            number,
            ..TWO_PATHS
        });
    }
    network.run(10 * MS);
    for host in &network.hosts {
        assert_eq!(host.channels.len(), 2);
        for connection in 1..=300 {
            assert_eq!(host.ready(connection, network.now_ns), 2);
        }
    }
}

#[test]
fn ipv6_and_both_families_at_once() {
    let mut network = Network::default();
    network.host(&["2001:db8:1::1", "10.0.2.1"], b"");
    network.host(&["2001:db8:1::2", "10.0.2.2"], b"");
    network.connect(Connect {
        subflows: &[("2001:db8:1::1", "2001:db8:1::2"), ("10.0.2.1", "10.0.2.2")],
        ..TWO_PATHS
    });
    network.run(100 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
    }
    let channel = network.hosts[CLIENT].channel_of(1, 10).unwrap();
    let channel = network.hosts[CLIENT].channels[&channel];
    assert_eq!(channel.remote, octets(address("2001:db8:1::2")));
}

#[test]
fn both_are_client_and_server() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.connect(Connect {
        number: 2,
        client: SERVER,
        server: CLIENT,
        subflows: &[("10.0.1.2", "10.0.1.1"), ("10.0.2.2", "10.0.2.1")],
    });
    network.run(20_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.channels.len(), 2);
        assert_eq!(host.channel_of(1, 10), host.channel_of(2, 20));
        assert_eq!(host.ready(1, network.now_ns), 2);
        assert_eq!(host.ready(2, network.now_ns), 2);
        assert_eq!(host.peers.counts(network.now_ns).hellos.refused, 0);
    }
}

#[test]
fn without_the_shared_key_nothing_is_proven() {
    let mut network = pair_with_keys(b"sixteen bytes or more", b"other bytes, as many");
    network.connect(TWO_PATHS);
    network.run(5000 * MS);
    for host in &network.hosts {
        assert!(host.channels.is_empty() && host.carriers.is_empty());
    }
    let server = &network.hosts[SERVER];
    let counts = server.peers.counts(network.now_ns);
    // Hellos came at 0, 200, 600, 1500 and 3000 ms on both paths. None was
    // answered.
    assert_eq!((counts.hellos.refused, counts.refused), (10, 2));
    assert_eq!((counts.hellos.answered, counts.hellos.verified), (0, 0));
    let refused = ["10.0.1.1", "10.0.2.1"].map(|remote| Notice::Refused {
        remote: address(remote),
    });
    assert_eq!(server.notices, refused);
    network.hosts[CLIENT].peers.closed(10, network.now_ns);
    network.hosts[CLIENT].peers.closed(11, network.now_ns);
    network.run(31_000 * MS);
    let counts = network.hosts[SERVER].peers.counts(network.now_ns);
    assert_eq!(counts.refused, 0, "no longer lately");
}

#[test]
fn the_same_shared_key_pairs_up() {
    let mut network = pair_with_keys(b"sixteen bytes or more", b"sixteen bytes or more");
    network.connect(TWO_PATHS);
    network.run(100 * MS);
    assert_eq!(network.hosts[SERVER].ready(1, network.now_ns), 2);
}

#[test]
fn where_there_is_no_agent_it_is_asked_less_and_less() {
    let mut network = pair();
    network.announce_to(TWO_PATHS, false);
    network.join_at(TWO_PATHS, 0, false);
    let start = network.now_ns;
    // The server's agent does not know the connection, as if there were none.
    network.run(40_000 * MS);
    let asked = network.sent_to(address("10.0.1.2"));
    let asked: Vec<u64> = asked.iter().map(|(at, _)| (at - start) / MS).collect();
    assert_eq!(asked, [0, 200, 600, 1500, 3000, 6000, 21_000, 36_000]);
    let client = &network.hosts[CLIENT];
    let remote = address("10.0.1.2");
    assert_eq!(client.notices, [Notice::NoAgent { remote }], "once");
    let expected = Counts {
        asking: 1,
        ..Counts::default()
    };
    let counts = client.peers.counts(network.now_ns);
    assert_eq!(
        Counts {
            hellos: expected.hellos,
            ..counts
        },
        expected
    );
}

#[test]
fn a_server_tells_of_clients_without_an_agent() {
    let mut network = pair();
    network.announce_to(TWO_PATHS, true);
    network.join_at(TWO_PATHS, 0, true);
    network.run(5999 * MS);
    assert_eq!(network.hosts[SERVER].notices, []);
    network.run(MS);
    let remote = address("10.0.1.1");
    assert_eq!(network.hosts[SERVER].notices, [Notice::NoAgent { remote }]);
    assert!(network.log.is_empty());
}

#[test]
fn a_connection_that_is_not_whole_is_not_taken() {
    let mut network = pair();
    let info = crate::redundancy::peers::ConnectionInfo {
        key: 1,
        server: false,
        token: 2,
        local_key: 3,
        remote_key: 0,
    };
    let peers = &mut network.hosts[CLIENT].peers;
    peers.connection(info);
    assert!(!peers.knows(1));
    network.join_at(TWO_PATHS, 0, false);
    assert_eq!(network.hosts[CLIENT].peers.next_due_ns(), None);
}

#[test]
fn an_address_of_another_connection_takes_the_old_one_along() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(100 * MS);
    let info = crate::redundancy::peers::ConnectionInfo {
        key: 1,
        server: false,
        token: 2,
        local_key: 3,
        remote_key: 4,
    };
    network.hosts[CLIENT].peers.connection(info);
    network.run(MS);
    let client = &network.hosts[CLIENT];
    assert!(client.peers.knows(1) && client.channels.is_empty() && client.carriers.is_empty());
    assert_eq!(client.peers.next_due_ns(), None);
}
