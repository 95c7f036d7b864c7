//! The endpoints of the kernel's path manager, from which it opens subflows: what
//! `ip mptcp endpoint` and `ip mptcp limits` show.
//!
//! They come from the generic netlink family `mptcp_pm` (linux/mptcp_pm.h),
//! whose few messages are read here by hand. The crate mptcp-pm (0.2) needs
//! another version of netlink-proto than rtnetlink does, and can only read.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rtnetlink::packet_core::{
    DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkSerializable,
    NlasIterator, parse_ip, parse_u16, parse_u32,
};
use rtnetlink::sys::protocols::NETLINK_GENERIC;

use super::netlink::{Answer, exchange};

/// The family's name, as an attribute has it.
const FAMILY: &[u8] = b"mptcp_pm\0";
const VERSION: u8 = 1;
const GET_ADDRESSES: u8 = 3;
const GET_LIMITS: u8 = 6;
pub(super) const ATTR_ADDRESS: u16 = 1;
pub(super) const ATTR_ACCEPTED: u16 = 2;
pub(super) const ATTR_SUBFLOWS: u16 = 3;
pub(super) const ADDRESS_ID: u16 = 2;
pub(super) const ADDRESS_V4: u16 = 3;
pub(super) const ADDRESS_V6: u16 = 4;
const ADDRESS_PORT: u16 = 5;
pub(super) const ADDRESS_FLAGS: u16 = 6;
pub(super) const ADDRESS_DEVICE: u16 = 7;

/// The flags of an endpoint.
pub mod flag {
    /// The address is announced to the other end.
    pub const SIGNAL: u32 = 1;
    /// Subflows are opened from the address.
    pub const SUBFLOW: u32 = 2;
    /// Subflows of the address carry only while no other can.
    pub const BACKUP: u32 = 4;
    /// Subflows are opened to each address of the other end.
    pub const FULLMESH: u32 = 8;
    /// The kernel has made the endpoint by itself.
    pub const IMPLICIT: u32 = 16;
}

/// The flags of an endpoint, as `ip mptcp` names them, in its order.
const FLAGS: [(u32, &str); 4] = [
    (flag::SIGNAL, "signal"),
    (flag::SUBFLOW, "subflow"),
    (flag::BACKUP, "backup"),
    (flag::FULLMESH, "fullmesh"),
];

/// The family of the controller, which knows all other families (linux/
/// genetlink.h).
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const ATTR_FAMILY_ID: u16 = 1;
const ATTR_FAMILY_NAME: u16 = 2;

/// The length of `struct genlmsghdr`.
const HEADER: usize = 4;

/// The addresses from which the kernel may open subflows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The addresses of the endpoints with the flag `subflow`.
    pub addresses: Vec<IpAddr>,
    /// How many subflows a connection may have beside its first.
    pub subflows: u32,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address id.
    pub id: u8,
    /// Its address.
    pub address: IpAddr,
    /// The port that it is announced with, if it has one of its own.
    pub port: Option<u16>,
    /// Its flags: bits of [`flag`].
    pub bits: u32,
    /// The ifindex of the device that its subflows are bound to, if one was
    /// given.
    pub device: Option<u32>,
}

impl Endpoint {
    /// Makes one with these flags, as `ip mptcp` names them.
    #[cfg(test)]
    pub fn with_flags(id: u8, address: IpAddr, device: Option<u32>, flags: &str) -> Self {
        let given = |name| flags.split(' ').any(|flag| flag == name);
        let flags = FLAGS.iter().filter(|(_, name)| given(*name));
        Self {
            id,
            address,
            port: None,
            bits: flags.map(|(flag, _)| flag).sum(),
            device,
        }
    }

    /// Returns whether subflows are opened from it.
    pub fn opens_subflows(&self) -> bool {
        self.bits & flag::SUBFLOW != 0
    }

    /// Returns whether the kernel made it by itself.
    pub fn is_implicit(&self) -> bool {
        self.bits & flag::IMPLICIT != 0
    }

    /// Returns its flags as `ip mptcp endpoint add` takes them.
    pub fn flags(&self) -> String {
        let set = FLAGS.iter().filter(|(flag, _)| self.bits & flag != 0);
        let names: Vec<&str> = set.map(|(_, name)| *name).collect();
        names.join(" ")
    }
}

