//! The kernel's own view, to compare with the reports of a tool: the subflows
//! of a socket ([`subflows`], [`mptcp_info`]), the SNMP counters and device
//! bytes of a namespace ([`Host::netstat`], [`Host::device`]), and what an agent
//! could leave behind ([`BpfObjects`], [`Host::pins`],
//! [`Host::traffic_control`]).

pub mod bpf;
mod counters;
mod detach;
mod foreign;
mod freeze;
mod heartbeat;
mod info;
mod layout;
mod pacer;
mod recovery;
mod remains;

pub use counters::{DeviceCounters, Netstat};
pub use detach::detach_pinned_link;
pub use foreign::Foreign;
pub use freeze::freeze;
pub use heartbeat::{Heartbeats, crowd};
pub use info::{
    MptcpInfo, SubflowInfo, congestion, is_mptcp, mptcp_info, notsent_lowat, set_notsent_lowat,
    subflows,
};
pub use pacer::Pacer;
pub use recovery::Recovery;
pub use remains::BpfObjects;

#[cfg(doc)]
use crate::Host;
