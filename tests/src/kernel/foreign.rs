//! Foreign sockops programs, which interfere with those of the agent.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};

use super::bpf::{self, Instruction, load_sockops, op};

const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_CGROUP_SOCK_OPS: u32 = 3;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_FUNC_SOCK_OPS_CB_FLAGS_SET: i32 = 59;

/// A sockops program, attached to a cgroup until it is dropped.
#[derive(Debug)]
pub struct Foreign {
    cgroup: File,
    program: OwnedFd,
}

impl Foreign {
    /// The name of [`Foreign::exclusive`]'s program.
    pub const NAME: &str = "somebody_else";

    /// Attaches a program that does nothing and allows no second one beside it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn exclusive(cgroup: &Path) -> Result<Self> {
        Self::attach(cgroup, &[op(0xb7, 0, 0, 0, 1), op(0x95, 0, 0, 0, 0)], 0)
    }

    /// Attaches a program that turns off all callbacks of a socket when it is
    /// established, including those that other programs have asked for.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn silencer(cgroup: &Path) -> Result<Self> {
        let code = [
            op(0x61, 2, 1, 0, 0), // r2 = ctx->op
            op(0x15, 2, 0, 1, 4), // ACTIVE_ESTABLISHED: go on
            op(0x55, 2, 0, 2, 5), // not PASSIVE_ESTABLISHED: end
            op(0xb7, 2, 0, 0, 0), // r2 = no flags
            op(0x85, 0, 0, 0, BPF_FUNC_SOCK_OPS_CB_FLAGS_SET),
            op(0xb7, 0, 0, 0, 1), // return 1
            op(0x95, 0, 0, 0, 0),
        ];
        Self::attach(cgroup, &code, BPF_F_ALLOW_MULTI)
    }

    fn attach(cgroup: &Path, code: &[Instruction], flags: u32) -> Result<Self> {
        let cgroup = File::open(cgroup).with_context(|| format!("open {}", cgroup.display()))?;
        let program = load_sockops(Self::NAME, code)?;
        let attributes = [
            cgroup.as_raw_fd().cast_unsigned(),
            program.as_raw_fd().cast_unsigned(),
            BPF_CGROUP_SOCK_OPS,
            flags,
        ];
        bpf::call(BPF_PROG_ATTACH, &attributes).context("attach a sockops program")?;
        Ok(Self { cgroup, program })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let attributes = [
            self.cgroup.as_raw_fd().cast_unsigned(),
            self.program.as_raw_fd().cast_unsigned(),
            BPF_CGROUP_SOCK_OPS,
            0,
        ];
        let _ = bpf::call(BPF_PROG_DETACH, &attributes);
    }
}