/// All that the kernel's path manager was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// Every endpoint, in the kernel's order.
    pub endpoints: Vec<Endpoint>,
    /// How many subflows a connection may have beside its first.
    pub subflows: u32,
    /// How many addresses that the other end announces a connection may use.
    pub accepted: u32,
}

impl From<Manager> for Endpoints {
    fn from(manager: Manager) -> Self {
        let endpoints = manager.endpoints.iter();
        Self {
            addresses: endpoints
                .filter(|endpoint| endpoint.opens_subflows())
                .map(|endpoint| endpoint.address)
                .collect(),
            subflows: manager.subflows,
        }
    }
}

/// Reads the endpoints of the calling thread's network namespace. `None` if the
/// kernel has no such path manager.
///
/// # Errors
/// The kernel refuses it, or gives an answer that makes no sense.
pub fn read() -> Result<Option<Endpoints>> {
    Ok(read_all()?.map(Into::into))
}

/// Does the same, with all that the path manager was told.
///
/// # Errors
/// The kernel refuses it, or gives an answer that makes no sense.
pub fn read_all() -> Result<Option<Manager>> {
    let failed = || "cannot read the endpoints of the kernel's path manager";
    let Some(family) = family().with_context(failed)? else {
        return Ok(None);
    };
    let ask = |command, flags| {
        let request = Request {
            family,
            command,
            attributes: Vec::new(),
        };
        exchange(NETLINK_GENERIC, request, NLM_F_REQUEST | flags)
    };
    let addresses = ask(GET_ADDRESSES, NLM_F_DUMP).with_context(failed)?;
    let limits = ask(GET_LIMITS, NLM_F_ACK).with_context(failed)?;
    parse(&addresses, &limits).map(Some).with_context(failed)
}

/// Returns the id that this kernel has given the family; `None` if it has none.
///
/// # Errors
/// The kernel refuses it, or gives an answer that makes no sense.
pub(super) fn family() -> Result<Option<u16>> {
    let request = Request {
        family: CONTROLLER,
        command: GET_FAMILY,
        attributes: encode(&[DefaultNla::new(ATTR_FAMILY_NAME, FAMILY.to_vec())]),
    };
    let answers = match exchange(NETLINK_GENERIC, request, NLM_F_REQUEST | NLM_F_ACK) {
        Err(error) if is_missing(&error) => return Ok(None),
        answers => answers?,
    };
    let mut id = None;
    each_attribute(&answers, |kind, value| {
        if kind == ATTR_FAMILY_ID {
            id = Some(parse_u16(value)?);
        }
        Ok(())
    })?;
    id.context("the kernel named no family").map(Some)
}

fn is_missing(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}

