//! The eBPF side of mptcp-agent: one file per hook, the rest shared by them.
//!
//! | file | what it is |
//! |---|---|
//! | `sockops.rs`, `mptcp_subflow_get_send.rs`, `iter_tcp.rs` | the hooks |
//! | `redundant_egress.rs`, `redundant_ingress.rs` | the hooks of the redundant policy |
//! | `subflow.rs` | a subflow's life: open, account, close |
//! | `path.rs` | which path carries a subflow |
//! | `steer.rs` | runs the controller, sets and lifts socket options |
//! | `skb.rs`, `wrap.rs`, `unwrap.rs`, `receiver.rs` | what those do to a packet, and its socket |
//! | `familiar.rs` | new connections with a peer that is proven already |
//! | `mss.rs` | room for wrapping in the segments of new connections |
//! | `socket.rs` | typed reads of the kernel's structures |
//! | `maps.rs`, `emit.rs` | maps and the ring buffer |
#![no_std]
#![no_main]

mod emit;
mod familiar;
mod iter_tcp;
mod maps;
mod mptcp_subflow_get_send;
mod mss;
mod path;
mod receiver;
mod redundant_egress;
mod redundant_ingress;
mod skb;
mod socket;
mod sockops;
mod steer;
mod subflow;
mod unwrap;
mod wrap;

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
