//! Chooses segment sizes so that the copies fit every path.
//!
//! ```text
//!   MTU = outer IP and UDP | inner IP | TCP | options and payload
//!         OVERHEAD_V4/_V6    20 or 40   20    TCP_MAXSEG
//! ```
//!
//! A copy may leave by any device, with the outer IP version of that device's
//! channel. So the smallest MTU and the largest overhead decide. The network
//! beyond the devices is not considered here: TCP's own path MTU discovery, on
//! the originals, takes care of that.
//!
//! Only devices that carry channels count. But when the first connection
//! starts, its segment size is fixed while nobody knows which devices will
//! carry channels. So each device counts for a trial period at first
//! ([`Counting`]).

use std::collections::{BTreeMap, BTreeSet};

use mptcp_common::abi::redundant::{OVERHEAD_V4, OVERHEAD_V6};

const TCP_HEADER: u32 = 20;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

/// Segment sizes that every host accepts over IPv4 (RFC 9293, 3.7.1) and IPv6.
/// Smaller ones would cost more than a copy is worth.
const LEAST_V4: u32 = 536;
const LEAST_V6: u32 = 1220;

/// The largest value that the kernel accepts (`MAX_TCP_WINDOW`).
const LARGEST: u32 = 32_767;

/// A device with a smaller MTU counts only if it carries a channel. IPv6 does
/// not run over such a device, and it is hardly anybody's uplink.
const LEAST_UNTRIED: u32 = 1280;

/// How long a device counts without carrying a channel: from its appearance, or
/// from the first channel of all, if that is later.
const TRIAL_NS: u64 = 10_000_000_000;

/// Keeps track of the devices that count for the segment sizes.
#[derive(Debug, Default)]
pub struct Counting {
    /// Devices that carry a channel, or have carried one.
    carriers: BTreeSet<u32>,
    /// When the first of them carried a channel.
    first_ns: Option<u64>,
    /// When each device was first seen.
    seen_ns: BTreeMap<u32, u64>,
}

impl Counting {
    /// Notes that a device carries a channel.
    pub fn carries(&mut self, ifindex: u32, now_ns: u64) {
        self.first_ns.get_or_insert(now_ns);
        self.carriers.insert(ifindex);
    }

    /// Returns which of the `present` devices (ifindex to MTU) count now.
    pub fn of(&mut self, present: &BTreeMap<u32, u32>, now_ns: u64) -> BTreeSet<u32> {
        self.carriers
            .retain(|ifindex| present.contains_key(ifindex));
        self.seen_ns
            .retain(|ifindex, _| present.contains_key(ifindex));
        if self.carriers.is_empty() {
            self.first_ns = None;
        }
        let mut counted = self.carriers.clone();
        for (&ifindex, &mtu) in present {
            let seen_ns = *self.seen_ns.entry(ifindex).or_insert(now_ns);
            let on_trial = self
                .first_ns
                .is_none_or(|first_ns| now_ns.saturating_sub(first_ns.max(seen_ns)) < TRIAL_NS);
            if on_trial && mtu >= LEAST_UNTRIED {
                counted.insert(ifindex);
            }
        }
        counted
    }
}

/// `TCP_MAXSEG` of sockets over IPv4 and over IPv6; 0: do not set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSizes {
    /// Over IPv4, bytes.
    pub v4: u32,
    /// Over IPv6, bytes.
    pub v6: u32,
}

/// Returns the sizes that fit all `devices`, each given by its MTU and whether
/// it has an IPv6 address. Returns zeros if there is no device.
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
            // Never less than every host accepts.
            (&[(576, false)], 536, 1220),
            (&[(0, true)], 536, 1220),
            (&[(1280, true)], 1192, 1220),
            // Never more than the kernel accepts.
            (&[(65_535, false)], 32_767, 32_767),
        ] {
            let sizes = segment_sizes(devices.iter().copied());
            assert_eq!(sizes, SegmentSizes { v4, v6 }, "{devices:?}");
        }
    }

    #[test]
    fn devices_that_carry_channels_count_and_others_for_a_while() {
        const S: u64 = 1_000_000_000;
        let mut counting = Counting::default();
        let mut present = BTreeMap::from([(1, 1500), (2, 1400), (3, 576)]);
        let set = |indices: &[u32]| indices.iter().copied().collect::<BTreeSet<u32>>();
        assert_eq!(counting.of(&present, 0), set(&[1, 2]));
        // The trial does not end before there is a channel.
        assert_eq!(counting.of(&present, 500 * S), set(&[1, 2]));
        counting.carries(1, 500 * S);
        counting.carries(1, 501 * S);
        assert_eq!(counting.of(&present, 509 * S), set(&[1, 2]));
        assert_eq!(counting.of(&present, 510 * S), set(&[1]));
        // A device that appears later has its trial too.
        present.insert(4, 1300);
        assert_eq!(counting.of(&present, 600 * S), set(&[1, 4]));
        assert_eq!(counting.of(&present, 610 * S), set(&[1]));
        // A device that carries a channel counts, whatever its MTU.
        counting.carries(3, 611 * S);
        assert_eq!(counting.of(&present, 900 * S), set(&[1, 3]));
        // When no device carries channels any more, all count again.
        present.remove(&1);
        present.remove(&3);
        assert_eq!(counting.of(&present, 901 * S), set(&[2, 4]));
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
