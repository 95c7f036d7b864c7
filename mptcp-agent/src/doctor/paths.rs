//! Checks the way that packets take: routes by source, reverse path filters,
//! MTUs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::finding::{Faults, Finding, Look, Verdict, ok, unknown};
use super::sight::{Sight, with_address};
use crate::host::sysctl::{self, quoted};
use crate::net::devices::{Device, Present};
use crate::net::routes::{self, Route, table};
use crate::net::rp_filter;

/// How many peers are asked for at most.
const PEERS: usize = 8;

/// The smallest MTU that IPv6 runs over (RFC 8200, 5).
const LEAST_MTU: u32 = 1280;

/// The number of the first table that is made for a source.
const FIRST_TABLE: u32 = 101;

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    const NAMES: [&str; 3] = ["source-routes", "rp-filter", "device-mtu"];
    let seen = sight.uplinks().and_then(|uplinks| {
        let devices = sight.devices.as_ref().map_err(String::clone)?;
        let routes = sight.routes.as_ref().map_err(String::clone)?;
        Ok((uplinks, devices, routes))
    });
    let (uplinks, devices, known) = match seen {
        Ok(seen) => seen,
        Err(why) => return NAMES.map(|name| unknown(name, &why)).to_vec(),
    };
    let ways = ways(sight, devices, &uplinks);
    vec![
        source_routes(&ways, known),
        reverse_path(&filters(&uplinks, &ways)),
        mtu(&uplinks),
    ]
}

/// The way from an address of this host.
#[derive(Clone, Debug)]
struct Way {
    source: IpAddr,
    /// The ifindex of the device that has the address.
    index: u32,
    /// Its name.
    device: String,
    /// Whether its link has a router or not (a tunnel, a modem).
    is_ethernet: bool,
    /// A destination, and the device by which packets leave; `None` if there is
    /// no route.
    to: Vec<(IpAddr, Option<u32>)>,
    /// Whether the destinations are those of connections, or else whether the
    /// kernel has any route to them.
    counts: bool,
}

/// Asks for the way from each address that an endpoint has. A server needs one
/// from each address of its uplinks, to which clients may open subflows.
fn ways(sight: &Sight, devices: &Present, uplinks: &BTreeMap<u32, &Device>) -> Vec<Way> {
    let mut sources: BTreeMap<IpAddr, Option<u32>> = BTreeMap::new();
    if uplinks.len() > 1 && sight.serves() {
        let addresses = uplinks.values().flat_map(|device| device.routed());
        sources.extend(addresses.map(|address| (*address, None)));
    }
    for endpoint in sight.endpoints() {
        sources.insert(endpoint.address, endpoint.device);
    }
    let peers: BTreeSet<IpAddr> = sight
        .mptcp
        .iter()
        .flatten()
        .map(|connection| connection.remote.ip())
        .filter(|peer| !peer.is_loopback())
        .collect();
    let mut ways = Vec::new();
    for (source, bound_to) in sources {
        let Some((index, device)) = with_address(devices, source) else {
            continue;
        };
        if !uplinks.contains_key(&index) {
            continue;
        }
        let same = |peer: &&IpAddr| peer.is_ipv4() == source.is_ipv4();
        let mut to: Vec<IpAddr> = peers.iter().filter(same).take(PEERS).copied().collect();
        let (far, any) = routes::far(source);
        let counts = !to.is_empty() || routes::device_for(far, any, None).is_ok();
        if to.is_empty() {
            to.push(far);
        }
        let by = |to| (to, routes::device_for(to, source, bound_to).ok());
        ways.push(Way {
            source,
            index,
            device: device.name.clone(),
            is_ethernet: device.header() != Some(0),
            to: to.into_iter().map(by).collect(),
            counts,
        });
    }
    ways
}

fn source_routes(ways: &[Way], known: &[Route]) -> Finding {
    let mut faults = Faults::default();
    let mut tables: BTreeSet<u32> = known.iter().map(|route| route.table).collect();
    for way in ways {
        let wrong = way.to.iter().find(|(_, by)| *by != Some(way.index));
        let Some((to, by)) = wrong else {
            continue;
        };
        let Way { source, device, .. } = way;
        let seen = match by {
            Some(_) => format!("packets from {source} to {to} do not leave by {device}"),
            None => format!("packets from {source} have no route to {to} by {device}"),
        };
        let verdict = match way.counts {
            true => Verdict::Problem,
            false => Verdict::Warning,
        };
        faults.add(verdict, seen, route_for(way, known, &mut tables));
    }
    let fine = match ways.len() {
        0 => "no address needs one".to_owned(),
        count => format!("each of {count} addresses has a way by its own device"),
    };
    faults.finish("source-routes", fine)
}

