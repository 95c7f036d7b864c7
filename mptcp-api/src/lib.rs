//! The messages between the agent and other programs: their types, and how they
//! are encoded.
//!
//! ```text
//!   schema   requests, replies and events, on the control socket and under
//!            `--json`
//!   policy   the settings of each policy, and what is wrong with them
//!   rule     which connections have which policy
//!   config   the configuration file: its keys, and where in it something is wrong
//!   listen   where the agent serves HTTP
//!   line     encodes and decodes those as lines of JSON
//!   saved    the file of data plans that agents leave for later agents
//!   hello    the messages between two agents, on the UDP port of the redundant
//!            policy
//!   wish     the weights that one agent asks the other for, in such a message
//! ```
//!
//! Pure: it opens nothing, reads no clock, and knows nothing of command-line
//! flags, of the runtime or of eBPF. So clients, tests and fuzz targets can use
//! it as it is.

pub mod config;
pub mod hello;
pub mod line;
pub mod listen;
pub mod policy;
pub mod rule;
pub mod saved;
pub mod schema;
pub mod wish;
