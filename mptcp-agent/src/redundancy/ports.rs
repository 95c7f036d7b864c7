//! The devices that copies leave and arrive by, and the device's properties
//! that channels need.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use mptcp_common::abi::{
    self, UNKNOWN_PATH,
    redundant::{Channel, MAX_ADDRESSES, MAX_STACKED, Redundant, Stacked},
};
use mptcp_common::address::{address, octets};

use super::mss::{Counting, segment_sizes};
use super::socket::route_mtu;
use crate::kernel::Kernel;
use crate::net::devices::{self, Present};
use crate::net::rp_filter;
use crate::policy;
use crate::state::paths::PathTable;

/// Keeps the kernel side informed about devices.
pub struct Ports {
    settings: Redundant,
    present: Present,
    /// Index of the path of each device.
    paths: BTreeMap<u32, u32>,
    /// Content of map `DEVICES`.
    attached: BTreeMap<u32, abi::redundant::Device>,
    /// Content of map `ADDRESSES`.
    own: BTreeSet<[u8; 16]>,
    /// Content of map `STACKED`.
    stacked: BTreeSet<Stacked>,
    /// Devices that carry subflows between link-local addresses.
    linked: BTreeSet<u32>,
    /// Devices whose link layer the programs do not know; each is logged once.
    odd: BTreeSet<u32>,
    /// The devices that count for the segment sizes.
    counting: Counting,
    written: Option<Redundant>,
}

impl Ports {
    /// Starts without devices.
    pub fn new(settings: &policy::Redundant) -> Self {
        Self {
            settings: to_kernel(settings),
            present: Present::new(),
            paths: BTreeMap::new(),
            attached: BTreeMap::new(),
            own: BTreeSet::new(),
            stacked: BTreeSet::new(),
            linked: BTreeSet::new(),
            odd: BTreeSet::new(),
            counting: Counting::default(),
            written: None,
        }
    }

    /// Changes the settings, from the next [`Ports::update`] on.
    pub fn set_settings(&mut self, settings: &policy::Redundant) {
        self.settings = to_kernel(settings);
    }

    /// Takes the devices that exist now, and their paths.
    pub fn set(&mut self, present: Present, table: &PathTable) {
        self.present = present;
        self.paths = table.devices().collect();
    }

    /// Notes that a subflow between link-local addresses runs over this device,
    /// and returns whether that is new. Without such a subflow, a device that
    /// has only a link-local address is no path: the port of a bridge has one,
    /// too.
    pub fn carries(&mut self, ifindex: u32) -> bool {
        self.linked.insert(ifindex)
    }

    /// Brings the kernel side up to date: programs, maps of devices, settings.
    /// `carriers` are the devices (by ifindex) that carry channels now.
    ///
    /// # Errors
    /// A map refused an entry.
    pub fn update(
        &mut self,
        kernel: &mut Kernel,
        carriers: &BTreeSet<u32>,
        now_ns: u64,
    ) -> Result<()> {
        let attached = kernel.follow_devices(&self.wanted());
        let devices: BTreeMap<u32, abi::redundant::Device> = attached
            .iter()
            .filter_map(|&ifindex| {
                let device = self.present.get(&ifindex)?;
                let entry = abi::redundant::Device {
                    header: device.header()?,
                    mtu: device.mtu,
                    strict: u32::from(rp_filter::is_strict(&device.name)),
                    path: self.path(ifindex),
                };
                Some((ifindex, entry))
            })
            .collect();
        // The programs of a device start to work once it is in `DEVICES`. Write
        // this host's addresses first, so that packets to others pass
        // untouched.
        let own = self.own_addresses();
        if own != self.own {
            kernel.set_own_addresses(&own)?;
            self.own = own;
        }
        let stacked = self.stacked(&devices);
        if stacked != self.stacked {
            kernel.set_stacked(&stacked)?;
            self.stacked = stacked;
        }
        if devices != self.attached || self.written.is_none() {
            kernel.set_devices(&devices)?;
            self.attached = devices;
        }
        for &ifindex in carriers {
            self.counting.carries(ifindex, now_ns);
        }
        self.update_settings(kernel, now_ns)
    }

    /// Brings the settings up to date, since segment sizes depend on the
    /// devices.
    fn update_settings(&mut self, kernel: &mut Kernel, now_ns: u64) -> Result<()> {
        let mtus = self.attached.iter();
        let mtus = mtus
            .map(|(&ifindex, device)| (ifindex, device.mtu))
            .collect();
        let counted = self.counting.of(&mtus, now_ns);
        let used = counted.iter().filter_map(|at| self.present.get(at));
        let sizes =
            segment_sizes(used.map(|device| (device.mtu, device.has_ipv6() || !device.is_path())));
        let settings = Redundant {
            mss_v4: sizes.v4,
            mss_v6: sizes.v6,
            ..self.settings
        };
        if self.written == Some(settings) {
            return Ok(());
        }
        kernel.set_redundant(&settings)?;
        tracing::debug!(?settings, "settings of the redundant policy");
        let sizes = |settings: Redundant| (settings.mss_v4, settings.mss_v6);
        // When the policy starts, it does a sweep anyway.
        let changed = self
            .written
            .is_some_and(|old| sizes(old) != sizes(settings));
        self.written = Some(settings);
        if changed {
            kernel.sweep(abi::sweep::APPLY)?;
        }
        Ok(())
    }

