//! Fuzzes the reader of the configuration file. No text may make it panic; a
//! mistake must be one short line with a place in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mptcp_api::config::{Place, parse};

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(file) => {
            // Every value knows a place in the text.
            for (name, path) in &file.path {
                assert!(name.start() <= text.len() && path.start() <= text.len());
            }
            for (name, policy) in &file.policy {
                assert!(Place::of(text, name.start()) <= Place::of(text, text.len()));
                assert!(policy.policy.start() <= text.len());
            }
        }
        Err(mistake) => {
            assert!(mistake.place <= Place::of(text, text.len()));
            let said = mistake.to_string();
            assert!(said.len() < 500 && !said.contains(char::is_control));
        }
    }
});
