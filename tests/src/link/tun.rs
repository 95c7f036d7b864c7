//! A TUN device: IP packets to and from user space.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};

use crate::host::Host;

/// Makes the device `name` on `host`. It disappears when its file is closed.
/// Each read or write moves one IP packet and does not block; packets have
/// complete checksums and are no larger than the MTU.
pub(super) fn create(host: &Host, name: &str) -> Result<File> {
    ensure!(
        name.len() < libc::IFNAMSIZ,
        "a device cannot be called {name:?}"
    );
    // The kernel makes the device in the namespace of the calling thread.
    host.in_ns(|| {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open("/dev/net/tun").context("open /dev/net/tun")?;
        // SAFETY: `ifreq` consists of integers, arrays and raw pointers, for
        // all of which zero is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            // Its sign depends on the architecture.
            *to = libc::c_char::from_ne_bytes([from]);
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
        let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        ensure!(
            status == 0,
            "TUNSETIFF {name}: {}",
            io::Error::last_os_error()
        );
        Ok(file)
    })
}
