//! The lab: hosts in network namespaces, paths between them, and the traffic
//! that runs over them, for tests, demonstrations and measurements.
//!
//! ```text
//!   Lab -- owns --> Host (a network namespace)       link::Link (one path)
//!                    |                                 |
//!                    | in_ns, run, spawn, endpoint     | set_rate, set_loss, blackhole, down
//!                    v                                 v
//!   traffic: Server, Bulk, RequestResponse     kernel: subflows, SNMP counters, device bytes
//!   agent: Agent -- scrape --> metrics         share: bytes by path, windows, bounds
//! ```
//!
//! Every part is a value that cleans up when it is dropped, also after a panic
//! or Ctrl-C ([`cleanup`]). A lab changes nothing outside the namespaces that
//! it makes. It needs root; [`mod@require`] lists what else it needs.

pub mod agent;
pub mod cleanup;
mod container;
mod host;
pub mod kernel;
mod lab;
pub mod link;
pub mod metrics;
mod namespace;
mod nat;
mod process;
pub mod require;
pub mod share;
pub mod traffic;
pub mod wait;

pub use agent::Agent;
pub use container::{Cgroup, Container};
pub use host::Host;
pub use lab::{Lab, Routed, TwoHosts};
pub use link::{Direction, Family, Link, Over, Path};
pub use nat::NatPath;
pub use process::Process;
