//! Tests of wishes: what a client asks for, what a server hears, and what neither
//! takes from the other.

use mptcp_api::hello::{self, BLOCK};
use mptcp_api::wish::{Answer, Asked, Manner, Wish};

use super::*;
use crate::redundancy::peers::{Heard, Own, Peers, Settings};
use crate::redundancy::proof;

const KEY: &[u8] = b"sixteen bytes or more";

fn wishing(id: u64, key: &[u8], own: Own, accepts: bool) -> Peers {
    let settings = Settings {
        agent_id: id,
        port: mptcp_common::abi::redundant::DEFAULT_PORT,
        key: key.to_vec(),
    };
    let mut next = id * 1_000_003;
    let random = move || {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        next | 1
    };
    Peers::for_wishes(settings, own, accepts, random)
}

fn weights(weights: &[u16]) -> Own {
    let weights = weights.iter().copied().map(Some);
    Own::Weights(Manner::default(), weights.collect())
}

/// A client that asks for these weights, and a server that takes wishes.
fn asking(own: Own, accepts: bool, keys: [&[u8]; 2]) -> Network {
    let mut network = pair_with_keys(keys[0], keys[1]);
    network.hosts[CLIENT].peers = wishing(100, keys[0], own, false);
    network.hosts[SERVER].peers = wishing(101, keys[1], Own::Never, accepts);
    network
}

/// Returns the wishes that the server has heard, without repetitions.
fn heard(network: &mut Network) -> Vec<Heard> {
    let mut heard = network.hosts[SERVER].peers.heard();
    heard.dedup();
    heard
}

fn wish(weights: &[(&str, u16)]) -> Asked {
    let weights = weights.iter();
    Asked::Weights(Wish {
        manner: Manner::default(),
        weights: weights
            .map(|(text, weight)| (address(text), *weight))
            .collect(),
    })
}

#[test]
fn a_proven_client_asks_for_the_weights_of_its_addresses() {
    let mut network = asking(weights(&[1, 3]), true, [KEY, KEY]);
    network.connect(TWO_PATHS);
    network.run(100 * MS);
    let asked = wish(&[("10.0.1.1", 1), ("10.0.2.1", 3)]);
    let all = heard(&mut network);
    for from in ["10.0.1.1", "10.0.2.1"] {
        let one = all.iter().find(|one| one.from == address(from)).unwrap();
        assert_eq!((one.peer, &one.asked), (100, &Ok(asked.clone())));
    }
    let waits = network.hosts[CLIENT].peers.replies(network.now_ns);
    assert_eq!(waits[0].answer, Ok(Answer::Waits));
    network.hosts[SERVER]
        .peers
        .answers(vec![(100, Answer::InForce)]);
    // It is repeated at least twice a second, and so is the answer.
    network.run(600 * MS);
    assert!(!heard(&mut network).is_empty());
    let replies = network.hosts[CLIENT].peers.replies(network.now_ns);
    assert_eq!(replies[0].answer, Ok(Answer::InForce));
    assert!(replies[0].present);
    // Other weights, then none any more.
    network.hosts[CLIENT].peers.ask_for(weights(&[7, 0]));
    network.run(600 * MS);
    let asked = wish(&[("10.0.1.1", 7), ("10.0.2.1", 0)]);
    assert_eq!(heard(&mut network)[0].asked, Ok(asked));
    network.hosts[CLIENT].peers.ask_for(Own::NoMore);
    network.run(600 * MS);
    assert_eq!(heard(&mut network)[0].asked, Ok(Asked::NoMore));
}

#[test]
fn who_takes_no_wishes_says_so_and_who_has_another_key_is_not_heard() {
    let mut network = asking(weights(&[1, 3]), false, [KEY, KEY]);
    network.connect(TWO_PATHS);
    network.run(700 * MS);
    assert_eq!(heard(&mut network), []);
    let replies = network.hosts[CLIENT].peers.replies(network.now_ns);
    assert_eq!(replies[0].answer, Ok(Answer::NotHere));

    let mut network = asking(weights(&[1, 3]), true, [KEY, b"another key of 16"]);
    network.connect(TWO_PATHS);
    network.run(7000 * MS);
    assert_eq!(heard(&mut network), []);
    let client = &network.hosts[CLIENT].peers;
    assert!(client.replies(network.now_ns).is_empty());
    let remotes = ["10.0.1.2", "10.0.2.2"].map(address);
    assert_eq!(client.unanswered(8), remotes);
}

