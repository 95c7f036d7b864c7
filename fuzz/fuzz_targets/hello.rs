//! Fuzzes the decoder of hellos and answers. No bytes may make it panic, and the
//! encoder must write a message that it accepts as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mptcp_api::hello;

fuzz_target!(|data: &[u8]| {
    if let Some(received) = hello::decode(data) {
        assert_eq!(received.body.len(), hello::BODY);
        assert_eq!(data.len(), hello::LENGTH);
        assert_eq!([&received.message.body(), &received.tag[..]].concat(), data);
    }
});