    /// Returns the indices of the paths whose device has the programs attached.
    pub fn attached_paths(&self) -> BTreeSet<u32> {
        self.attached.values().map(|device| device.path).collect()
    }

    /// Fills in the fields of `channel` that follow from its device and from
    /// the current route to the peer.
    pub fn fill(&self, mut channel: Channel) -> Channel {
        let local = address(channel.local);
        if channel.ifindex == 0 {
            let owner = self.present.iter();
            channel.ifindex = owner
                .filter(|(_, device)| device.addresses.contains(&local))
                .map(|(&ifindex, _)| ifindex)
                .next()
                .unwrap_or(0);
        }
        channel.path = self.path(channel.ifindex);
        channel.mtu = self.present.get(&channel.ifindex).map_or(0, |device| {
            route_mtu(local, address(channel.remote), &device.name)
                .map_or(device.mtu, |mtu| mtu.min(device.mtu))
        });
        channel
    }

    /// Returns the addresses of this host, as the programs look them up.
    fn own_addresses(&self) -> BTreeSet<[u8; 16]> {
        let addresses = self.present.values().flat_map(|device| &device.addresses);
        addresses
            .copied()
            .map(octets)
            .take(MAX_ADDRESSES as usize)
            .collect()
    }

    /// Returns the pairs of `devices` of which one runs over the other, in both
    /// orders.
    fn stacked(&self, devices: &BTreeMap<u32, abi::redundant::Device>) -> BTreeSet<Stacked> {
        let pairs = devices::stacked(&self.present).into_iter();
        pairs
            .filter(|(upper, lower)| devices.contains_key(upper) && devices.contains_key(lower))
            .flat_map(|(one, other)| {
                let swapped = Stacked {
                    one: other,
                    other: one,
                };
                [Stacked { one, other }, swapped]
            })
            .take(MAX_STACKED as usize)
            .collect()
    }

    fn path(&self, ifindex: u32) -> u32 {
        self.paths.get(&ifindex).copied().unwrap_or(UNKNOWN_PATH)
    }

    /// Returns the names of the devices that need the programs.
    fn wanted(&mut self) -> BTreeMap<u32, String> {
        let present = &self.present;
        self.odd.retain(|ifindex| present.contains_key(ifindex));
        self.linked.retain(|ifindex| present.contains_key(ifindex));
        let linked = &self.linked;
        let mut wanted = BTreeMap::new();
        for (&ifindex, device) in present
            .iter()
            .filter(|(ifindex, device)| device.is_path() || linked.contains(ifindex))
        {
            if device.header().is_some() {
                wanted.insert(ifindex, device.name.clone());
            } else if self.odd.insert(ifindex) {
                tracing::warn!(
                    device = device.name,
                    kind = device.kind,
                    "the device carries no copies: the programs do not know its link layer"
                );
            }
        }
        wanted
    }
}

/// Converts the settings to what the programs read, without segment sizes.
fn to_kernel(settings: &policy::Redundant) -> Redundant {
    Redundant {
        budget_bytes_per_sec: settings.budget.map_or(0, |rate| rate.bytes_per_sec),
        copies: settings.copies,
        port: settings.port,
        ..Redundant::default()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::net::devices::{Device, names};
    use crate::policy::Weights;

    fn ports() -> Ports {
        let mut ports = Ports::new(&policy::Redundant::default());
        let device = |name: &str, kind, address: &str| Device {
            name: name.to_owned(),
            kind,
            mtu: 1400,
            carrier: true,
            addresses: vec![address.parse().unwrap()],
            ..Device::default()
        };
        let present = Present::from([
            (1, device("lo", 772, "127.0.0.1")),
            (2, device("eth0", 1, "192.0.2.1")),
            (3, device("tun0", 65534, "2001:db8::1")),
            (4, device("gre0", 778, "10.0.0.1")),
            (5, device("br-port", 1, "fe80::1")),
        ]);
        let mut table = PathTable::new(&Weights::EQUAL);
        table.set_devices(names(&present));
        ports.set(present, &table);
        ports
    }

    #[test]
    fn devices_that_can_carry_copies() {
        let mut ports = ports();
        let wanted = ports.wanted();
        let names: Vec<&str> = wanted.values().map(String::as_str).collect();
        assert_eq!(names, ["eth0", "tun0"]);
        assert_eq!(ports.odd, BTreeSet::from([4]));
        assert!(ports.carries(5) && !ports.carries(5));
        assert!(ports.wanted().contains_key(&5));
        ports.set(Present::new(), &PathTable::new(&Weights::EQUAL));
        assert!(ports.wanted().is_empty() && ports.odd.is_empty());
    }

    #[test]
    fn a_channel_takes_path_and_mtu_of_its_device() {
        let ports = ports();
        let mut channel = Channel {
            ifindex: 2,
            ..Channel::default()
        };
        channel.local[10..].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
        channel.remote[10..].copy_from_slice(&[255, 255, 192, 0, 2, 9]);
        let filled = ports.fill(channel);
        assert_eq!((filled.mtu, filled.path), (1400, ports.path(2)));
        assert_ne!(filled.path, UNKNOWN_PATH);
        // While the protocol knows no device, it is the one with the address.
        channel.ifindex = 0;
        assert_eq!(ports.fill(channel), filled);
        channel.ifindex = 99;
        let unknown = ports.fill(channel);
        assert_eq!((unknown.mtu, unknown.path), (0, UNKNOWN_PATH));
    }
}
