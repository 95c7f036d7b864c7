//! What the agent says to others, and they to it: types, and how they are written
//! down.
//!
//! ```text
//!   schema   requests, replies, events and settings, on the control socket and
//!            under `--json`
//!   line     between one of these and its line of JSON
//!   hello    the messages between two agents, on the UDP port of the redundant
//!            policy
//! ```
//!
//! Pure: it opens nothing, reads no clock, and knows nothing of flags, of the
//! runtime or of eBPF. So clients, tests and fuzz targets use it as it is.

pub mod hello;
pub mod line;
pub mod schema;
