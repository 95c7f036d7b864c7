//! The redundant policy's part: what its hooks do to a packet, and what they
//! know of the socket that it is for.

pub mod arriving;
pub mod familiar;
pub mod headers;
pub mod mss;
pub mod receiver;
pub mod unwrap;
pub mod wrap;
