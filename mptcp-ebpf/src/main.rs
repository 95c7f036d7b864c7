//! The eBPF side of mptcp-agent.
//!
//! | file | what it is |
//! |---|---|
//! | `hooks/` | one file per hook; `subflow.rs` is a subflow's life: open, account, close |
//! | `policy/weighted.rs` | runs the controller, sets and lifts socket options |
//! | `policy/redundant/` | copies: wrap, unwrap, what a socket has received, known peers, segment sizes |
//! | `shared/maps.rs`, `shared/emit.rs` | the maps and the ring buffer |
//! | `shared/entry.rs` | a subflow in its map, which several CPUs use at once |
//! | `shared/global.rs` | what a global function is, and its rules |
//! | `shared/rule.rs` | finds the policy of a connection |
//! | `shared/path.rs` | finds the path that carries a subflow |
//! | `shared/socket.rs`, `shared/skb.rs` | typed reads of the kernel's structures, access to a packet |
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod hooks;
mod policy;
mod shared;

/// `abi::ABI_SYMBOL`: the agent loads no object that was built with another layout.
#[used]
#[unsafe(no_mangle)]
static MPTCP_AGENT_ABI: u64 = mptcp_common::abi::ABI;

/// The kernel lets only GPL-compatible programs call bpf_setsockopt and the
/// skc_to_* casts.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program from which this can be reached.
    loop {}
}
