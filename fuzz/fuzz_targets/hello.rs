//! The decoder of hellos and answers: no bytes make it panic, and what it
//! accepts, the encoder would write the same.
#![no_main]

#[path = "../../mptcp-agent/src/redundant/wire.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(received) = wire::decode(data) {
        assert_eq!(received.body.len(), wire::BODY);
        assert_eq!(data.len(), wire::LENGTH);
        assert_eq!([&received.message.body(), &received.tag[..]].concat(), data);
    }
});
