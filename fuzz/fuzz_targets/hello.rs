//! The decoder of hellos and answers: no bytes make it panic, and what it
//! accepts, the encoder would write the same.
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
