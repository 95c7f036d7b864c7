//! The redundant policy: every segment on more than one path.
//!
//! ```text
//!   agent (events, devices, datagrams, timers)
//!     v
//!   service --> roster       open subflows, connections that wait for keys
//!     |    \--> peers        the protocol: which hosts run an agent (proof)
//!     |    \--> ports        devices: MTU, rp_filter, segment sizes (mss)
//!     v         channel_table   the wanted content of CHANNELS and CHANNEL_OF
//!     v         unwritten    failed writes to the kernel's maps, to be retried
//!   kernel (maps, tc programs)            socket: hellos out and in
//!                                         listener, gate: which of them are let in
//! ```
//!
//! The programs copy, wrap, unwrap and drop packets by themselves. The agent
//! only gives them the channels that copies may use. A channel is entered once
//! its peer is proven, and it expires unless the agent renews it. So if the
//! agent hangs or dies, copies stop within seconds.
//!
//! `roster`, `peers`, `channel_table`, `unwritten`, `gate`, `mss` are pure;
//! `service` and `ports` do the IO, in the agent's loop.

mod channel_table;
mod gate;
mod listener;
mod mss;
mod output;
mod peers;
mod ports;
mod proof;
mod roster;
mod service;
mod socket;
mod unwritten;

use anyhow::{Context as _, Result};

pub use peers::{Heard, Own, Reply};
pub use service::{Service, Wishing};
pub use socket::{Received, Sockets};

use crate::policy::Key;

/// The resources of the host that the policy needs.
#[derive(Debug)]
pub struct Claim {
    /// The sockets, bound to `--redundant-port`.
    pub sockets: Sockets,
    /// The secret that this agent and its peers share.
    pub key: Key,
}

/// Returns a random number that is not 0 and that nobody can predict.
///
/// # Errors
/// The kernel has no random numbers to give.
pub fn random_nonzero() -> Result<u64> {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).context("cannot get random numbers")?;
        let number = u64::from_ne_bytes(bytes);
        if number != 0 {
            return Ok(number);
        }
    }
}
