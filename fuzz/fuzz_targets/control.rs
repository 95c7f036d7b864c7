//! Fuzzes the decoder of the control socket's requests. No bytes may make it
//! panic; a refusal must be one short line; and a request that it accepts must
//! be the same after encoding and decoding it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mptcp_api::line;

fuzz_target!(|data: &[u8]| {
    match line::decode(data) {
        Ok(request) => {
            let written = line::request(&request).expect("what was JSON can be JSON again");
            assert_eq!(line::decode(&written), Ok(request));
        }
        Err(refusal) => {
            assert!(refusal.message.len() < 500);
            assert!(!refusal.message.contains(char::is_control));
        }
    }
});
