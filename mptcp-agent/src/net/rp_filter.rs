//! The reverse path filter of IPv4: whether a device drops a packet if the route
//! back to its source is not over this device.

use std::fs;

/// Returns the filter that holds for a device: 0 is off, 1 strict, 2 loose.
/// `None` if it cannot be read, as after the device is gone.
pub fn of(device: &str) -> Option<u8> {
    Some(strictest(read("all")?, read(device)?))
}

/// Returns whether the device drops a packet if the route to its source is not
/// over this device: `rp_filter` is 1 for it or for `all`, and 2 for neither.
pub fn is_strict(device: &str) -> bool {
    of(device) == Some(1)
}

fn read(name: &str) -> Option<u8> {
    let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Combines both settings as the kernel's `IN_DEV_RPFILTER` does.
fn strictest(all: u8, device: u8) -> u8 {
    all.max(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rp_filter_is_strict_at_one_only() {
        for (all, device, strict) in [
            (0, 0, false),
            (1, 0, true),
            (0, 1, true),
            (2, 1, false),
            (1, 2, false),
        ] {
            assert_eq!(strictest(all, device) == 1, strict, "{all} {device}");
        }
        assert!(!is_strict("no-such-device/.."));
    }
}
