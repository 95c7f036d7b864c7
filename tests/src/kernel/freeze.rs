//! Makes a map refuse every further write from user space: a fault that a
//! change of policy has to survive.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::bpf;

/// `BPF_MAP_FREEZE` of `enum bpf_cmd` (linux/bpf.h).
const BPF_MAP_FREEZE: libc::c_int = 22;

/// Freezes the map that is pinned at `path`, for as long as the map exists.
///
/// # Errors
/// There is no map at `path`, or the kernel refuses.
pub fn freeze(path: &Path) -> Result<()> {
    let map = bpf::open_pin(path).with_context(|| format!("open {}", path.display()))?;
    bpf::call(BPF_MAP_FREEZE, &map.as_raw_fd())
        .with_context(|| format!("freeze {}", path.display()))?;
    Ok(())
}
