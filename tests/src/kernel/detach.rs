//! Detaches a program that another process has attached, as `bpftool link
//! detach` does.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::bpf;

/// `BPF_LINK_DETACH` of `enum bpf_cmd` (linux/bpf.h).
const BPF_LINK_DETACH: libc::c_int = 34;

/// Detaches the program of a pinned link. The pin stays, and any process that
/// holds the link keeps it, but the program no longer runs.
///
/// # Errors
/// There is no link at `path`, or it cannot be detached.
pub fn detach_pinned_link(path: &Path) -> Result<()> {
    let link = bpf::open_pin(path).with_context(|| format!("no pin at {}", path.display()))?;
    bpf::call(BPF_LINK_DETACH, &link.as_raw_fd()).context("the link cannot be detached")?;
    Ok(())
}