/// Puts both answers together. Attributes that newer kernels add are ignored.
fn parse(addresses: &[Answer], limits: &[Answer]) -> Result<Manager> {
    let mut manager = Manager::default();
    each_attribute(addresses, |kind, value| {
        if kind == ATTR_ADDRESS {
            manager.endpoints.extend(endpoint(value)?);
        }
        Ok(())
    })?;
    each_attribute(limits, |kind, value| {
        match kind {
            ATTR_SUBFLOWS => manager.subflows = parse_u32(value)?,
            ATTR_ACCEPTED => manager.accepted = parse_u32(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(manager)
}

/// Reads an endpoint; `None` if it has no address that is known here.
fn endpoint(attributes: &[u8]) -> Result<Option<Endpoint>> {
    let (mut address, mut flags, mut id) = (None, 0, 0);
    let (mut port, mut device) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            ADDRESS_V4 | ADDRESS_V6 => address = Some(parse_ip(value)?.to_canonical()),
            ADDRESS_FLAGS => flags = parse_u32(value)?,
            ADDRESS_ID => id = value.first().copied().unwrap_or(0),
            ADDRESS_PORT => port = Some(parse_u16(value)?).filter(|port| *port != 0),
            ADDRESS_DEVICE => device = Some(parse_u32(value)?).filter(|device| *device != 0),
            _ => {}
        }
    }
    Ok(address.map(|address| Endpoint {
        id,
        address,
        port,
        bits: flags,
        device,
    }))
}

/// Calls `each` with the type and the value of every attribute.
fn each_attribute(
    answers: &[Answer],
    mut each: impl FnMut(u16, &[u8]) -> Result<()>,
) -> Result<()> {
    for answer in answers {
        let attributes = answer.payload.get(HEADER..).unwrap_or_default();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            each(attribute.kind(), attribute.value())?;
        }
    }
    Ok(())
}

/// Returns the attributes as they are sent.
pub(super) fn encode(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// A message to a generic netlink family.
#[derive(Debug)]
pub(super) struct Request {
    /// The id of the family.
    pub(super) family: u16,
    /// The number of the command.
    pub(super) command: u8,
    /// The attributes, as they are sent.
    pub(super) attributes: Vec<u8>,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER);
        header.copy_from_slice(&[self.command, VERSION, 0, 0]);
        attributes.copy_from_slice(&self.attributes);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::process::Command;

    use super::*;
    use crate::host::own_namespace;
    use crate::host::skip::skip;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn answer(attributes: &[Vec<u8>]) -> Answer {
        Answer {
            kind: 30,
            payload: [vec![GET_ADDRESSES, VERSION, 0, 0], attributes.concat()].concat(),
        }
    }

    fn endpoint(address: Vec<u8>, flags: u32) -> Answer {
        let id = attribute(2, &[7]);
        let flags = attribute(ADDRESS_FLAGS, &flags.to_ne_bytes());
        let nested = [id, address, flags, attribute(99, b"new")].concat();
        // The bit says that the attribute contains others.
        answer(&[attribute(ATTR_ADDRESS | 0x8000, &nested)])
    }

    #[test]
    fn endpoints_for_subflows_and_their_limit() {
        let v6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let addresses = [
            endpoint(attribute(ADDRESS_V4, &[10, 0, 0, 1]), flag::SUBFLOW | 4),
            endpoint(attribute(ADDRESS_V6, &v6), flag::SUBFLOW),
            // It is only announced.
            endpoint(attribute(ADDRESS_V4, &[10, 0, 0, 9]), 1),
        ];
        let limits = answer(&[
            attribute(2, &4_u32.to_ne_bytes()),
            attribute(ATTR_SUBFLOWS, &3_u32.to_ne_bytes()),
        ]);
        let expected = Endpoints {
            addresses: vec![[10, 0, 0, 1].into(), v6.into()],
            subflows: 3,
        };
        let manager = parse(&addresses, &[limits]).unwrap();
        assert_eq!(Endpoints::from(manager.clone()), expected);
        assert_eq!((manager.subflows, manager.accepted), (3, 4));
        let shown = manager.endpoints.iter();
        let shown: Vec<_> = shown.map(|one| (one.id, one.flags(), one.device)).collect();
        let expected = ["subflow backup", "subflow", "signal"];
        assert_eq!(shown, expected.map(|flags| (7, flags.to_owned(), None)));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        let short = endpoint(attribute(ADDRESS_V4, &[10, 0]), flag::SUBFLOW);
        assert!(parse(&[short], &[]).is_err());
        let mut cut = endpoint(attribute(ADDRESS_V4, &[10, 0, 0, 1]), flag::SUBFLOW);
        cut.payload.pop();
        assert!(parse(&[cut], &[]).is_err());
        assert_eq!(parse(&[], &[]).unwrap(), Manager::default());
        assert_eq!(
            parse(&[Answer::default()], &[]).unwrap(),
            Manager::default()
        );
    }

    #[test]
    fn the_kernel_and_ip_agree() {
        if !own_namespace::enter() {
            return;
        }
        let Some(none) = read().unwrap() else {
            skip("this kernel has no path manager for MPTCP");
            return;
        };
        assert_eq!(none.addresses, [] as [IpAddr; 0]);
        for arguments in [
            "endpoint add 10.0.0.1 subflow",
            "endpoint add 10.0.0.2 signal",
            "endpoint add fd00::1 subflow backup",
            "limits set subflows 5",
        ] {
            let mut ip = Command::new("ip");
            match ip.arg("mptcp").args(arguments.split(' ')).status() {
                Ok(status) if status.success() => {}
                other => {
                    skip(&format!("ip cannot set endpoints: {other:?}"));
                    return;
                }
            }
        }
        let mut endpoints = read().unwrap().unwrap();
        endpoints.addresses.sort_unstable();
        let expected = Endpoints {
            addresses: vec![[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()],
            subflows: 5,
        };
        assert_eq!(endpoints, expected);
    }
}
