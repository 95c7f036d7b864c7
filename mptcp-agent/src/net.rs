//! Reads what the kernel says about the network namespace.
//!
//! | file | what it is |
//! |---|---|
//! | `devices` | the devices that paths and copies may use; pure |
//! | `watch` | follows the devices over netlink |
//! | `endpoints` | what the kernel's path manager may open subflows from |
//! | `netlink` | asks the kernel, and waits for the answer |
//! | `snmp` | the kernel's counters of Multipath TCP |

pub mod devices;
pub mod endpoints;
pub mod netlink;
pub mod snmp;
pub mod watch;
