//! Decides which routes by source have to be made.
//!
//! ```text
//!   an address of a named path, its device has a carrier
//!       somebody else has a rule for it           leave it
//!       no router is known on its device          say so
//!       else                                      a rule and a table of its own
//!   routes of the agent
//!       the address is gone, or the router another one    remove them
//!       a part is missing                                 add it anew
//! ```
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::record::Made;
use super::wanted::{Address, Wanted};
use crate::net::devices::Present;
use crate::net::routes::{Route, table};
use crate::net::source_routes::{Rule, SourceRoute};

/// The tables that are used: the first, and one after the last.
const TABLES: std::ops::Range<u32> = 52_700..52_800;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remove routes.
    Remove(SourceRoute),
    /// Add routes.
    Add(SourceRoute),
    /// Add a part of own routes that somebody has removed, or the kernel when
    /// the device was down.
    Repair(SourceRoute),
}

/// Why an address gets no routes of the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Without {
    /// Somebody else has made a rule for it.
    Foreign(IpAddr),
    /// No router is known on the device of this name.
    NoRouter(IpAddr, String),
}

/// The steps to take, in this order, and what is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub actions: Vec<Action>,
    /// Addresses that get no routes of the agent's.
    pub without: Vec<Without>,
}

/// Decides what has to be done, `routes` and `rules` being those of the kernel.
pub fn plan(
    routes: &[Route],
    rules: &[Rule],
    present: &Present,
    wanted: &Wanted,
    made: &Made,
) -> Plan {
    let mut plan = Plan::default();
    let own_tables: BTreeSet<u32> = made.routes.iter().map(|own| own.table).collect();
    let mut taken = own_tables.clone();
    taken.extend(routes.iter().map(|route| route.table));
    taken.extend(rules.iter().map(|rule| rule.table));
    let others: Vec<&Route> = routes
        .iter()
        .filter(|route| !own_tables.contains(&route.table))
        .collect();
    let addresses = wanted.addresses(present);

    let mut kept = Vec::new();
    for own in &made.routes {
        let device = present.get(&own.device);
        let there = device.is_some_and(|device| device.addresses.contains(&own.address));
        let way = way(own.address, own.device, present, &others);
        // A router that is no longer told of may still be there.
        let same = way.is_none_or(|gateway| gateway == own.gateway);
        if !there || !same {
            plan.actions.push(Action::Remove(own.clone()));
            continue;
        }
        kept.push(own.address);
        let whole = own.rules().iter().all(|rule| rules.contains(rule))
            && routes.contains(&own.default_route());
        if !whole && device.is_some_and(|device| device.carrier) {
            plan.actions.push(Action::Repair(own.clone()));
        }
    }

    for Address {
        device,
        source,
        carrier,
        ..
    } in addresses
    {
        let address = source.address;
        if !carrier || kept.contains(&address) {
            continue;
        }
        let is_own = |rule: &Rule| own_tables.contains(&rule.table) || rule.suppresses_default;
        let foreign = rules
            .iter()
            .any(|rule| rule.source == Some(address) && !is_own(rule));
        if foreign {
            plan.without.push(Without::Foreign(address));
            continue;
        }
        let Some(gateway) = way(address, device, present, &others) else {
            let name = present.get(&device).map(|device| device.name.clone());
            let name = name.unwrap_or_default();
            plan.without.push(Without::NoRouter(address, name));
            continue;
        };
        let Some(table) = TABLES.clone().find(|table| !taken.contains(table)) else {
            continue;
        };
        taken.insert(table);
        plan.actions.push(Action::Add(SourceRoute {
            address,
            length: source.length,
            device,
            gateway,
            table,
        }));
    }
    plan
}

