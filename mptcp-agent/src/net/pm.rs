//! Changes the endpoints and limits of the kernel's path manager, as
//! `ip mptcp endpoint` and `ip mptcp limits` do.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rtnetlink::packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST};
use rtnetlink::sys::protocols::NETLINK_GENERIC;

use super::endpoints::{
    ADDRESS_DEVICE, ADDRESS_FLAGS, ADDRESS_ID, ADDRESS_V4, ADDRESS_V6, ATTR_ACCEPTED, ATTR_ADDRESS,
    ATTR_SUBFLOWS, Endpoint, Request, encode, family,
};
use super::netlink::exchange;

const ADD_ADDRESS: u8 = 1;
const DELETE_ADDRESS: u8 = 2;
const SET_LIMITS: u8 = 5;
const SET_FLAGS: u8 = 7;
/// The attribute with the address family, `AF_INET` or `AF_INET6`.
const ADDRESS_FAMILY: u16 = 1;

/// The most endpoints, and the most subflows beside the first, that the kernel
/// allows (`MPTCP_PM_ADDR_MAX`).
pub const MOST: u32 = 8;

/// Adds an endpoint. With the id 0 the kernel chooses one, which takes the place
/// of an implicit endpoint that has the address. Each open connection gets the
/// subflows that it lacks.
///
/// # Errors
/// The kernel refuses it: the id or the address is another endpoint's, or there
/// are [`MOST`] already.
pub fn add(endpoint: &Endpoint) -> Result<()> {
    let mut attributes = address(endpoint.address);
    if endpoint.id != 0 {
        attributes.push(DefaultNla::new(ADDRESS_ID, vec![endpoint.id]));
    }
    attributes.push(number(ADDRESS_FLAGS, endpoint.bits));
    let device = endpoint.device.map(|device| number(ADDRESS_DEVICE, device));
    attributes.extend(device);
    change(ADD_ADDRESS, &[nested(&attributes)])
        .with_context(|| format!("cannot add the endpoint {}", endpoint.address))
}

/// Removes an endpoint, and closes the subflows of its address.
///
/// # Errors
/// The kernel refuses it: there is no such endpoint.
pub fn remove(endpoint: &Endpoint) -> Result<()> {
    let mut attributes = address(endpoint.address);
    attributes.push(DefaultNla::new(ADDRESS_ID, vec![endpoint.id]));
    change(DELETE_ADDRESS, &[nested(&attributes)])
        .with_context(|| format!("cannot remove the endpoint {}", endpoint.address))
}

/// Sets whether an endpoint is a backup; the other flags must be those that it
/// has. The other ends of open connections are told.
///
/// # Errors
/// The kernel refuses it: there is no such endpoint.
pub fn set_flags(endpoint: &Endpoint) -> Result<()> {
    let attributes = [
        DefaultNla::new(ADDRESS_ID, vec![endpoint.id]),
        number(ADDRESS_FLAGS, endpoint.bits),
    ];
    change(SET_FLAGS, &[nested(&attributes)])
        .with_context(|| format!("cannot change the endpoint {}", endpoint.address))
}

/// Sets how many subflows a connection may have beside its first, at most
/// [`MOST`], and how many announced addresses it may use.
///
/// # Errors
/// The kernel refuses it.
pub fn set_limits(subflows: u32, accepted: u32) -> Result<()> {
    // Older kernels need both.
    let limits = [
        number(ATTR_ACCEPTED, accepted),
        number(ATTR_SUBFLOWS, subflows),
    ];
    change(SET_LIMITS, &limits).context("cannot set the limits of the kernel's path manager")
}

fn change(command: u8, attributes: &[DefaultNla]) -> Result<()> {
    let family = family()?.context("this kernel has no path manager for MPTCP")?;
    let request = Request {
        family,
        command,
        attributes: encode(attributes),
    };
    exchange(NETLINK_GENERIC, request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

fn nested(attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(ATTR_ADDRESS | NLA_F_NESTED, encode(attributes))
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn address(address: IpAddr) -> Vec<DefaultNla> {
    let (family, kind, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, ADDRESS_V4, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, ADDRESS_V6, address.octets().to_vec()),
    };
    let family = (family as u16).to_ne_bytes().to_vec();
    vec![
        DefaultNla::new(ADDRESS_FAMILY, family),
        DefaultNla::new(kind, bytes),
    ]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::host::own_namespace;
    use crate::host::skip::skip;
    use crate::net::endpoints;

    #[test]
    fn the_kernel_takes_endpoints_flags_and_limits() {
        if !own_namespace::enter() {
            return;
        }
        if endpoints::read_all().unwrap().is_none() {
            skip("this kernel has no path manager for MPTCP");
            return;
        }
        let mut first = Endpoint::with_flags(7, [10, 0, 0, 1].into(), Some(1), "subflow fullmesh");
        let second = Endpoint::with_flags(9, "fd00::1".parse().unwrap(), None, "signal backup");
        add(&first).unwrap();
        add(&second).unwrap();
        let all = || endpoints::read_all().unwrap().unwrap();
        assert_eq!(all().endpoints, [first.clone(), second.clone()]);
        let text = format!("{:#}", add(&first).unwrap_err());
        assert!(text.contains("cannot add the endpoint 10.0.0.1"), "{text}");

        first.bits |= endpoints::flag::BACKUP;
        set_flags(&first).unwrap();
        assert_eq!(all().endpoints, [first.clone(), second.clone()]);
        set_limits(5, 3).unwrap();
        assert_eq!((all().subflows, all().accepted), (5, 3));
        assert!(set_limits(MOST + 1, 0).is_err());

        remove(&first).unwrap();
        assert_eq!(all().endpoints, [second]);
        assert!(remove(&first).is_err());
    }
}
