//! The network namespace's devices, as the kernel describes them.
//!
//! Pure: [`crate::net::watch`] reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The present devices, by ifindex.
pub type Present = BTreeMap<u32, Device>;

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name now.
    pub name: String,
    /// `ARPHRD_*` (linux/if_arp.h).
    pub kind: u16,
    /// Bytes; 0 if the kernel did not say.
    pub mtu: u32,
    /// Whether it is up and has a carrier. Without these, nothing leaves by it.
    pub carrier: bool,
    /// Its addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// Those of its addresses that a new subflow may start from, in order.
    pub sources: Vec<Source>,
    /// The device of this network namespace that it runs over: a macvlan's or
    /// VLAN's parent.
    pub lower: Option<u32>,
    /// The device that it is a port of: a bridge, a bond, a VRF.
    pub master: Option<u32>,
}

impl Device {
    /// Makes one with a carrier that has this address in a network of 24 bits.
    #[cfg(test)]
    pub fn with_address(name: &str, address: IpAddr) -> Self {
        let source = Source {
            address,
            length: 24,
            secondary: false,
        };
        Self {
            name: name.to_owned(),
            carrier: true,
            addresses: vec![address],
            sources: vec![source],
            ..Self::default()
        }
    }
}

/// An address that a new subflow may start from: it is valid beyond its own link,
/// and no other host has it. So far as the kernel says, it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix, in bits.
    pub length: u8,
    /// Whether the device has another address of the same network before this
    /// one (IPv4), or the address is a temporary one (IPv6).
    pub secondary: bool,
}

/// Values of [`Device::kind`].
mod kind {
    /// Ethernet and all that looks like it (veth, bridge, bond, VLAN, Wi-Fi).
    pub const ETHER: u16 = 1;
    /// PPP. Its header is added after tc has seen a packet, and removed before.
    pub const PPP: u16 = 512;
    /// WWAN modems without a link layer.
    pub const RAWIP: u16 = 519;
    /// lo.
    pub const LOOPBACK: u16 = 772;
    /// TUN, WireGuard.
    pub const NONE: u16 = 65534;
}

/// Length of an Ethernet header, bytes.
const ETHERNET: u32 = 14;

impl Device {
    /// Returns whether subflows can run over it: it is not lo, and has an
    /// address that is valid beyond its own link.
    pub fn is_path(&self) -> bool {
        self.kind != kind::LOOPBACK && self.routed().next().is_some()
    }

    /// Returns its addresses that are valid beyond its own link.
    pub fn routed(&self) -> impl Iterator<Item = &IpAddr> {
        self.addresses.iter().filter(|address| is_routed(address))
    }

    /// Returns the length in bytes of its link-layer header as tc sees packets;
    /// `None` if the programs do not know such devices.
    pub fn header(&self) -> Option<u32> {
        match self.kind {
            kind::ETHER => Some(ETHERNET),
            kind::PPP | kind::RAWIP | kind::NONE => Some(0),
            _ => None,
        }
    }

    /// Returns whether packets over it may need an outer IPv6 header.
    pub fn has_ipv6(&self) -> bool {
        self.addresses
            .iter()
            .any(|address| address.is_ipv6() && is_routed(address))
    }
}

fn is_routed(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback(),
        // A bridge port has a link-local address too, but carries no traffic of
        // this host.
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// Returns the ifindex of each device that subflows could leave by.
pub fn usable(present: &Present) -> BTreeSet<u32> {
    present
        .iter()
        .filter(|(_, device)| device.is_path())
        .map(|(&ifindex, _)| ifindex)
        .collect()
}

/// Returns the devices' names by ifindex.
pub fn names(present: &Present) -> BTreeMap<u32, String> {
    present
        .iter()
        .map(|(&ifindex, device)| (ifindex, device.name.clone()))
        .collect()
}

/// Returns the pairs of devices of which the first runs over the second,
/// directly or over others in between.
pub fn stacked(present: &Present) -> BTreeSet<(u32, u32)> {
    let mut pairs = BTreeSet::new();
    for (&ifindex, device) in present {
        pairs.extend(device.lower.map(|lower| (ifindex, lower)));
        pairs.extend(device.master.map(|master| (master, ifindex)));
    }
    // Each round adds the pairs that one more device in between connects. The
    // ends of a veth pair run over each other, so the chain has no end; but
    // there are only so many pairs, so the loop has one.
    loop {
        let longer: Vec<(u32, u32)> = pairs
            .iter()
            .flat_map(|&(upper, middle)| {
                let below = pairs.range((middle, 0)..=(middle, u32::MAX));
                below.map(move |&(_, lower)| (upper, lower))
            })
            .filter(|&(upper, lower)| upper != lower && !pairs.contains(&(upper, lower)))
            .collect();
        if longer.is_empty() {
            return pairs;
        }
        pairs.extend(longer);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn device(kind: u16, addresses: &[&str]) -> Device {
        Device {
            name: "x0".to_owned(),
            kind,
            mtu: 1500,
            carrier: true,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Device::default()
        }
    }

    #[test]
    fn what_runs_over_what() {
        let over = |lower| Device {
            lower,
            ..Device::default()
        };
        let port_of = |master| Device {
            master,
            ..Device::default()
        };
        // A macvlan on a VLAN on a bond with two ports, and a veth pair.
        let present = Present::from([
            (1, port_of(Some(3))),
            (2, port_of(Some(3))),
            (3, over(None)),
            (4, over(Some(3))),
            (5, over(Some(4))),
            (6, over(Some(7))),
            (7, over(Some(6))),
        ]);
        let expected = [
            (3, 1),
            (3, 2),
            (4, 1),
            (4, 2),
            (4, 3),
            (5, 1),
            (5, 2),
            (5, 3),
            (5, 4),
            (6, 7),
            (7, 6),
        ];
        assert_eq!(stacked(&present), BTreeSet::from(expected));
        assert_eq!(stacked(&Present::new()), BTreeSet::new());
    }

    #[test]
    fn a_path_has_an_address_that_is_routed() {
        for (kind, addresses, path, ipv6) in [
            (kind::ETHER, &["10.0.0.1"][..], true, false),
            (kind::ETHER, &["10.0.0.1", "fd00::1"], true, true),
            (kind::ETHER, &["10.0.0.1", "fe80::1"], true, false),
            (kind::ETHER, &["169.254.1.1"], true, false),
            (kind::ETHER, &["fe80::1"], false, false),
            (kind::ETHER, &[], false, false),
            (kind::LOOPBACK, &["127.0.0.1", "10.0.0.9"], false, false),
            (kind::NONE, &["2001:db8::1"], true, true),
        ] {
            let device = device(kind, addresses);
            assert_eq!(device.is_path(), path, "{addresses:?}");
            assert_eq!(device.has_ipv6(), ipv6, "{addresses:?}");
        }
    }

    #[test]
    fn link_layers_that_the_programs_know() {
        for (kind, header) in [(1, Some(14)), (65534, Some(0)), (519, Some(0))] {
            assert_eq!(device(kind, &[]).header(), header);
        }
        assert_eq!(device(512, &[]).header(), Some(0));
        // GRE, Infiniband.
        for kind in [778, 32] {
            assert_eq!(device(kind, &[]).header(), None);
        }
    }
}
