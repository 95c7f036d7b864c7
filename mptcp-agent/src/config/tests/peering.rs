//! The weights that agents ask each other to use: keys and flags, and where the channel's key
//! comes from.

use std::path::Path;

use super::{row, weighted, with};

#[test]
fn nobody_is_asked_unless_somebody_says_so() {
    let loaded = with("redundant-key = \"/k\"\nredundant-port = 9", "").unwrap();
    assert_eq!(loaded.peering, None);
    assert_eq!(row(&loaded, "ask-peer").0, "false");
}

#[test]
fn the_file_or_flags_say_who_asks_and_who_may() {
    let text = "ask-peer = true\naccept-peer-policy = [\"192.0.2.0/24\", \"fd00::1\"]\n\
                redundant-key = \"/k\"\nredundant-port = 9\n";
    let loaded = with(text, "").unwrap();
    let peering = loaded.peering.clone().unwrap();
    assert!(peering.ask);
    let accept: Vec<String> = peering.accept.iter().map(ToString::to_string).collect();
    assert_eq!(accept, ["192.0.2.0/24", "fd00::1/128"]);
    let channel = &peering.channel;
    assert_eq!(
        (channel.port, channel.key.as_deref()),
        (9, Some(Path::new("/k")))
    );
    let origin = row(&loaded, "redundant-key");
    assert_eq!(origin, ("/k".to_owned(), "f:3".to_owned()));

    let flags = "--ask-peer=false --accept-peer-policy 10.0.0.0/8 --redundant-key /other \
                 --redundant-port 10";
    let loaded = with(
        &format!("{text}{}", weighted("weights = { lte = 1 }")),
        flags,
    )
    .unwrap();
    let peering = loaded.peering.clone().unwrap();
    assert!(!peering.ask);
    assert_eq!(peering.accept, ["10.0.0.0/8".parse().unwrap()]);
    let channel = &peering.channel;
    assert_eq!(
        (channel.port, channel.key.as_deref()),
        (10, Some(Path::new("/other")))
    );
    let origin = row(&loaded, "redundant-port");
    assert_eq!(origin, ("10".to_owned(), "--redundant-port".to_owned()));
    // Without a file, the flags alone do.
    crate::cli::flags_of("--policy weighted --ask-peer --redundant-key /k");
}

#[test]
fn a_policy_that_copies_shares_its_port_and_key() {
    let text = "ask-peer = true\n[policy.copied]\npolicy = \"redundant\"\nkey = \"/k\"\n\
                port = 9\n[[rule]]\npolicy = \"copied\"\ndport = 22\n";
    let channel = with(text, "").unwrap().peering.unwrap().channel;
    assert_eq!(
        (channel.port, channel.key.as_deref()),
        (9, Some(Path::new("/k")))
    );
    let flags = "--policy redundant --ask-peer --redundant-key /k --redundant-port 9";
    let loaded = with("", flags).unwrap();
    let policy = loaded.policy.copies().unwrap();
    let channel = loaded.peering.unwrap().channel;
    assert_eq!((policy.port, &policy.key), (channel.port, &channel.key));
    assert_eq!(policy.port, 9);
}

#[test]
fn mistakes_name_their_place() {
    for (text, flags, why) in [
        (
            "ask-peer = true",
            "",
            "f:1:12: ask-peer and accept-peer-policy need a key",
        ),
        (
            "",
            "--ask-peer",
            "--ask-peer and --accept-peer-policy need a key",
        ),
        (
            "accept-peer-policy = [\"eth0\"]",
            "",
            "f:1:23: accept-peer-policy: `eth0` is no prefix",
        ),
        (
            "accept-peer-policy = [\"10.0.0.1/8\"]",
            "",
            "f:1:23: accept-peer-policy: `10.0.0.1/8` has host bits set",
        ),
        (
            "redundant-key = \"k\"",
            "",
            "f:1:17: redundant-key is \"k\": expected an absolute path",
        ),
        (
            "redundant-port = 0",
            "",
            "f:1:18: redundant-port is 0: expected 1 to 65535",
        ),
        (
            "",
            "--policy weighted --redundant-key /k",
            "--redundant-key has no effect under policy weighted",
        ),
    ] {
        let said = with(text, flags).unwrap_err();
        assert!(said.starts_with(why), "{text} {flags}: {said}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("\"10.0.0.{n}\"")).collect();
    let text = format!("accept-peer-policy = [{}]", many.join(", "));
    let said = with(&text, "").unwrap_err();
    assert!(said.contains("65 prefixes: expected at most 64"), "{said}");
}
