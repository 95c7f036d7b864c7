//! Proof that a peer knows a connection, and the shared key if there is one.
//!
//! HMAC-SHA256, truncated. Its key is `--redundant-key`, then the two keys that
//! the ends exchanged when they opened the connection (RFC 8684, 3.1), the
//! client's first. Without a shared key, anybody who saw that handshake could
//! make a valid tag, just as he could join the connection.

use hmac::{Hmac, KeyInit as _, Mac};
use mptcp_api::hello::TAG;
use sha2::{Digest as _, Sha256};

/// A connection's keys (RFC 8684, 3.1), in host order as in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The key of the end that connected.
    pub client: u64,
    /// The key of the end that accepted.
    pub server: u64,
}

/// Computes the tag of a message's body. `shared` may be empty.
#[must_use]
pub fn tag(shared: &[u8], keys: Keys, body: &[u8]) -> [u8; TAG] {
    let whole: [u8; 32] = mac(shared, keys, body).finalize().into_bytes().into();
    std::array::from_fn(|at| whole[at])
}

/// Returns whether `tag` is the tag of `body`, in constant time.
#[must_use]
pub fn verify(shared: &[u8], keys: Keys, body: &[u8], tag: &[u8; TAG]) -> bool {
    mac(shared, keys, body).verify_truncated_left(tag).is_ok()
}

/// Computes the token of the end that has this key (RFC 8684, 3.2).
#[must_use]
pub fn token(key: u64) -> u32 {
    let digest: [u8; 32] = Sha256::digest(key.to_be_bytes()).into();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn mac(shared: &[u8], keys: Keys, body: &[u8]) -> Hmac<Sha256> {
    // The keys come last and have a fixed length, so that two different
    // inputs never concatenate to the same HMAC key.
    let key = [
        shared,
        &keys.client.to_be_bytes(),
        &keys.server.to_be_bytes(),
    ]
    .concat();
    let mac: Hmac<Sha256> = match Hmac::new_from_slice(&key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    mac.chain_update(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys {
        client: 0x0123_4567_89ab_cdef,
        server: 0xfedc_ba98_7654_3210,
    };

    /// The expected values were computed with Python's `hmac` and `hashlib`.
    #[test]
    fn as_others_compute_it() {
        assert_eq!(token(KEYS.client), TOKEN);
        assert_eq!(tag(b"", KEYS, b"body"), PLAIN);
        assert_eq!(tag(b"sixteen bytes or more", KEYS, b"body"), SHARED);
    }

    #[test]
    fn only_the_same_keys_and_body_verify() {
        let good = tag(b"shared", KEYS, b"body");
        assert!(verify(b"shared", KEYS, b"body", &good));
        assert!(!verify(b"", KEYS, b"body", &good));
        assert!(!verify(b"shared", KEYS, b"bodx", &good));
        let swapped = Keys {
            client: KEYS.server,
            server: KEYS.client,
        };
        assert!(!verify(b"shared", swapped, b"body", &good));
        for bit in 0..TAG * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(b"shared", KEYS, b"body", &bad));
        }
    }

    const TOKEN: u32 = 0x55c5_3f5d;
    const PLAIN: [u8; TAG] = [
        0x05, 0x77, 0x68, 0xf2, 0x23, 0x37, 0x48, 0xe7, 0xad, 0x22, 0xa0, 0xd6, 0x69, 0xa0, 0x8f,
        0x3b,
    ];
    const SHARED: [u8; TAG] = [
        0xef, 0x9d, 0x02, 0x5b, 0x92, 0xc5, 0x92, 0x33, 0x17, 0x4a, 0xbc, 0x12, 0xb1, 0xc4, 0x18,
        0x0b,
    ];
}
