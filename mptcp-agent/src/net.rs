//! Reads what the kernel says about the network namespace, and changes its
//! endpoints and routes.
//!
//! | file | what it is |
//! |---|---|
//! | `devices` | the devices that paths and copies may use; pure |
//! | `watch` | follows the devices over netlink |
//! | `counters` | what devices have sent and received |
//! | `endpoints` | what the kernel's path manager may open subflows from |
//! | `pm` | changes the endpoints and limits of the kernel's path manager |
//! | `netlink` | asks the kernel, and waits for the answer |
//! | `routes` | which way a packet would leave |
//! | `source_routes` | rules and a table for packets from one address |
//! | `rp_filter` | the reverse path filter of a device |
//! | `sockets` | the TCP and MPTCP sockets |
//! | `snmp` | the kernel's counters of Multipath TCP |

pub mod counters;
pub mod devices;
pub mod endpoints;
pub mod netlink;
pub mod pm;
pub mod routes;
pub mod rp_filter;
pub mod snmp;
pub mod sockets;
pub mod source_routes;
pub mod watch;
