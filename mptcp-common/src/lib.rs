//! The code that the eBPF programs and the agent share.
//!
//! * [`abi`]: the maps' keys and values, and the events;
//! * [`address`]: IP addresses as those have them;
//! * [`layout`]: a fingerprint of those types;
//! * [`names`]: the names of the maps and programs;
//! * [`offsets`]: the kernel members that the programs read, by name;
//! * [`controller`]: the weighted policy's arithmetic, a pure function that
//!   runs in the kernel and, unchanged, in the unit tests;
//! * [`rule`]: which connections a rule matches;
//! * [`packet`], [`arrival`], [`bucket`] and [`spare`]: the same for the
//!   redundant policy, which reads packets, tells copies from retransmissions,
//!   and limits what copies take of a path.
//!
//! No IO, no clock, no allocation: time is an argument.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod address;
pub mod arrival;
pub mod bucket;
pub mod controller;
pub mod layout;
pub mod names;
pub mod offsets;
pub mod packet;
pub mod rule;
pub mod spare;
pub mod word;

#[cfg(feature = "user")]
mod pod;
