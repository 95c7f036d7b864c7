//! Tests with a NAT in front of the client.

use mptcp_common::abi::redundant::PeerView;

use super::*;
use crate::redundancy::peers::octets;

/// Creates a network in which the client's addresses are behind a NAT.
fn translated() -> Network {
    let mut network = pair();
    network.inside = ["10.0.1.1", "10.0.2.1"].map(address).into();
    network
}

#[test]
fn the_ends_learn_how_the_other_sees_a_subflow() {
    let mut network = translated();
    network.connect(TWO_PATHS);
    network.run(100 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
        let carriers = host.carriers[&1].carriers;
        assert!(
            carriers
                .iter()
                .all(|carrier| carrier.translated == u32::from(carrier.cookie != 0))
        );
    }
    let (private, public) = (octets(address("10.0.2.1")), octets(address("203.0.113.1")));
    let server = octets(address("10.0.2.2"));
    let at_client = PeerView {
        local: public,
        remote: server,
        local_port: 50_011,
        remote_port: 443,
    };
    let at_server = PeerView {
        local: server,
        remote: private,
        local_port: 443,
        remote_port: 40_011,
    };
    assert_eq!(network.hosts[CLIENT].views[&11], at_client);
    assert_eq!(network.hosts[SERVER].views[&11], at_server);
    // The server sends to the address that the hello came from.
    let channel = network.hosts[SERVER].channel_of(1, 11).unwrap();
    let channel = network.hosts[SERVER].channels[&channel];
    assert_eq!((channel.remote, channel.remote_port), (public, 61_002));

    network.close(TWO_PATHS, 1);
    for host in &network.hosts {
        assert_eq!(host.views.keys().collect::<Vec<_>>(), [&10]);
    }
}

#[test]
fn a_new_mapping_moves_the_channel_with_all_its_subflows() {
    let mut network = translated();
    let one_path = Connect {
        subflows: &[("10.0.1.1", "10.0.1.2")],
        ..TWO_PATHS
    };
    for number in 1..=20 {
        network.connect(Connect { number, ..one_path });
    }
    network.run(100 * MS);
    let server = &network.hosts[SERVER];
    let index = server.channel_of(1, 10).unwrap();
    assert_eq!(server.channels[&index].remote_port, 61_001);
    network.rebind();
    network.run(1000 * MS);
    let server = &network.hosts[SERVER];
    assert_eq!(server.channels.len(), 1);
    assert_eq!(server.channels[&index].remote_port, 61_002);
    for connection in 1..=20 {
        assert_eq!(server.ready(connection, network.now_ns), 1);
    }
    // The channel also moves if a new connection is the first to use the
    // mapping.
    network.rebind();
    let number = 21;
    network.connect(Connect { number, ..one_path });
    network.run(10 * MS);
    let server = &network.hosts[SERVER];
    assert_eq!(server.channels[&index].remote_port, 61_003);
    network.run(5000 * MS);
    for connection in 1..=21 {
        assert_eq!(network.hosts[SERVER].ready(connection, network.now_ns), 1);
    }
}

#[test]
fn two_paths_behind_one_address_are_two_channels() {
    let mut network = translated();
    network.connect(Connect {
        subflows: &[("10.0.1.1", "10.0.1.2"), ("10.0.2.1", "10.0.1.2")],
        ..TWO_PATHS
    });
    network.run(100 * MS);
    network.rebind();
    network.run(5000 * MS);
    let server = &network.hosts[SERVER];
    assert_eq!(server.ready(1, network.now_ns), 2);
    assert_ne!(server.channel_of(1, 10), server.channel_of(1, 11));
}

#[test]
fn two_clients_behind_one_address_are_two_peers() {
    let mut network = translated();
    network.host(&["10.0.1.7"], b"");
    network.inside.insert(address("10.0.1.7"));
    network.connect(TWO_PATHS);
    network.connect(Connect {
        number: 2,
        client: 2,
        server: SERVER,
        subflows: &[("10.0.1.7", "10.0.1.2")],
    });
    network.run(3000 * MS);
    let server = &network.hosts[SERVER];
    assert_eq!(server.ready(1, network.now_ns), 2);
    assert_eq!(server.ready(2, network.now_ns), 1);
    assert_eq!(
        (server.carriers[&1].peer, server.carriers[&2].peer),
        (100, 102)
    );
    assert_ne!(server.channel_of(1, 10), server.channel_of(2, 20));
}

#[test]
fn subflows_that_cannot_be_told_apart_are_left_alone() {
    let mut network = translated();
    network.alike = true;
    network.connect(TWO_PATHS);
    network.run(3000 * MS);
    let server = &network.hosts[SERVER];
    assert!(server.channels.is_empty() && server.views.is_empty());
    let counts = server.peers.counts(network.now_ns);
    assert_eq!((counts.hellos.unknown, counts.hellos.answered), (8, 0));
    // A single subflow can be identified.
    network.close(TWO_PATHS, 1);
    network.run(4000 * MS);
    assert_eq!(network.hosts[SERVER].ready(1, network.now_ns), 1);
}
