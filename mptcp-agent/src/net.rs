//! Reads what the kernel says about the network namespace.
//!
//! | file | what it is |
//! |---|---|
//! | `devices` | the devices that paths and copies may use; pure |
//! | `watch` | follows the devices over netlink |
//! | `snmp` | the kernel's counters of Multipath TCP |

pub mod devices;
pub mod snmp;
pub mod watch;
