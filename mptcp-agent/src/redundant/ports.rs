//! The devices that copies leave and arrive by, and what links take from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use mptcp_common::abi::{
    self, UNKNOWN_PATH,
    redundant::{Link, Redundant},
};

use super::mss::segment_sizes;
use super::socket::route_mtu;
use crate::devices::Present;
use crate::kernel::Kernel;
use crate::paths::PathTable;
use crate::policy;

/// What the kernel side has been told of devices.
pub struct Ports {
    settings: Redundant,
    present: Present,
    /// Index of the path of each device.
    paths: BTreeMap<u32, u32>,
    /// What is in map `DEVICES`.
    attached: BTreeMap<u32, abi::redundant::Device>,
    /// Devices whose link layer the programs do not know: told once.
    odd: BTreeSet<u32>,
    written: Option<Redundant>,
}

impl Ports {
    /// No devices yet.
    pub fn new(settings: &policy::Redundant) -> Self {
        Self {
            settings: to_kernel(settings),
            present: Present::new(),
            paths: BTreeMap::new(),
            attached: BTreeMap::new(),
            odd: BTreeSet::new(),
            written: None,
        }
    }

    /// Other settings, from the next [`Ports::update`] on.
    pub fn set_settings(&mut self, settings: &policy::Redundant) {
        self.settings = to_kernel(settings);
    }

    /// Takes note of the devices that there are now and of their paths.
    pub fn set(&mut self, present: Present, table: &PathTable) {
        self.present = present;
        self.paths = table.devices().collect();
    }

    /// Brings the kernel side up to date: programs, map `DEVICES`, settings.
    ///
    /// # Errors
    /// A map refused an entry.
    pub fn update(&mut self, kernel: &mut Kernel) -> Result<()> {
        let attached = kernel.follow_devices(&self.wanted());
        let devices: BTreeMap<u32, abi::redundant::Device> = attached
            .iter()
            .filter_map(|&ifindex| {
                let device = self.present.get(&ifindex)?;
                let entry = abi::redundant::Device {
                    header: device.header()?,
                    mtu: device.mtu,
                    strict: u32::from(is_strict(&device.name)),
                    path: self.path(ifindex),
                };
                Some((ifindex, entry))
            })
            .collect();
        if devices != self.attached || self.written.is_none() {
            kernel.set_devices(&devices)?;
            self.attached = devices;
        }
        let used = self.attached.keys().filter_map(|at| self.present.get(at));
        let sizes = segment_sizes(used.map(|device| (device.mtu, device.has_ipv6())));
        let settings = Redundant {
            mss_v4: sizes.v4,
            mss_v6: sizes.v6,
            ..self.settings
        };
        if self.written != Some(settings) {
            kernel.set_redundant(&settings)?;
            self.written = Some(settings);
            tracing::debug!(?settings, "settings of the redundant policy");
        }
        Ok(())
    }

    /// Index of each path that has a device with the programs.
    pub fn attached_paths(&self) -> BTreeSet<u32> {
        self.attached.values().map(|device| device.path).collect()
    }

    /// `link` with what its device, and the route there, say now.
    pub fn fill(&self, mut link: Link) -> Link {
        let local = address(link.local);
        if link.ifindex == 0 {
            let owner = self.present.iter();
            link.ifindex = owner
                .filter(|(_, device)| device.addresses.contains(&local))
                .map(|(&ifindex, _)| ifindex)
                .next()
                .unwrap_or(0);
        }
        link.path = self.path(link.ifindex);
        link.mtu = self.present.get(&link.ifindex).map_or(0, |device| {
            route_mtu(local, address(link.remote), &device.name)
                .map_or(device.mtu, |mtu| mtu.min(device.mtu))
        });
        link
    }

    fn path(&self, ifindex: u32) -> u32 {
        self.paths.get(&ifindex).copied().unwrap_or(UNKNOWN_PATH)
    }

    /// Names of the devices that are to have the programs.
    fn wanted(&mut self) -> BTreeMap<u32, String> {
        let present = &self.present;
        self.odd.retain(|ifindex| present.contains_key(ifindex));
        let mut wanted = BTreeMap::new();
        for (&ifindex, device) in present.iter().filter(|(_, device)| device.is_path()) {
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

/// The settings as the programs have them, without segment sizes.
fn to_kernel(settings: &policy::Redundant) -> Redundant {
    Redundant {
        budget_bytes_per_sec: settings.budget.map_or(0, |rate| rate.bytes_per_sec),
        copies: settings.copies,
        port: settings.port,
        ..Redundant::default()
    }
}

/// IPv4 is in the maps as `::ffff:a.b.c.d`.
fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
}

/// Whether the device drops packets whose source it would not route back over
/// itself: `rp_filter` 1, of it or of all, and neither 2.
fn is_strict(device: &str) -> bool {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    strictest(read("all"), read(device)) == 1
}

/// As `IN_DEV_RPFILTER` has it.
fn strictest(all: u8, device: u8) -> u8 {
    all.max(device)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::devices::{Device, names};
    use crate::policy::{RedundantArgs, Weights};

    fn ports() -> Ports {
        let mut ports = Ports::new(&policy::Redundant::new(&RedundantArgs::default()));
        let device = |name: &str, kind, address: &str| Device {
            name: name.to_owned(),
            kind,
            mtu: 1400,
            carrier: true,
            addresses: vec![address.parse().unwrap()],
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
        ports.set(Present::new(), &PathTable::new(&Weights::EQUAL));
        assert!(ports.wanted().is_empty() && ports.odd.is_empty());
    }

    #[test]
    fn a_link_takes_path_and_mtu_of_its_device() {
        let ports = ports();
        let mut link = Link {
            ifindex: 2,
            ..Link::default()
        };
        link.local[10..].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
        link.remote[10..].copy_from_slice(&[255, 255, 192, 0, 2, 9]);
        let filled = ports.fill(link);
        assert_eq!((filled.mtu, filled.path), (1400, ports.path(2)));
        assert_ne!(filled.path, UNKNOWN_PATH);
        // The device with that address, while the protocol knows none.
        link.ifindex = 0;
        assert_eq!(ports.fill(link), filled);
        link.ifindex = 99;
        let unknown = ports.fill(link);
        assert_eq!((unknown.mtu, unknown.path), (0, UNKNOWN_PATH));
    }

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
