#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn wish(weights: &[(&str, u16)]) -> Wish {
    let weights = weights.iter();
    Wish {
        manner: Manner::default(),
        weights: weights
            .map(|(address, weight)| (address.parse().unwrap(), *weight))
            .collect(),
    }
}

#[test]
fn the_layout_is_the_drawn_one() {
    let mut wish = wish(&[("192.0.2.1", 0x0102), ("2001:db8::1", 0)]);
    wish.manner.per_connection = true;
    let block = Asked::Weights(wish.clone()).encode();
    assert_eq!(block[..3], [1, 2, 2]);
    assert_eq!(block[3 + 10..3 + 18], [0xff, 0xff, 192, 0, 2, 1, 1, 2]);
    assert_eq!(block[21..25], [0x20, 0x01, 0x0d, 0xb8]);
    assert!(block[39..].iter().all(|byte| *byte == 0));
    assert_eq!(Asked::decode(&block), Ok(Asked::Weights(wish)));
    let block = Answer::Refused("no\nway".to_owned()).encode();
    assert_eq!(block[..2], [3, 8]);
    let read = Answer::Refused("no\u{fffd}way".to_owned());
    assert_eq!(Answer::decode(&block), Some(read));
}

#[test]
fn what_is_no_wish_is_refused_and_says_why() {
    let refused = |weights: &[(&str, u16)]| wish(weights).check().unwrap_err().to_string();
    assert_eq!(refused(&[]), "0 addresses: expected 1 to 8");
    let many: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<_> = many.iter().map(|one| (one.as_str(), 1)).collect();
    assert_eq!(refused(&many), "9 addresses: expected 1 to 8");
    let zero = [("192.0.2.1", 0), ("192.0.2.2", 0)];
    assert_eq!(refused(&zero), "every weight is 0: one has to be above");
    let twice = [("192.0.2.1", 1), ("192.0.2.1", 2)];
    assert_eq!(refused(&twice), "192.0.2.1 is there twice");
    for bad in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "::",
        "fe80::1",
        "ff02::1",
    ] {
        assert_eq!(
            refused(&[(bad, 1)]),
            format!("{bad} is no address of a host")
        );
    }
}

#[test]
fn a_block_that_no_encoder_makes_is_refused() {
    let good = Asked::Weights(wish(&[("192.0.2.1", 1), ("192.0.2.2", 3)])).encode();
    let with = |at: usize, byte: u8| {
        let mut block = good;
        block[at] = byte;
        Asked::decode(&block)
    };
    assert!(with(2, 2).is_ok());
    assert_eq!(with(0, 3), Err(Fault::Unreadable));
    assert_eq!(with(0, 0), Err(Fault::Unreadable));
    assert_eq!(with(1, 4), Err(Fault::Unreadable));
    assert_eq!(with(2, 0), Err(Fault::Count(0)));
    assert_eq!(with(2, 255), Err(Fault::Count(255)));
    assert_eq!(with(2, 1), Err(Fault::Unreadable));
    assert_eq!(with(146, 1), Err(Fault::Unreadable));
    // The same address, once mapped.
    assert!(matches!(with(3 + 18 + 15, 1), Err(Fault::Twice(_))));
}

proptest! {
    #[test]
    fn what_is_read_would_be_written_the_same(
        count in 0_u8..10,
        manner in 0_u8..5,
        addresses in prop::collection::vec(any::<([u8; 16], bool, u16)>(), 8),
    ) {
        let mut block = [0; BLOCK];
        block[..3].copy_from_slice(&[1, manner, count]);
        for (place, (octets, v4, weight)) in block[3..].chunks_exact_mut(18).zip(&addresses).take(count.into()) {
            place[..16].copy_from_slice(octets);
            if *v4 {
                place[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            }
            place[16..].copy_from_slice(&weight.to_be_bytes());
        }
        if let Ok(asked) = Asked::decode(&block) {
            prop_assert_eq!(asked.encode(), block);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), BLOCK)) {
        let block: [u8; BLOCK] = bytes.try_into().unwrap();
        if let Ok(asked) = Asked::decode(&block) {
            prop_assert_eq!(asked.encode(), block);
        }
        if let Some(Answer::Refused(why)) = Answer::decode(&block) {
            prop_assert!(!why.contains(char::is_control));
        }
    }

    #[test]
    fn any_reason_survives_the_way_as_one_line(why in "\\PC{0,200}") {
        let Some(Answer::Refused(read)) = Answer::decode(&Answer::Refused(why.clone()).encode()) else {
            panic!("it is refused");
        };
        prop_assert!(one_line(&why).starts_with(&read));
    }
}
