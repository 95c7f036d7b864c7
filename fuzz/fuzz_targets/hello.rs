//! Fuzzes the decoder of hellos and answers, and of the wishes in them. No bytes
//! may make it panic, and the encoder must write a message that it accepts as the
//! same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mptcp_api::hello;
use mptcp_api::wish::{Answer, Asked};

fuzz_target!(|data: &[u8]| {
    if let Some(received) = hello::decode(data) {
        assert_eq!(received.body.len(), hello::BODY);
        assert_eq!(data.len(), hello::LENGTH);
        assert_eq!([&received.message.body(), &received.tag[..]].concat(), data);
    }
    if let Some(received) = hello::decode_with_block(data) {
        assert_eq!(data.len(), hello::LENGTH_WITH_BLOCK);
        let block = received.block.expect("this version has a block");
        let body = received.message.body_with(block);
        assert_eq!([&body, &received.tag[..]].concat(), data);
        if let Ok(asked) = Asked::decode(block) {
            assert_eq!(&asked.encode(), block);
        }
        let _ = Answer::decode(block);
    }
});