#[test]
fn agents_for_copies_and_for_wishes_do_not_answer_each_other() {
    // An agent of an earlier version knows the messages for copies only.
    for (asks, copies) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let mut network = pair_with_keys(KEY, KEY);
        let id = 100 + asks as u64;
        network.hosts[asks].peers = wishing(id, KEY, weights(&[1, 3]), true);
        network.connect(TWO_PATHS);
        network.run(7000 * MS);
        for host in &network.hosts {
            assert_eq!(host.ready(1, network.now_ns), 0);
            assert_eq!(host.peers.counts(network.now_ns).proven, 0);
        }
        let counts = network.hosts[copies].peers.counts(network.now_ns);
        assert_eq!(counts.hellos.malformed > 0, copies == SERVER);
    }
}

#[test]
fn who_only_accepts_sends_nothing_by_itself() {
    let mut network = asking(Own::Never, true, [KEY, KEY]);
    network.connect(TWO_PATHS);
    network.run(10_000 * MS);
    assert!(network.log.is_empty());
}

#[test]
fn a_replayed_or_forged_wish_is_not_heard() {
    let mut network = asking(weights(&[1, 3]), true, [KEY, KEY]);
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    heard(&mut network);
    let sent: Vec<_> = network
        .log
        .iter()
        .map(|(_, packet)| packet.clone())
        .filter(|packet| packet.to.ip() == address("10.0.1.2"))
        .collect();
    assert!(sent.len() > 2);
    let now_ns = network.now_ns;
    let server = &mut network.hosts[SERVER].peers;
    for packet in &sent {
        assert_eq!(packet.payload.len(), hello::LENGTH_WITH_BLOCK);
        server.receive(&packet.payload, packet.to.ip(), packet.from, 3, now_ns);
        for at in [hello::BODY, hello::BODY + 3 + 17, hello::BODY + BLOCK] {
            let mut forged = packet.payload.clone();
            forged[at] ^= 1;
            server.receive(&forged, packet.to.ip(), packet.from, 3, now_ns);
        }
        for length in [0, packet.payload.len() - 1, packet.payload.len() + 1] {
            let mut other = packet.payload.clone();
            other.resize(length, 0);
            server.receive(&other, packet.to.ip(), packet.from, 3, now_ns);
        }
    }
    assert_eq!(server.heard(), []);
}

#[test]
fn a_block_that_is_no_wish_is_heard_as_such_and_refused() {
    let mut network = asking(weights(&[1, 3]), true, [KEY, KEY]);
    network.connect(TWO_PATHS);
    network.run(1000 * MS);
    heard(&mut network);
    // The next hello of the client, with another block under a right tag.
    let keys = proof::Keys {
        client: 0xc11e_0001,
        server: 0x5e12_0001,
    };
    let client = &mut network.hosts[CLIENT].peers;
    let due_ns = client.next_due_ns().unwrap();
    let hello = client.due(due_ns, 10).remove(0);
    let mut body = hello.payload[..hello::BODY + BLOCK].to_vec();
    body[hello::BODY + 2] = 200;
    let tag = proof::tag(KEY, keys, &body);
    body.extend(tag);
    let from = (hello.from, mptcp_common::abi::redundant::DEFAULT_PORT).into();
    let server = &mut network.hosts[SERVER].peers;
    let answer = server
        .receive(&body, hello.to.ip(), from, 3, due_ns)
        .unwrap();
    assert_eq!(answer.payload.len(), body.len());
    let block = hello::decode_with_block(&answer.payload)
        .unwrap()
        .block
        .unwrap();
    let why = "200 addresses: expected 1 to 8".to_owned();
    assert_eq!(Answer::decode(block), Some(Answer::Refused(why)));
    let heard = server.heard();
    assert!(heard[0].asked.is_err(), "{heard:?}");
}

#[test]
fn behind_nat_nothing_is_asked_for() {
    let mut network = asking(weights(&[1, 3]), true, [KEY, KEY]);
    network.inside = ["10.0.1.1", "10.0.2.1"].map(address).into();
    network.connect(TWO_PATHS);
    network.run(1500 * MS);
    let all = heard(&mut network);
    assert!(all.iter().skip(2).all(|one| one.asked.is_err()), "{all:?}");
    let replies = network.hosts[CLIENT].peers.replies(network.now_ns);
    let why = replies[0].answer.as_ref().unwrap_err();
    assert!(why.contains("NAT"), "{why}");
}
