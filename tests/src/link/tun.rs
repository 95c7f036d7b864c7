//! A TUN device: IP packets to and from user space.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};

use crate::host::Host;

/// Makes the device `name` on `host`; it goes when its file is closed. Reads
/// and writes do not block and are of one IP packet each, complete with check
/// sums and no larger than the MTU.
pub(super) fn create(host: &Host, name: &str) -> Result<File> {
    ensure!(
        name.len() < libc::IFNAMSIZ,
        "a device cannot be called {name:?}"
    );
    // The device is made in the namespace of the thread that asks.
    host.in_ns(|| {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open("/dev/net/tun").context("open /dev/net/tun")?;
        // SAFETY: `ifreq` is integers, arrays and raw pointers, for all of
        // which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives on.
        let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        ensure!(
            status == 0,
            "TUNSETIFF {name}: {}",
            io::Error::last_os_error()
        );
        Ok(file)
    })
}
