//! How large segments may be, so that their copies fit every path.
//!
//! ```text
//!   MTU = outer IP and UDP | inner IP | TCP | options and payload
//!         OVERHEAD_V4/_V6    20 or 40   20    TCP_MAXSEG
//! ```
//!
//! A copy may leave by any device, in the outer family of that device's link:
//! the smallest MTU and the largest overhead count. It says nothing about what
//! lies beyond the devices: TCP's own path MTU discovery, on the originals,
//! keeps doing that.

use mptcp_common::abi::redundant::{OVERHEAD_V4, OVERHEAD_V6};

const TCP_HEADER: u32 = 20;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

/// What every host takes over IPv4 (RFC 9293, 3.7.1) and IPv6: less would cost
/// more than a copy is worth.
const LEAST_V4: u32 = 536;
const LEAST_V6: u32 = 1220;

/// The kernel refuses more (`MAX_TCP_WINDOW`).
const LARGEST: u32 = 32_767;

/// `TCP_MAXSEG` of sockets over IPv4 and over IPv6; 0: leave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSizes {
    /// Over IPv4, bytes.
    pub v4: u32,
    /// Over IPv6, bytes.
    pub v6: u32,
}

/// The sizes that fit all `devices`: the MTU of each and whether it has an
/// IPv6 address. Zeros if there is no device.
pub fn segment_sizes(devices: impl IntoIterator<Item = (u32, bool)>) -> SegmentSizes {
    let mut smallest: Option<u32> = None;
    let mut overhead = OVERHEAD_V4;
    for (mtu, ipv6) in devices {
        smallest = Some(smallest.map_or(mtu, |known| known.min(mtu)));
        if ipv6 {
            overhead = OVERHEAD_V6;
        }
    }
    let Some(mtu) = smallest else {
        return SegmentSizes::default();
    };
    let fit = |header: u32, least: u32| {
        mtu.saturating_sub(overhead + header + TCP_HEADER)
            .max(least)
            .min(LARGEST)
    };
    SegmentSizes {
        v4: fit(IPV4_HEADER, LEAST_V4),
        v6: fit(IPV6_HEADER, LEAST_V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_mtu_and_the_largest_overhead_count() {
        for (devices, v4, v6) in [
            (&[][..], 0, 0),
            (&[(1500, false)], 1432, 1412),
            (&[(1500, false), (1400, false)], 1332, 1312),
            (&[(1500, true), (1400, false)], 1312, 1292),
            (&[(9000, true)], 8912, 8892),
            // What every host takes.
            (&[(576, false)], 536, 1220),
            (&[(0, true)], 536, 1220),
            (&[(1280, true)], 1192, 1220),
            // What the kernel takes.
            (&[(65_535, false)], 32_767, 32_767),
        ] {
            let sizes = segment_sizes(devices.iter().copied());
            assert_eq!(sizes, SegmentSizes { v4, v6 }, "{devices:?}");
        }
    }

    #[test]
    fn a_wrapped_segment_fits() {
        for mtu in 1400..2000 {
            let sizes = segment_sizes([(mtu, true)]);
            assert!(OVERHEAD_V6 + IPV4_HEADER + TCP_HEADER + sizes.v4 <= mtu);
            assert!(OVERHEAD_V6 + IPV6_HEADER + TCP_HEADER + sizes.v6 <= mtu);
        }
    }
}
