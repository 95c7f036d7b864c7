//! Fuzzes the decoder of the file that keeps what paths have used of their data
//! plans. No bytes may make it panic; a refusal must be one short line; and what
//! it accepts must be the same after encoding and decoding it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mptcp_api::saved;

fuzz_target!(|data: &[u8]| {
    match saved::decode(data) {
        Ok(content) => {
            let written = saved::encode(&content).expect("what was JSON can be JSON again");
            assert_eq!(saved::decode(&written), Ok(content));
        }
        Err(why) => {
            assert!(why.len() < 200);
            assert!(!why.contains(char::is_control));
        }
    }
});
