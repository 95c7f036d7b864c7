//! Tests with forged and replayed datagrams.

use std::net::SocketAddr;

use mptcp_api::hello;
use proptest::prelude::*;

use super::network::Packet;
use super::*;

/// An attacker's address.
const ELSEWHERE: &str = "198.51.100.9:8684";

/// Creates a proven pair, and returns everything that it has sent so far.
fn overheard() -> (Network, Vec<Packet>) {
    let mut network = pair();
    network.connect(TWO_PATHS);
    // At this time, nothing is on its way.
    network.run(3300 * MS);
    let packets = network.log.iter().map(|(_, packet)| packet.clone());
    let packets = packets.collect();
    (network, packets)
}

/// Returns the part of the hosts' state that a packet without effect must not
/// change.
fn states(network: &Network) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
    let hosts = network.hosts.iter();
    hosts
        .map(|host| {
            let counts = host.peers.counts(network.now_ns);
            (
                host.channels.clone(),
                host.carriers.clone(),
                host.views.clone(),
                (counts.proven, counts.silent),
                counts.hellos.verified,
            )
        })
        .collect()
}

#[test]
fn replayed_datagrams_change_nothing() {
    let (mut network, packets) = overheard();
    let before = states(&network);
    for packet in packets.iter().chain(&packets) {
        let (changed, _) = network.deliver(packet);
        assert_eq!(changed, 0);
    }
    assert_eq!(states(&network), before);
    // Answers to replays had no effect either, and no peer was dropped.
    network.run(10 * MS);
    assert_eq!(states(&network), before);
    network.run(20_000 * MS);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
        assert_eq!(host.notices.len(), 2);
    }
}

#[test]
fn a_flood_of_replays_does_not_throw_a_peer_out() {
    let (mut network, packets) = overheard();
    let sent = |network: &Network| network.hosts[CLIENT].peers.counts(0).hellos.sent;
    let before = sent(&network);
    for _ in 0..100 {
        for packet in &packets {
            network.deliver(packet);
        }
        network.run(100 * MS);
    }
    // In 10 s on two channels, no hello had to be repeated.
    assert_eq!(sent(&network) - before, 2 * 20);
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
        assert_eq!(host.notices.len(), 2);
    }
}

#[test]
fn a_peer_that_is_gone_is_not_kept_by_replays() {
    let (mut network, _) = overheard();
    network.cut.insert(address("10.0.2.2"));
    network.run(3000 * MS);
    let packets: Vec<Packet> = network
        .log
        .iter()
        .map(|(_, packet)| packet.clone())
        .collect();
    for packet in &packets {
        network.deliver(packet);
    }
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 1);
    }
}

#[test]
fn reflected_datagrams_change_nothing() {
    let (mut network, packets) = overheard();
    let before = states(&network);
    for packet in &packets {
        let reflected = Packet {
            from: packet.to,
            to: packet.from,
            payload: packet.payload.clone(),
        };
        assert_eq!(network.deliver(&reflected), (0, false));
    }
    assert_eq!(states(&network), before);
}

#[test]
fn a_flipped_bit_is_noticed() {
    // The packets are caught before they arrive, so each one would be fresh.
    // They are hellos and answers in turn.
    for (time, host) in [(0, SERVER), (1, CLIENT), (2, SERVER), (3, CLIENT)] {
        let mut network = pair();
        network.connect(TWO_PATHS);
        network.run(time * MS);
        let before = states(&network);
        let (_, packet) = network.log[network.log.len() - 1].clone();
        for bit in 0..hello::LENGTH * 8 {
            let mut flipped = packet.clone();
            flipped.payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(network.deliver(&flipped), (0, false), "bit {bit}");
        }
        assert_eq!(states(&network), before);
        let hellos = network.hosts[host].peers.counts(network.now_ns).hellos;
        let noticed = hellos.refused + hellos.malformed + hellos.unknown;
        assert_eq!(noticed, hello::LENGTH as u64 * 8);
    }
}

#[test]
fn a_fresh_datagram_from_elsewhere_moves_nothing() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    network.run(400 * MS);
    let elsewhere: SocketAddr = ELSEWHERE.parse().unwrap();
    // Each packet is caught, and delivered from elsewhere before the original.
    for _ in 0..4000 {
        let said = network.log.len();
        network.run(MS / 2);
        let caught: Vec<_> = network.log.drain(said..).collect();
        for (_, packet) in caught {
            let from = elsewhere;
            let (changed, _) = network.deliver(&Packet { from, ..packet });
            assert_eq!(changed, 0);
        }
    }
    for host in &network.hosts {
        assert_eq!(host.ready(1, network.now_ns), 2);
        assert_eq!(host.notices.len(), 2);
        assert_eq!(host.channels.len(), 2);
    }
}

#[test]
fn a_nonce_is_good_where_it_was_sent_to() {
    let mut network = pair();
    network.connect(TWO_PATHS);
    // The hellos that will prove the client are on their way.
    network.run(2 * MS);
    let caught = network.sent_to(address("10.0.1.2"));
    assert_eq!(caught.len(), 2);
    let elsewhere = Packet {
        from: ELSEWHERE.parse().unwrap(),
        ..caught[1].1.clone()
    };
    assert_eq!(network.deliver(&elsewhere), (0, true));
    // The forged packet delays the proof of the client by one attempt.
    network.run(210 * MS);
    assert_eq!(network.hosts[SERVER].ready(1, network.now_ns), 2);
}

#[test]
fn an_answer_is_never_longer_than_its_question() {
    let (network, packets) = overheard();
    assert!(
        packets
            .iter()
            .all(|packet| packet.payload.len() == hello::LENGTH)
    );
    assert_eq!(network.log.len(), packets.len());
    const { assert!(hello::LENGTH < 200) };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_change_nothing(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        length_matches in any::<bool>(),
        to_client in any::<bool>(),
    ) {
        let (mut network, packets) = overheard();
        let before = states(&network);
        let model = packets.iter().find(|packet| {
            (packet.to.ip() == address("10.0.1.1")) == to_client
        }).unwrap().clone();
        for mut payload in datagrams {
            if length_matches {
                payload.resize(hello::LENGTH, 0);
                // All fields up to the token look right.
                payload[..14].copy_from_slice(&model.payload[..14]);
            }
            let packet = Packet { payload, ..model.clone() };
            prop_assert_eq!(network.deliver(&packet), (0, false));
        }
        prop_assert_eq!(states(&network), before);
    }
}
