//! Finds the addresses that belong to paths that the user named.
//!
//! Pure: devices and addresses are arguments.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::devices::{Device, Present, Source};
use crate::policy::Policy;
use crate::policy::selector::Selector;

/// The paths that the user named by a device, or by an address or prefix of this
/// host. Other paths have no address of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    paths: Vec<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    selector: Selector,
    standby: bool,
    /// Whether no subflow of it is open, though there are connections.
    unused: bool,
}

/// An address of a path that the user named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The ifindex of its device.
    pub device: u32,
    /// The address, and its network.
    pub source: Source,
    /// Whether the device has a carrier.
    pub carrier: bool,
    /// Whether the path has weight 0.
    pub standby: bool,
    /// Whether no subflow of the path is open, though there are connections.
    pub unused: bool,
}

impl Wanted {
    /// Returns the paths that the policy's settings name.
    pub fn of(policy: &Policy) -> Self {
        let weights = policy.weights();
        let listed = weights.listed.iter();
        let paths = listed
            .filter(|one| matches!(one.selector, Selector::Device(_) | Selector::Prefix(_)))
            .map(|one| Path {
                selector: one.selector.clone(),
                standby: one.weight == 0,
                unused: false,
            });
        Self {
            paths: paths.collect(),
        }
    }

    /// Takes note of the paths that no open subflow belongs to, by their labels.
    /// Returns whether anything has changed.
    pub fn note_unused(&mut self, is_unused: impl Fn(&str) -> bool) -> bool {
        let mut changed = false;
        for path in &mut self.paths {
            let unused = is_unused(&path.selector.to_string());
            changed |= path.unused != unused;
            path.unused = unused;
        }
        changed
    }

    /// Returns whether no path is named in such a way.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the addresses of the paths, by device, and each only once.
    pub fn addresses(&self, present: &Present) -> Vec<Address> {
        let mut found: Vec<Address> = Vec::new();
        for (&index, device) in present {
            for &source in &device.sources {
                let Some(path) = self.path(device, source.address) else {
                    continue;
                };
                // The name of a device stands for one address of each of its
                // networks.
                let by_device = matches!(path.selector, Selector::Device(_));
                let known = |one: &Address| one.source.address == source.address;
                if by_device && source.secondary || found.iter().any(known) {
                    continue;
                }
                found.push(Address {
                    device: index,
                    source,
                    carrier: device.carrier,
                    standby: path.standby,
                    unused: path.unused,
                });
            }
        }
        found
    }

    /// Returns whether the path of an address has weight 0.
    pub fn is_standby(&self, device: &Device, address: IpAddr) -> bool {
        self.path(device, address).is_some_and(|path| path.standby)
    }

    /// Returns the path of an address: the longest prefix, or else the device.
    fn path(&self, device: &Device, address: IpAddr) -> Option<&Path> {
        let prefixes = self.paths.iter().filter_map(|path| match &path.selector {
            Selector::Prefix(net) if contains(net, address) => Some((net.prefix_len(), path)),
            _ => None,
        });
        let longest = prefixes.max_by_key(|(length, _)| *length);
        longest.map(|(_, path)| path).or_else(|| {
            let named = |path: &&Path| match &path.selector {
                Selector::Device(name) => *name == device.name,
                _ => false,
            };
            self.paths.iter().find(named)
        })
    }
}

fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use mptcp_api::policy::Given;

    use super::*;

    fn wanted(weights: &[&str], limits: &[&str]) -> Wanted {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut given: Given = serde_json::from_value(serde_json::json!({
            "name": "weighted", "weights": strings(weights) as Vec<String>,
        }))
        .unwrap();
        given.shared.limits = strings(limits);
        Wanted::of(&Policy::new(given).unwrap())
    }

    fn source(address: &str, secondary: bool) -> Source {
        Source {
            address: address.parse().unwrap(),
            length: 24,
            secondary,
        }
    }

    fn present() -> Present {
        let device = |name: &str, sources: &[Source]| Device {
            name: name.to_owned(),
            carrier: true,
            sources: sources.to_vec(),
            ..Device::default()
        };
        let eth0 = [source("10.0.0.1", false), source("10.0.0.9", true)];
        let wwan0 = [source("10.1.0.1", false), source("fd00::1", false)];
        Present::from([(2, device("eth0", &eth0)), (3, device("wwan0", &wwan0))])
    }

    fn addresses(weights: &[&str], limits: &[&str]) -> Vec<(u32, String, bool)> {
        let found = wanted(weights, limits).addresses(&present());
        let shown = found
            .iter()
            .map(|one| (one.device, one.source.address.to_string(), one.standby));
        shown.collect()
    }

    #[test]
    fn devices_prefixes_and_limits_name_addresses() {
        let row = |device, address: &str, standby| (device, address.to_owned(), standby);
        assert_eq!(addresses(&["id:1=0", "remote:10.0.0.0/8=2"], &[]), []);
        assert!(wanted(&["id:1=0"], &[]).is_empty());
        assert_eq!(
            addresses(&["eth0=3"], &[]),
            [row(2, "10.0.0.1", false)],
            "a secondary address is not the device's"
        );
        let both = [row(3, "10.1.0.1", true), row(3, "fd00::1", true)];
        assert_eq!(addresses(&["wwan0=0"], &[]), both);
        let both = both.map(|(device, address, _)| (device, address, false));
        assert_eq!(addresses(&["eth9=3"], &["wwan0=5mbit"]), both);
        assert_eq!(
            addresses(&["10.0.0.0/24=0", "10.0.0.9=2"], &[]),
            [row(2, "10.0.0.1", true), row(2, "10.0.0.9", false)]
        );
        assert_eq!(
            addresses(&["wwan0=0", "fd00::/64=4"], &[]),
            [row(3, "10.1.0.1", true), row(3, "fd00::1", false)]
        );
    }
}
