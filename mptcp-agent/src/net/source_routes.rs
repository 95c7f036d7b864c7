//! Routes of a source address of its own: rules and a table.
//!
//! ```text
//!   32764  from ADDRESS lookup main suppress_prefixlength 0   what main says of other networks
//!   32765  from ADDRESS lookup TABLE                          the rest, by the device
//!   TABLE  NETWORK dev DEVICE; default via GATEWAY dev DEVICE
//! ```
//!
//! Without the first rule, packets from the address to other networks that this
//! host leads to (containers, tunnels) would go to the router. The rules come
//! just before the kernel's own, so those of a VPN go first.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, Parseable as _,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use serde::{Deserialize, Serialize};

use super::netlink::exchange;
use super::routes::{Route, table};

/// The priorities of both rules.
const MAIN_FIRST: u32 = 32_764;
const OWN_TABLE: u32 = 32_765;

/// The routes of one source address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRoute {
    /// The source address.
    pub address: IpAddr,
    /// The length of its network's prefix, in bits.
    pub length: u8,
    /// The ifindex of its device.
    pub device: u32,
    /// The router; `None`: the device leads to one host or modem.
    pub gateway: Option<IpAddr>,
    /// The number of the table.
    pub table: u32,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its priority; the lowest goes first.
    pub priority: u32,
    /// The source address that it is for, if it is for just one.
    pub source: Option<IpAddr>,
    /// The table that it leads to.
    pub table: u32,
    /// Whether the table's default route does not count.
    pub suppresses_default: bool,
}

impl SourceRoute {
    /// Returns the rules.
    pub fn rules(&self) -> [Rule; 2] {
        let rule = |priority, table, suppresses_default| Rule {
            priority,
            source: Some(self.address),
            table,
            suppresses_default,
        };
        [
            rule(MAIN_FIRST, table::MAIN, true),
            rule(OWN_TABLE, self.table, false),
        ]
    }

    /// Returns the default route.
    pub fn default_route(&self) -> Route {
        Route {
            ipv6: self.address.is_ipv6(),
            table: self.table,
            default: true,
            gateway: self.gateway,
            device: self.device,
        }
    }

    /// Adds all of it; what is there already stays.
    ///
    /// # Errors
    /// The kernel refuses a part of it.
    pub fn add(&self) -> Result<()> {
        let failed = || format!("cannot add the routes of {}", self.address);
        for route in self.routes().with_context(failed)? {
            let request = RouteNetlinkMessage::NewRoute(route);
            change(request, NLM_F_CREATE | NLM_F_REPLACE).with_context(failed)?;
        }
        for rule in self.rules() {
            let request = RouteNetlinkMessage::NewRule(message(&rule, self.address));
            ignore(change(request, NLM_F_CREATE | NLM_F_EXCL), libc::EEXIST)
                .with_context(failed)?;
        }
        Ok(())
    }

    /// Removes all of it that is there.
    ///
    /// # Errors
    /// The kernel refuses a part of it.
    pub fn remove(&self) -> Result<()> {
        let failed = || format!("cannot remove the routes of {}", self.address);
        for rule in self.rules() {
            let request = RouteNetlinkMessage::DelRule(message(&rule, self.address));
            ignore(change(request, 0), libc::ENOENT).with_context(failed)?;
        }
        // The other way round: the network is what the router is reached by.
        for route in self.routes().with_context(failed)?.into_iter().rev() {
            let removed = change(RouteNetlinkMessage::DelRoute(route), 0);
            let removed = ignore(removed, libc::ESRCH);
            // The device, and its routes with it, may be gone.
            ignore(removed, libc::ENODEV).with_context(failed)?;
        }
        Ok(())
    }

    /// Returns the routes of the table.
    fn routes(&self) -> Result<Vec<RouteMessage>> {
        let net = IpNet::new(self.address, self.length)?;
        let mut found = Vec::new();
        if net.prefix_len() < net.max_prefix_len() {
            let mut network = self.route(net.prefix_len(), RouteScope::Link);
            let destination = RouteAttribute::Destination(net.network().into());
            network.attributes.push(destination);
            found.push(network);
        }
        let scope = match self.gateway {
            Some(_) => RouteScope::Universe,
            None => RouteScope::Link,
        };
        let mut default = self.route(0, scope);
        if let Some(gateway) = self.gateway {
            default
                .attributes
                .push(RouteAttribute::Gateway(gateway.into()));
            // Without the flag, the kernel takes no router of another network.
            if gateway.is_ipv4() && !net.contains(&gateway) {
                default.header.flags |= RouteFlags::Onlink;
            }
        }
        found.push(default);
        Ok(found)
    }

    fn route(&self, length: u8, scope: RouteScope) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.address);
        message.header.destination_prefix_length = length;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match self.address {
            IpAddr::V4(_) => scope,
            IpAddr::V6(_) => RouteScope::Universe,
        };
        message.attributes = vec![
            RouteAttribute::Table(self.table),
            RouteAttribute::Oif(self.device),
        ];
        message
    }
}

