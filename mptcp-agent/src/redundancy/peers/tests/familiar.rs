//! Tests of channels that outlive their connections, and of map `FAMILIAR`.

use std::net::IpAddr;

use super::*;

/// Returns a host's content of `FAMILIAR`: its own address, the peer's, a TCP
/// port, and the channel.
fn known(network: &Network, host: usize) -> Vec<(IpAddr, IpAddr, u16, u32)> {
    let familiar = network.hosts[host].familiar.iter();
    familiar
        .map(|(&(local, remote, port), &channel)| (local, remote, port, channel))
        .collect()
}

fn close_both(network: &mut Network) {
    network.close(TWO_PATHS, 0);
    network.close(TWO_PATHS, 1);
}

#[test]
fn channels_outlive_the_last_connection_for_a_while() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    close_both(&mut network);
    let connections = |network: &Network| {
        let hosts = network.hosts.iter();
        hosts.map(|host| host.carriers.len()).collect::<Vec<_>>()
    };
    assert_eq!(connections(&network), [0, 0]);
    network.run(50_000 * MS);
    for host in &network.hosts {
        let channels = host.channels.values();
        assert_eq!(
            channels
                .filter(|channel| channel.expires_ns > network.now_ns)
                .count(),
            2
        );
        assert_eq!(host.notices.len(), 2, "{:?}", host.notices);
    }
    network.run(20_000 * MS);
    for host in &network.hosts {
        assert!(host.channels.is_empty() && host.familiar.is_empty());
        assert_eq!(host.peers.next_due_ns(), None);
        assert_eq!(host.notices.len(), 2, "nobody misses them");
    }
}

#[test]
fn the_next_connection_takes_the_channels_over() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    let channels = network.hosts[CLIENT].channels.clone();
    close_both(&mut network);
    network.run(10_000 * MS);
    let next = Connect {
        number: 2,
        ..TWO_PATHS
    };
    network.connect(next);
    network.run(70_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(2, network.now_ns), 2);
        assert_eq!(host.channels.len(), 2);
    }
    let now = &network.hosts[CLIENT].channels;
    assert!(channels.keys().eq(now.keys()), "they are the same channels");
    // The kernel may also reuse the address of the first connection.
    network.close(next, 0);
    network.close(next, 1);
    network.connect(Connect {
        number: 1,
        ..TWO_PATHS
    });
    network.run(1000 * MS);
    assert_eq!(network.hosts[SERVER].ready(1, network.now_ns), 2);
}

#[test]
fn a_peer_that_goes_meanwhile_is_forgotten() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    close_both(&mut network);
    network.cut.extend(["10.0.1.2", "10.0.2.2"].map(address));
    network.run(3000 * MS);
    for host in &network.hosts {
        assert!(host.channels.is_empty() && host.familiar.is_empty());
        assert_eq!(host.peers.next_due_ns(), None);
    }
}

#[test]
fn a_client_knows_the_service_and_with_a_key_both_know_the_address() {
    let ends = |(local, remote): (&str, &str)| (address(local), address(remote));
    let flip = |(local, remote)| (remote, local);
    let own = [0, 1].map(|index| ends(TWO_PATHS.subflows[index]));
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    let expected = own.map(|(local, remote)| (local, remote, 443));
    let found = known(&network, CLIENT);
    assert_eq!(
        found
            .iter()
            .map(|&(a, b, port, _)| (a, b, port))
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(known(&network, SERVER), [], "an address may be shared");

    let key = b"sixteen bytes or more";
    let mut network = pair_with_keys(key, key);
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    for (host, expected) in [(CLIENT, own), (SERVER, own.map(flip))] {
        let found = known(&network, host);
        let found: Vec<_> = found.iter().map(|&(a, b, port, _)| (a, b, port)).collect();
        let expected = expected.map(|(local, remote)| (local, remote, 0));
        assert_eq!(found, expected);
    }
}

#[test]
fn nobody_is_known_through_nat() {
    let mut network = pair_with_keys(b"sixteen bytes or more", b"sixteen bytes or more");
    network.inside.insert(address("10.0.1.1"));
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    for host in [CLIENT, SERVER] {
        let found = known(&network, host);
        assert_eq!(found.len(), 1, "{found:?}");
        let second = ["10.0.2.1", "10.0.2.2"].map(address);
        assert!(second.contains(&found[0].0));
    }
}

#[test]
fn a_peer_that_is_replaced_is_known_no_more() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    network.restart(SERVER, 777);
    network.announce_to(TWO_PATHS, true);
    for subflow in 0..2 {
        network.join_at(TWO_PATHS, subflow, true);
    }
    network.run(3000 * MS);
    let client = &network.hosts[CLIENT];
    assert_eq!(client.familiar.len(), 2);
    for channel in client.familiar.values() {
        assert_eq!(client.channels[channel].peer, 777);
    }
}

#[test]
fn answers_leave_by_the_device_of_their_subflow() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(MS / 2);
    let hellos: Vec<_> = network.log.iter().map(|(_, hello)| hello.clone()).collect();
    let now_ns = network.now_ns;
    for hello in hellos {
        let server = &mut network.hosts[SERVER].peers;
        let (to, payload) = (hello.to.ip(), &hello.payload);
        // Both hellos arrive by a device that carries neither subflow.
        let answer = server.receive(payload, to, hello.from, 2, now_ns).unwrap();
        let device = if to == address("10.0.1.2") { 3 } else { 4 };
        assert_eq!(answer.ifindex, device);
    }
}
