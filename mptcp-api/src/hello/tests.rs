#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn datagram(message: &Message, tag: [u8; TAG]) -> Vec<u8> {
    let mut datagram = message.body();
    datagram.extend(tag);
    datagram
}

fn example() -> Message {
    Message {
        kind: Kind::Hello,
        sender: NonZeroU64::new(0x0102_0304_0506_0708).unwrap(),
        token: 0x090a_0b0c,
        nonce: NonZeroU64::new(0x0d0e_0f10_1112_1314).unwrap(),
        echo: 0x1516_1718_191a_1b1c,
        ends: Ends {
            local: std::array::from_fn(|at| 0x1d + at as u8),
            remote: std::array::from_fn(|at| 0x2d + at as u8),
            local_port: 0x3d3e,
            remote_port: 0x3f40,
            ids: Some(Ids {
                local: 0x41,
                remote: 0x42,
            }),
        },
        timing: Timing {
            sent_us: 0x4344_4546_4748_494a,
            heard_us: 0x4b4c_4d4e_4f50_5152,
            heard_at_us: 0x5354_5556_5758_595a,
            arrived: 0x5b5c_5d5e_5f60_6162,
        },
        device: 0x6364_6566,
    }
}

#[test]
fn the_layout_is_the_drawn_one() {
    let bytes = datagram(&example(), [0xee; TAG]);
    assert_eq!(bytes.len(), LENGTH);
    assert_eq!(bytes[..2], [0xa2, 1]);
    // The bytes of the fields count up from 1, except for the byte that
    // says "ids known".
    let ids = [1, 0x41, 0x42];
    let counted: Vec<u8> = (1..=0x40).chain(ids).chain(0x43..=0x66).collect();
    assert_eq!(bytes[2..BODY], counted);
    assert_eq!(bytes[BODY..], [0xee; TAG]);
}

#[test]
fn what_no_encoder_makes_is_refused() {
    let good = datagram(&example(), [7; TAG]);
    assert!(decode(&good).is_some());
    let with = |at: usize, bytes: &[u8]| {
        let mut datagram = good.clone();
        datagram[at..at + bytes.len()].copy_from_slice(bytes);
        datagram
    };
    for (what, bad) in [
        ("IPv4", with(0, &[0x45])),
        ("another version", with(0, &[0xa1])),
        ("kind 0", with(1, &[0])),
        ("kind 4", with(1, &[4])),
        ("agent id 0", with(2, &[0; 8])),
        ("nonce 0", with(14, &[0; 8])),
        ("ids neither known nor not", with(66, &[2])),
        ("ids both unknown and given", with(66, &[0, 0, 1])),
        ("longer", [good.as_slice(), &[0]].concat()),
    ] {
        assert!(decode(&bad).is_none(), "{what}");
    }
    for length in 0..good.len() {
        assert!(decode(&good[..length]).is_none(), "{length} bytes");
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![Just(Kind::Hello), Just(Kind::Answer), Just(Kind::Settled)];
    let ids = prop::option::of(any::<(u8, u8)>());
    let ends = (any::<([u8; 16], [u8; 16], u16, u16)>(), ids).prop_map(
        |((local, remote, local_port, remote_port), ids)| Ends {
            local,
            remote,
            local_port,
            remote_port,
            ids: ids.map(|(local, remote)| Ids { local, remote }),
        },
    );
    let numbers = any::<(NonZeroU64, u32, NonZeroU64, u64)>();
    let timing = any::<[u64; 4]>().prop_map(|[sent_us, heard_us, heard_at_us, arrived]| Timing {
        sent_us,
        heard_us,
        heard_at_us,
        arrived,
    });
    let message = (kind, numbers, ends, timing, any::<u32>());
    message.prop_map(|(kind, numbers, ends, timing, device)| {
        let (sender, token, nonce, echo) = numbers;
        Message {
            kind,
            sender,
            token,
            nonce,
            echo,
            ends,
            timing,
            device,
        }
    })
}

proptest! {
    #[test]
    fn a_message_survives_the_way(message in messages(), tag in any::<[u8; TAG]>()) {
        let bytes = datagram(&message, tag);
        prop_assert_eq!(bytes.len(), LENGTH);
        let received = decode(&bytes).unwrap();
        prop_assert_eq!(received.message, message);
        prop_assert_eq!(received.tag, &tag);
    }

    #[test]
    fn what_is_read_would_be_written_the_same(
        message in messages(),
        changes in prop::collection::vec((0..LENGTH, any::<u8>()), 0..4),
        length in 0..LENGTH + 2,
    ) {
        let mut bytes = datagram(&message, [0; TAG]);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.resize(length.max(LENGTH - 1), 0);
        if let Some(received) = decode(&bytes) {
            prop_assert_eq!(datagram(&received.message, *received.tag), bytes);
        }
    }

    #[test]
    fn a_message_with_a_block_survives_the_way(
        message in messages(),
        block in any::<[u8; 32]>(),
        tag in any::<[u8; TAG]>(),
    ) {
        let block: [u8; BLOCK] = std::array::from_fn(|at| block[at % 32]);
        let bytes = [&message.body_with(&block)[..], &tag].concat();
        prop_assert_eq!(bytes.len(), LENGTH_WITH_BLOCK);
        prop_assert!(may_have_a_block(&bytes) && !may_be_a_message(&bytes));
        prop_assert!(decode(&bytes).is_none());
        let received = decode_with_block(&bytes).unwrap();
        prop_assert_eq!(received.message, message);
        prop_assert_eq!(received.block, Some(&block));
        prop_assert_eq!((received.body, received.tag), (&bytes[..BODY + BLOCK], &tag));
        for length in 0..bytes.len() {
            prop_assert!(decode_with_block(&bytes[..length]).is_none());
        }
        let other = datagram(&message, tag);
        prop_assert!(decode_with_block(&other).is_none());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(received) = decode(&bytes) {
            prop_assert_eq!(datagram(&received.message, *received.tag), bytes);
        }
    }
}