/// Lists the rules of both families.
///
/// # Errors
/// The kernel cannot be asked.
pub fn rules() -> Result<Vec<Rule>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RuleMessage::default();
        message.header.family = family;
        let answers = exchange(
            NETLINK_ROUTE,
            RouteNetlinkMessage::GetRule(message),
            NLM_F_REQUEST | NLM_F_DUMP,
        )
        .context("cannot list the rules")?;
        // A rule of a kind that the crate cannot decode is none that matters.
        let rules = answers
            .iter()
            .filter_map(|answer| RuleMessage::parse(&answer.payload[..]).ok());
        found.extend(rules.map(|message| rule(&message)));
    }
    Ok(found)
}

fn rule(message: &RuleMessage) -> Rule {
    let mut found = Rule {
        priority: 0,
        source: None,
        table: message.header.table.into(),
        suppresses_default: false,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => found.priority = *priority,
            RuleAttribute::Table(table) => found.table = *table,
            RuleAttribute::SuppressPrefixLen(0) => found.suppresses_default = true,
            RuleAttribute::Source(source) => {
                let whole = if source.is_ipv4() { 32 } else { 128 };
                found.source = (message.header.src_len == whole).then_some(*source);
            }
            _ => {}
        }
    }
    found
}

fn message(rule: &Rule, source: IpAddr) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(source);
    message.header.src_len = if source.is_ipv4() { 32 } else { 128 };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(source),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
    ];
    if rule.suppresses_default {
        message.attributes.push(RuleAttribute::SuppressPrefixLen(0));
    }
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn change(request: RouteNetlinkMessage, flags: u16) -> Result<()> {
    exchange(NETLINK_ROUTE, request, NLM_F_REQUEST | NLM_F_ACK | flags).map(drop)
}

/// Takes an error of this number for success.
fn ignore(result: Result<()>, number: i32) -> Result<()> {
    let is_it = |error: &anyhow::Error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.raw_os_error() == Some(number))
    };
    match result {
        Err(error) if is_it(&error) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::host::own_namespace::{self, ip};
    use crate::net::routes;

    #[test]
    fn packets_of_a_source_take_its_own_way_and_no_other() {
        if !own_namespace::enter() {
            return;
        }
        for number in 1..=3 {
            ip(&format!("link add d{number} type veth peer name e{number}"));
            ip(&format!("addr add 10.0.{number}.1/24 dev d{number}"));
            ip(&format!("addr add fd00:{number}::1/64 dev d{number} nodad"));
            ip(&format!("link set d{number} up"));
            ip(&format!("link set e{number} up"));
        }
        ip("route add default via 10.0.1.2 dev d1");
        ip("-6 route add default via fd00:1::2 dev d1");
        let device = |name| nix::net::if_::if_nametoindex(name).unwrap();
        let by = |to: &str, source: &str| {
            let (to, source) = (to.parse().unwrap(), source.parse().unwrap());
            routes::device_for(to, source, None).ok()
        };
        let second = |address: &str, length, gateway: &str, table| SourceRoute {
            address: address.parse().unwrap(),
            length,
            device: device("d2"),
            gateway: Some(gateway.parse().unwrap()),
            table,
        };
        for (own, far, near) in [
            (
                second("10.0.2.1", 24, "10.0.2.2", 52_700),
                "203.0.113.1",
                "10.0.3.9",
            ),
            // A router that is in another network.
            (
                second("10.0.2.1", 24, "192.0.2.1", 52_700),
                "203.0.113.1",
                "10.0.3.9",
            ),
            (
                second("fd00:2::1", 64, "fd00:2::2", 52_701),
                "2001:db8:ffff::1",
                "fd00:3::9",
            ),
            (
                second("fd00:2::1", 64, "fe80::1", 52_701),
                "2001:db8:ffff::1",
                "fd00:3::9",
            ),
        ] {
            let source = own.address.to_string();
            assert_eq!(by(far, &source), Some(device("d1")), "{own:?}");
            let before = (rules().unwrap(), routes::all().unwrap());
            own.add().unwrap();
            own.add().unwrap();
            assert_eq!(by(far, &source), Some(device("d2")), "{own:?}");
            assert_eq!(by(near, &source), Some(device("d3")), "{own:?}");
            let now = rules().unwrap();
            for rule in own.rules() {
                let same = now.iter().filter(|one| **one == rule);
                assert_eq!(same.count(), 1, "{now:?}");
            }
            assert!(routes::all().unwrap().contains(&own.default_route()));
            own.remove().unwrap();
            own.remove().unwrap();
            assert_eq!((rules().unwrap(), routes::all().unwrap()), before);
        }
    }
}
