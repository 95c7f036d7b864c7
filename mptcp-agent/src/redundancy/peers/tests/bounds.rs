//! Tests that memory and work are bounded.

use std::net::{IpAddr, Ipv4Addr};

use mptcp_common::abi::redundant::{ChannelKey, DEFAULT_PORT, MAX_CARRIERS, MAX_CHANNELS};

use super::*;
use crate::redundancy::peers::{
    changes::Changes,
    channels::{Channels, Crowded, MAX_OF_ONE},
    octets,
};

#[test]
fn no_more_carriers_than_there_is_room_for() {
    let mut network = pair();
    let paths = [TWO_PATHS.subflows[0]; MAX_CARRIERS + 2];
    let connect = Connect {
        subflows: &paths,
        ..TWO_PATHS
    };
    network.connect(connect);
    network.run(100 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), MAX_CARRIERS);
    }
    // A subflow that closes makes room for another.
    network.close(connect, 0);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), MAX_CARRIERS);
        assert!(host.channel_of(1, 10 + MAX_CARRIERS as u64).is_some());
    }
}

/// Opens or closes a connection for each number, each from another address.
fn crowd(network: &mut Network, numbers: std::ops::Range<u32>, open: bool) {
    for number in numbers {
        let client = IpAddr::from(Ipv4Addr::from(0x0a10_0000 + number)).to_string();
        let subflows = [(client.as_str(), "10.0.1.2")];
        let connect = Connect {
            number: number.into(),
            client: CLIENT,
            server: SERVER,
            subflows: &subflows,
        };
        if open {
            network.connect(connect);
        } else {
            network.close(connect, 0);
        }
    }
}

#[test]
fn no_more_channels_than_there_is_room_for() {
    let mut network = Network::default();
    let addresses: Vec<String> = (0..MAX_CHANNELS + 10)
        .map(|number| Ipv4Addr::from(0x0a10_0000 + number).to_string())
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    network.host(&addresses, b"");
    network.host(&["10.0.1.2"], b"");
    crowd(&mut network, 1..MAX_CHANNELS + 6, true);
    network.run(100 * MS);
    let room = MAX_CHANNELS as usize - 1;
    for host in &network.hosts {
        assert_eq!(host.channels.len(), room);
        assert_eq!(host.carriers.len(), room);
        assert!(
            host.channels
                .keys()
                .all(|index| (1..MAX_CHANNELS).contains(index))
        );
        assert_eq!(host.peers.counts(network.now_ns).proven, room as u64);
    }
    // Connections that close make room for those that wait.
    crowd(&mut network, 1..11, false);
    network.run(600 * MS);
    for host in &network.hosts {
        let waited = u64::from(MAX_CHANNELS);
        for connection in waited..waited + 6 {
            assert_eq!(host.ready(connection, network.now_ns), 1, "{connection}");
        }
    }
    crowd(&mut network, 11..MAX_CHANNELS + 6, false);
    network.cut.insert(address("10.0.1.2"));
    network.run(2600 * MS);
    for host in &network.hosts {
        assert!(host.channels.is_empty() && host.carriers.is_empty());
        assert_eq!(host.peers.next_due_ns(), None);
        assert!(host.peers.asking.is_empty());
        assert_eq!(host.peers.channels.iter().count(), 0);
    }
}

/// One client claims many identities.
#[test]
fn one_address_cannot_take_every_channel() {
    let mut channels = Channels::new(DEFAULT_PORT, 7);
    let mut changes = Changes::default();
    let ends = |text: &str| octets(address(text));
    let mut place = |peer: u64, remote: &str| {
        let road = ChannelKey {
            local: ends("10.0.1.2"),
            remote: ends(remote),
            remote_port: peer as u16,
            scope: 0,
        };
        channels.place(peer, (road.remote, road.local), road, 1, &mut changes)
    };
    let taken = (1000..2000).filter(|&peer| place(peer, "10.9.0.1").is_ok());
    assert_eq!(taken.count(), MAX_OF_ONE);
    assert_eq!(place(3000, "10.9.0.1"), Err(Crowded::Quota));
    assert!(place(3000, "10.9.0.2").is_ok());
    let taken = (4000..5000).filter(|&peer| place(peer, &format!("2001:db8::{peer}")).is_ok());
    assert_eq!(taken.count(), MAX_OF_ONE);
    assert!(place(6000, "2001:db8:0:1::1").is_ok());
}

#[test]
fn one_channel_costs_the_same_whatever_its_connections() {
    let said = |connections: u64| {
        let mut network = pair();
        for number in 1..=connections {
            network.connect(Connect {
                number,
                ..TWO_PATHS
            });
        }
        network.run(1000 * MS);
        let before = network.log.len();
        network.run(10_000 * MS);
        network.log.len() - before
    };
    assert_eq!(said(1), said(200));
}

#[test]
fn whoever_sends_from_many_addresses_fills_no_memory() {
    let mut network = pair_with_keys(b"sixteen bytes or more", b"other bytes, as many");
    network.connect(TWO_PATHS);
    network.run(MS / 2);
    let (_, hello) = network.log[0].clone();
    for number in 0..5000 {
        let mut packet = hello.clone();
        packet
            .from
            .set_ip(Ipv4Addr::from(0xc612_0000 + number).into());
        assert_eq!(network.deliver(&packet), (0, false));
    }
    let server = &network.hosts[SERVER];
    assert_eq!(server.peers.counts(network.now_ns).refused, 1024);
    assert_eq!(server.notices.len(), 1024);
}
