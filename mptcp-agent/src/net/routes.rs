//! Asks the kernel which way a packet would leave, and which routes there are. No
//! packet is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Parseable as _};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::netlink::exchange;

/// The kernel's own tables, by number (linux/rtnetlink.h).
pub mod table {
    /// Where routes go unless another table is named.
    pub const MAIN: u32 = 254;
}

/// Addresses for documentation (RFC 5737, RFC 3849), which only a default route
/// leads to. Nothing is sent to them.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1));

/// A route that has a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whether it is for IPv6.
    pub ipv6: bool,
    /// The number of its table.
    pub table: u32,
    /// Whether it is for all addresses.
    pub default: bool,
    /// The router that it leads to, if it has one.
    pub gateway: Option<IpAddr>,
    /// The ifindex of its device.
    pub device: u32,
}

/// Returns an address of the same family that only a default route leads to, and
/// the unspecified address.
pub fn far(family: IpAddr) -> (IpAddr, IpAddr) {
    match family {
        IpAddr::V4(_) => (FAR_V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (FAR_V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    }
}

/// Returns the ifindex of the device by which a packet from `source` to `to`
/// would leave. With `bound_to`, the socket is bound to that device.
///
/// # Errors
/// There is no route, or the kernel cannot be asked.
pub fn device_for(to: IpAddr, source: IpAddr, bound_to: Option<u32>) -> Result<u32> {
    let mut message = RouteMessage::default();
    let (family, length) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.source_prefix_length = length;
    // Without this flag, a socket that is bound to a device without a route gets
    // one all the same: the kernel takes every address for a neighbour then.
    message.header.flags = RouteFlags::FibMatch;
    message.attributes = vec![
        RouteAttribute::Destination(to.into()),
        RouteAttribute::Source(source.into()),
    ];
    message.attributes.extend(bound_to.map(RouteAttribute::Oif));
    let answers = exchange(
        NETLINK_ROUTE,
        RouteNetlinkMessage::GetRoute(message),
        NLM_F_REQUEST | NLM_F_ACK,
    )?;
    let answer = answers.first().context("the kernel named no route")?;
    let answer = RouteMessage::parse(&answer.payload[..])?;
    route(&answer)
        .map(|route| route.device)
        .context("the route has no device")
}

/// Lists the routes of both families in all tables.
///
/// # Errors
/// The kernel cannot be asked.
pub fn all() -> Result<Vec<Route>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let answers = exchange(
            NETLINK_ROUTE,
            RouteNetlinkMessage::GetRoute(message),
            NLM_F_REQUEST | NLM_F_DUMP,
        )
        .context("cannot list the routes")?;
        // A route of a kind that the crate cannot decode is none that matters.
        let routes = answers
            .iter()
            .filter_map(|answer| RouteMessage::parse(&answer.payload[..]).ok());
        found.extend(routes.filter_map(|message| route(&message)));
    }
    Ok(found)
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return None;
    }
    let mut found = Route {
        ipv6: header.address_family == AddressFamily::Inet6,
        table: header.table.into(),
        default: header.destination_prefix_length == 0,
        gateway: None,
        device: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => found.table = *table,
            RouteAttribute::Oif(device) => found.device = *device,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                found.gateway = Some((*gateway).into());
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => {
                found.gateway = Some((*gateway).into());
            }
            _ => {}
        }
    }
    (found.device != 0).then_some(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::host::own_namespace::{self, ip};

    #[test]
    fn a_source_without_a_route_of_its_own_is_told_from_one_with() {
        if !own_namespace::enter() {
            return;
        }
        for (device, address) in [("d1", "10.0.1.1/24"), ("d2", "10.0.2.1/24")] {
            let peer = format!("{device}-peer");
            ip(&format!("link add {device} type veth peer name {peer}"));
            ip(&format!("addr add {address} dev {device}"));
            ip(&format!("link set {device} up"));
            ip(&format!("link set {peer} up"));
        }
        ip("route add default via 10.0.1.2 dev d1");
        let index = |device| nix::net::if_::if_nametoindex(device).unwrap();
        let (first, second) = (index("d1"), index("d2"));
        let far = "203.0.113.1".parse().unwrap();
        let of = |source: &str, bound| device_for(far, source.parse().unwrap(), bound).ok();
        assert_eq!(of("10.0.1.1", None), Some(first));
        assert_eq!(of("10.0.2.1", None), Some(first));
        assert_eq!(of("10.0.2.1", Some(second)), None);
        ip("rule add from 10.0.2.1 table 777");
        ip("route add default via 10.0.2.2 dev d2 table 777");
        assert_eq!(of("10.0.2.1", None), Some(second));
        assert_eq!(of("10.0.2.1", Some(second)), Some(second));
        let expected = Route {
            ipv6: false,
            table: 777,
            default: true,
            gateway: Some("10.0.2.2".parse().unwrap()),
            device: second,
        };
        assert!(all().unwrap().contains(&expected));
    }
}
