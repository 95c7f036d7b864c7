//! A foreign sockops program that sets pacing rates.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};

use super::bpf::{self, Instruction, load_sockops, op};
use crate::{Host, container};

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_CGROUP_SOCK_OPS: u32 = 3;
const BPF_FUNC_SETSOCKOPT: i32 = 49;
const BPF_FUNC_GET_NETNS_COOKIE: i32 = 122;

sockopt_impl!(
    /// The cookie of the network namespace that a socket is in.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// A sockops program that sets a pacing rate on each TCP socket of one host when
/// it is established, as other software may do. Dropping it detaches it.
#[derive(Debug)]
pub struct Pacer {
    _link: OwnedFd,
}

impl Pacer {
    /// Attaches the program to the root of the cgroup hierarchy. It acts only in
    /// the network namespace of `host`.
    pub fn attach(host: &Host, rate_bytes_per_sec: u32) -> Result<Self> {
        let program = load_sockops("pacer", &program(netns_cookie(host)?, rate_bytes_per_sec))?;
        let cgroup = File::open(container::cgroup2_mount()?)?;
        let attr = LinkCreate {
            program: program.as_raw_fd(),
            target: cgroup.as_raw_fd(),
            kind: BPF_CGROUP_SOCK_OPS,
            flags: 0,
        };
        let link = bpf::open(BPF_LINK_CREATE, &attr).context("attach a sockops program")?;
        Ok(Self { _link: link })
    }
}

fn program(cookie: u64, rate: u32) -> Vec<Instruction> {
    let (low, high) = (cookie as u32 as i32, (cookie >> 32) as u32 as i32);
    vec![
        op(0xbf, 6, 1, 0, 0),                         // r6 = ctx
        op(0x61, 2, 1, 0, 0),                         // r2 = ctx->op
        op(0x15, 2, 0, 1, 4),                         // ACTIVE_ESTABLISHED: go on
        op(0x55, 2, 0, 12, 5),                        // not PASSIVE_ESTABLISHED: end
        op(0x85, 0, 0, 0, BPF_FUNC_GET_NETNS_COOKIE), //
        op(0x18, 1, 0, 0, low),                       // r1 = the host's cookie
        op(0x00, 0, 0, 0, high),                      //
        op(0x5d, 0, 1, 8, 0),                         // another namespace: end
        op(0x62, 10, 0, -4, rate as i32),             // the rate, on the stack
        op(0xbf, 1, 6, 0, 0),                         // r1 = ctx
        op(0xb7, 2, 0, 0, libc::SOL_SOCKET),          // r2 = level
        op(0xb7, 3, 0, 0, libc::SO_MAX_PACING_RATE),  // r3 = option
        op(0xbf, 4, 10, 0, 0),                        // r4 = &rate
        op(0x07, 4, 0, 0, -4),                        //
        op(0xb7, 5, 0, 0, 4),                         // r5 = its size
        op(0x85, 0, 0, 0, BPF_FUNC_SETSOCKOPT),       //
        op(0xb7, 0, 0, 0, 1),                         // return 1
        op(0x95, 0, 0, 0, 0),
    ]
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads.
#[repr(C)]
struct LinkCreate {
    program: i32,
    target: i32,
    kind: u32,
    flags: u32,
}

fn netns_cookie(host: &Host) -> Result<u64> {
    host.in_ns(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        getsockopt(&socket, NetnsCookie).context("SO_NETNS_COOKIE")
    })
}