/// Returns the commands that give an address a route of its own. `tables` are the
/// tables that are taken.
fn route_for(way: &Way, known: &[Route], tables: &mut BTreeSet<u32>) -> String {
    let ip = match way.source {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip -6",
    };
    let own = |route: &&Route| route.device == way.index && route.ipv6 == way.source.is_ipv6();
    let source = way.source;
    let by_itself = known
        .iter()
        .filter(own)
        .find(|route| route.default && route.table != table::MAIN);
    if let Some(route) = by_itself {
        return format!("{ip} rule add from {source} table {}", route.table);
    }
    let taken = |table: &u32| tables.contains(table);
    let table = (FIRST_TABLE..)
        .find(|table| !taken(table))
        .unwrap_or(FIRST_TABLE);
    tables.insert(table);
    let device = quoted(&way.device);
    let gateway = known.iter().filter(own).find_map(|route| route.gateway);
    let via = match gateway {
        Some(gateway) => format!("via {gateway} dev {device}"),
        None if !way.is_ethernet => format!("dev {device}"),
        None => {
            return format!(
                "{ip} rule add from {source} table {table}\n\
                 # and, by the router on {device}: {ip} route add default via ROUTER dev {device} \
                 table {table}"
            );
        }
    };
    format!("{ip} rule add from {source} table {table}\n{ip} route add default {via} table {table}")
}

/// A device's reverse path filter.
#[derive(Clone, Debug)]
struct Filter {
    device: String,
    /// 0, 1 (strict) or 2; or why it is not known.
    value: Look<u8>,
    /// Whether answers to what arrives would leave by the device.
    fits: bool,
}

fn filters(uplinks: &BTreeMap<u32, &Device>, ways: &[Way]) -> Vec<Filter> {
    let has_v4 = |device: &Device| device.addresses.iter().any(IpAddr::is_ipv4);
    // With one uplink, everything comes back the way it went.
    if uplinks.len() < 2 {
        return Vec::new();
    }
    let mut filters = Vec::new();
    for (&index, device) in uplinks.iter().filter(|(_, device)| has_v4(device)) {
        let back = |way: &Way| {
            way.to.iter().all(|(to, _)| {
                routes::device_for(*to, way.source, None).is_ok_and(|by| by == index)
            })
        };
        let mut own = ways
            .iter()
            .filter(|way| way.index == index && way.source.is_ipv4());
        let value = rp_filter::of(&device.name);
        filters.push(Filter {
            device: device.name.clone(),
            value: value.ok_or_else(|| format!("cannot read rp_filter of {}", device.name)),
            fits: own.all(back),
        });
    }
    filters
}

fn reverse_path(filters: &[Filter]) -> Finding {
    const NAME: &str = "rp-filter";
    let mut faults = Faults::default();
    for Filter {
        device,
        value,
        fits,
    } in filters
    {
        match value {
            Ok(1) => {
                let (verdict, what) = match fits {
                    true => (
                        Verdict::Warning,
                        "drops what another route leads to, such as copies",
                    ),
                    false => (
                        Verdict::Problem,
                        "drops what arrives there, since no route leads back",
                    ),
                };
                let key = format!("net/ipv4/conf/{device}/rp_filter");
                faults.add(
                    verdict,
                    format!("the strict reverse path filter of {device} {what}"),
                    sysctl::command(&key, "2"),
                );
            }
            Ok(_) => {}
            Err(why) => return unknown(NAME, why),
        }
    }
    if filters.is_empty() {
        return ok(NAME, "this host has one IPv4 uplink at most");
    }
    faults.finish(NAME, "no uplink has a strict reverse path filter")
}

fn mtu(uplinks: &BTreeMap<u32, &Device>) -> Finding {
    let mut faults = Faults::default();
    for device in uplinks.values() {
        // The kernel may not say.
        if (1..LEAST_MTU).contains(&device.mtu) {
            faults.add(
                Verdict::Warning,
                format!(
                    "{} has an MTU of {}: IPv6 does not run over it, and copies do not fit",
                    device.name, device.mtu
                ),
                format!("ip link set dev {} mtu {LEAST_MTU}", quoted(&device.name)),
            );
        }
    }
    faults.finish(
        "device-mtu",
        format!("no uplink has an MTU below {LEAST_MTU}"),
    )
}

#[cfg(test)]
mod tests;
