//! Fuzzes the packet parser of the tc programs. No bytes may make it panic, and
//! headers and payload that it accepts must lie within the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mptcp_common::packet;

fuzz_target!(|data: &[u8]| {
    let available = data.len() as u32;
    for exact in [true, false] {
        let Ok((ip, segment)) = packet::tcp(data, 0, available, exact) else {
            continue;
        };
        assert!(ip.header + ip.payload <= available);
        assert!(segment.header <= ip.payload);
        assert!(segment.end.wrapping_sub(segment.seq) <= ip.payload - segment.header + 1);
        let (mut source, mut destination) = ([0; 16], [0; 16]);
        assert!(packet::addresses(data, 0, ip.header, &mut source, &mut destination));
    }
});
