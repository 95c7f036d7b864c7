//! The redundant policy: every segment on more than one path.
//!
//! ```text
//!   agent (events, devices, datagrams, timers)
//!     v
//!   service --> roster       which subflows there are, keys that are awaited
//!     |    \--> peers        the protocol: who runs an agent too (proof)
//!     |    \--> ports        devices: MTU, rp_filter, segment sizes (mss)
//!     v         link_table   what LINKS and LINK_OF are to hold
//!     v         unwritten    writes to the kernel's maps that are tried again
//!   kernel (maps, tc programs)            socket: hellos out and in
//!                                         listener, gate: which of them are let in
//! ```
//!
//! The programs copy, wrap, unwrap and drop by themselves. This side tells them
//! where to: a link, once its peer is proven, until it expires. So if this side
//! hangs or dies, copies stop within seconds.
//!
//! `roster`, `peers`, `link_table`, `unwritten`, `gate`, `mss` are pure;
//! `service` and `ports` do the IO, in the agent's loop.

mod gate;
mod link_table;
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

pub use service::Service;
pub use socket::{Received, Sockets};

use crate::policy::Key;

/// What the host gave for the policy.
#[derive(Debug)]
pub struct Claim {
    /// Bound to `--redundant-port`.
    pub sockets: Sockets,
    /// The secret that the peers' agents have too.
    pub key: Key,
}

/// A random number that is not 0, which nobody else can foresee.
///
/// # Errors
/// The kernel gives none.
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
