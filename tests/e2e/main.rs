//! End-to-end tests: one binary, a module per behaviour. They need root. A test
//! that cannot run here says why, and fails under `MPTCP_REQUIRE_ALL=1`.

mod alone;
mod backup;
mod bad_input;
mod churn;
mod config;
mod control;
mod control_faults;
mod deployed;
mod doctor;
mod endpoint;
mod exact;
mod exec;
mod failover;
mod fallback;
mod fast_open;
mod faults;
mod fleet;
mod half_way;
mod hangup;
mod host_scope;
mod isolation;
mod killed;
mod lab;
mod leave_out;
mod lifecycle;
mod limit;
mod links;
mod listeners;
mod manage;
mod many_devices;
mod measure;
mod messages;
mod observe;
mod options;
mod overflow;
mod page;
mod path_state;
mod peering;
mod pins;
mod policies;
mod prometheus;
mod quota;
mod recipes;
mod redundant_bulk;
mod redundant_cli;
mod redundant_coexist;
mod redundant_devices;
mod redundant_foreign;
mod redundant_forged;
mod redundant_key;
mod redundant_mtu;
mod redundant_nat;
mod redundant_order;
mod redundant_packets;
mod redundant_peer;
mod redundant_routes;
mod redundant_shared;
mod redundant_sizes;
mod redundant_support;
mod remote;
mod resets;
mod rules;
mod scheduler;
mod standby;
mod support;
mod top;
mod traffic;
mod unit;
mod web;
mod weights;

use std::time::Duration;

/// Enough time for a few round trips, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// The length of a transfer that the test stops once it has seen enough.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Enough time for anything that takes some seconds to settle.
pub(crate) const SETTLE: Duration = Duration::from_secs(25);
/// The length of a transfer that has to settle several times.
pub(crate) const VERY_LONG: Duration = Duration::from_secs(120);
