//! What the eBPF programs and the agent share.
//!
//! * [`abi`]: the maps' keys and values, the events, and their version;
//! * [`offsets`]: the kernel members that the programs read, by name;
//! * [`controller`]: the weighted policy's arithmetic, a pure function that
//!   runs in the kernel and, unchanged, in the unit tests.
//!
//! No IO, no clock, no allocation: time is an argument.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod controller;
pub mod offsets;
pub mod word;

#[cfg(feature = "user")]
mod pod;
