//! The channel for wishes runs under every policy, and copies nothing unless a
//! policy does.

use super::fake::{Fake, observe, redundant, weighted};
use super::*;
use crate::peering::{Peering, Settings};

/// An agent that asks others, under a policy that copies nothing.
fn asking() -> Fake {
    let mut fake = Fake::new(&observe());
    let channel = Redundant {
        port: 9,
        ..Redundant::default()
    };
    fake.copies = Some((channel.clone(), Key::new(b"key".to_vec())));
    fake.peering = Some(Peering {
        settings: Settings {
            ask: true,
            accept: Vec::new(),
            channel,
        },
        key: Key::new(b"key".to_vec()),
        no_standby: None,
    });
    fake
}

#[test]
fn the_channel_stays_from_policy_to_policy_and_starts_anew_with_copies() {
    let mut fake = asking();
    fake.assert_true();
    for (policy, started) in [
        (weighted(1), false),
        (redundant(2, 9, "key"), true),
        (redundant(3, 9, "key"), false),
        (observe(), true),
        (weighted(2), false),
    ] {
        fake.steps.take();
        set(&mut fake, policy.clone(), None).unwrap();
        let steps = fake.steps.take();
        assert_eq!(steps.contains(&"copies"), started, "{steps:?}");
        let copies = policy.policy.copies().is_some();
        assert_eq!(fake.programs, copies, "{steps:?}");
        fake.assert_true();
    }
}

#[test]
fn a_policy_that_copies_over_another_port_or_with_another_key_is_refused() {
    let mut fake = asking();
    for policy in [redundant(2, 10, "key"), redundant(2, 9, "other")] {
        let refusal = set(&mut fake, policy, None).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Refused);
        assert!(
            refusal.message.contains("--redundant-port 9"),
            "{refusal:?}"
        );
        fake.assert_true();
    }
}
