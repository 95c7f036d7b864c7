//! End-to-end tests: one binary, a module per behaviour. They need root; one
//! that cannot run here says why, and fails under `MPTCP_REQUIRE_ALL=1`.

mod backup;
mod bad_input;
mod cgroup;
mod churn;
mod control;
mod control_faults;
mod endpoint;
mod exact;
mod failover;
mod fallback;
mod fast_open;
mod faults;
mod half_way;
mod hangup;
mod isolation;
mod lab;
mod lifecycle;
mod links;
mod many_devices;
mod measure;
mod observe;
mod options;
mod path_state;
mod redundant_blackout;
mod redundant_bulk;
mod redundant_burst;
mod redundant_cli;
mod redundant_coexist;
mod redundant_copies;
mod redundant_devices;
mod redundant_family;
mod redundant_forged;
mod redundant_key;
mod redundant_loss;
mod redundant_mtu;
mod redundant_nat;
mod redundant_packets;
mod redundant_peer;
mod redundant_shared;
mod redundant_stream;
mod redundant_support;
mod redundant_three;
mod redundant_unequal;
mod remote;
mod scheduler;
mod standby;
mod support;
mod survive;
mod weights;

use std::time::Duration;

/// Ample for a few round trips on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// A transfer of this length is stopped when the test has seen enough.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Ample for what needs some seconds to settle.
pub(crate) const SETTLE: Duration = Duration::from_secs(25);
/// For a transfer that settles several times.
pub(crate) const VERY_LONG: Duration = Duration::from_secs(120);