/// Returns the router of a device, or that it needs none; `None` if neither is
/// known.
#[expect(
    clippy::option_option,
    reason = "whether a way is known, and whether it has a router, are two things"
)]
fn way(
    address: IpAddr,
    device: u32,
    present: &Present,
    routes: &[&Route],
) -> Option<Option<IpAddr>> {
    let own = routes
        .iter()
        .filter(|route| route.default && route.device == device && route.ipv6 == address.is_ipv6());
    let best = own.min_by_key(|route| route.table != table::MAIN);
    match best {
        Some(route) => Some(route.gateway),
        // A device without a link layer leads to one host.
        None if present.get(&device)?.header() == Some(0) => Some(None),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::devices::Device;
    use crate::policy::Policy;

    fn ip(last: u8) -> IpAddr {
        [10, 0, last, 1].into()
    }

    fn gateway(last: u8) -> IpAddr {
        [10, 0, last, 254].into()
    }

    /// Returns eth0 (Ethernet) and ppp0.
    fn present(carrier: bool) -> Present {
        let device = |name: &str, kind, address| Device {
            kind,
            carrier,
            ..Device::with_address(name, address)
        };
        Present::from([
            (2, device("eth0", 1, ip(2))),
            (3, device("ppp0", 512, ip(3))),
        ])
    }

    fn default(device: u32, last: u8) -> Route {
        Route {
            ipv6: false,
            table: table::MAIN,
            default: true,
            gateway: Some(gateway(last)),
            device,
        }
    }

    fn own(last: u8, device: u32, gateway: Option<IpAddr>, table: u32) -> SourceRoute {
        SourceRoute {
            address: ip(last),
            length: 24,
            device,
            gateway,
            table,
        }
    }

    fn planned(routes: &[Route], rules: &[Rule], present: &Present, made: &[SourceRoute]) -> Plan {
        let given = serde_json::json!({"name": "weighted", "weights": ["eth0=1", "ppp0=1"]});
        let given = serde_json::from_value(given).expect("settings");
        let wanted = Wanted::of(&Policy::new(given).expect("a policy"));
        let made = Made {
            routes: made.to_vec(),
            ..Made::default()
        };
        plan(routes, rules, present, &wanted, &made)
    }

    #[test]
    fn each_address_gets_a_table_by_its_own_router() {
        let both = [own(2, 2, Some(gateway(2)), 52_700), own(3, 3, None, 52_701)];
        let plan = planned(&[default(2, 2)], &[], &present(true), &[]);
        assert_eq!(plan.actions, both.clone().map(Action::Add));
        assert_eq!(plan.without, []);
        // Then nothing is left to be done.
        let rules: Vec<Rule> = both.iter().flat_map(SourceRoute::rules).collect();
        let mut routes = vec![default(2, 2)];
        routes.extend(both.iter().map(SourceRoute::default_route));
        assert_eq!(
            planned(&routes, &rules, &present(true), &both),
            Plan::default()
        );
        // Routes that the kernel drops while a device is down are made anew afterwards.
        let lacking = &routes[..2];
        assert_eq!(
            planned(lacking, &rules, &present(false), &both),
            Plan::default()
        );
        let plan = planned(lacking, &rules, &present(true), &both);
        assert_eq!(plan.actions, [Action::Repair(both[1].clone())]);
        // A router that is not told of any more stays; another one counts.
        assert_eq!(
            planned(&routes[1..], &rules, &present(true), &both),
            Plan::default()
        );
        routes[0] = default(2, 9);
        let plan = planned(&routes, &rules, &present(true), &both);
        let new = own(2, 2, Some(gateway(9)), 52_702);
        let expected = [Action::Remove(both[0].clone()), Action::Add(new)];
        assert_eq!(plan.actions, expected);
        // An address that is gone takes its routes with it.
        let gone = planned(&routes, &rules, &Present::new(), &both);
        assert_eq!(gone.actions, both.map(Action::Remove));
    }

    #[test]
    fn no_router_and_rules_of_others_are_told() {
        let mut foreign = own(3, 3, None, 100).rules()[1];
        foreign.priority = 7;
        let plan = planned(&[], &[foreign], &present(true), &[]);
        let name = "eth0".to_owned();
        let expected = [Without::NoRouter(ip(2), name), Without::Foreign(ip(3))];
        assert_eq!(plan.without, expected);
        assert_eq!(plan.actions, []);
    }

    #[test]
    fn tables_of_others_are_left_alone() {
        let mut theirs = default(9, 9);
        theirs.table = 52_700;
        let plan = planned(&[default(2, 2), theirs], &[], &present(true), &[]);
        let first = own(2, 2, Some(gateway(2)), 52_701);
        assert_eq!(plan.actions[0], Action::Add(first));
    }
}
