//! Two agents and an in-memory network between them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod familiar;
mod forgery;
mod keeping;
mod network;
mod proving;
mod translation;
mod wishes;

use network::{Connect, MS, Network, address};

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Creates a client with addresses 10.0.1.1, 10.0.2.1 and a server with
/// 10.0.1.2, 10.0.2.2.
fn pair() -> Network {
    pair_with_keys(b"", b"")
}

fn pair_with_keys(client: &[u8], server: &[u8]) -> Network {
    let mut network = Network::default();
    network.host(&["10.0.1.1", "10.0.2.1"], client);
    network.host(&["10.0.1.2", "10.0.2.2"], server);
    network
}

/// A connection from the client with a subflow on each path.
const TWO_PATHS: Connect<'_> = Connect {
    number: 1,
    client: CLIENT,
    server: SERVER,
    subflows: &[("10.0.1.1", "10.0.1.2"), ("10.0.2.1", "10.0.2.2")],
};
