//! The clsact qdisc, to which tc programs attach where the kernel has no tcx
//! (before Linux 6.6).
//!
//! The agent adds it where it is missing. It removes the qdisc again if it
//! added it and nobody else has put a filter on it.

use anyhow::{Context as _, Result};
use aya::programs::tc::{TcError, qdisc_add_clsact};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Parseable as _},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
    sys::protocols::NETLINK_ROUTE,
};

use crate::net::netlink::{Answer, exchange};

/// `RTM_NEWTFILTER` (linux/rtnetlink.h).
const RTM_NEWTFILTER: u16 = 44;

/// Makes sure that the device has the qdisc. Returns whether it had to be
/// added.
///
/// # Errors
/// The kernel refuses it, or the device is gone.
pub fn ensure_there(device: &str) -> Result<bool> {
    match qdisc_add_clsact(device) {
        Ok(()) => Ok(true),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
            Ok(false)
        }
        Err(error) => Err(error).context("cannot add the clsact qdisc"),
    }
}

/// Removes the qdisc if there is no filter on it. Returns whether it was
/// removed.
///
/// # Errors
/// The kernel refuses it, or the device is gone.
pub fn remove_if_unused(ifindex: u32) -> Result<bool> {
    let index = i32::try_from(ifindex)?;
    for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
        if has_filter(index, minor)? {
            return Ok(false);
        }
    }
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    // If another qdisc has taken its place, this name makes the kernel refuse.
    message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
    exchange(
        NETLINK_ROUTE,
        RouteNetlinkMessage::DelQueueDiscipline(message),
        NLM_F_REQUEST | NLM_F_ACK,
    )
    .context("cannot remove the clsact qdisc")?;
    Ok(true)
}

/// A filter of the qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its priority: lower ones run first.
    pub priority: u16,
    /// The name of its BPF program, or else its kind.
    pub name: String,
}

/// Lists the filters of one side of a device in the order in which they run.
/// Without the qdisc there are none.
///
/// # Errors
/// The kernel refuses it, or the device is gone.
pub fn filters(ifindex: u32, ingress: bool) -> Result<Vec<Filter>> {
    let minor = match ingress {
        true => TcHandle::MIN_INGRESS,
        false => TcHandle::MIN_EGRESS,
    };
    let mut found = Vec::new();
    for answer in list(i32::try_from(ifindex)?, minor)? {
        let message = TcMessage::parse(&answer.payload[..])?;
        // The upper half is the priority, the lower one the protocol.
        let priority = (message.header.info >> 16) as u16;
        let (mut kind, mut name, mut is_whole) = (String::new(), None, false);
        for attribute in message.attributes {
            match attribute {
                TcAttribute::Kind(text) => kind = text,
                TcAttribute::Options(options) => {
                    is_whole = true;
                    name = options.into_iter().find_map(|option| match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        // Some kinds have a head without options, beside the filters themselves.
        if is_whole {
            let name = name.unwrap_or(kind);
            found.push(Filter { priority, name });
        }
    }
    found.sort_by_key(|filter| filter.priority);
    Ok(found)
}

fn has_filter(index: i32, minor: u16) -> Result<bool> {
    // A filter of a kind that netlink-packet-route cannot decode counts as well,
    // so only the types of the messages are read.
    Ok(!list(index, minor)?.is_empty())
}

/// Asks for the filters of one side of a device.
fn list(index: i32, minor: u16) -> Result<Vec<Answer>> {
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor,
    };
    let mut answers = exchange(
        NETLINK_ROUTE,
        RouteNetlinkMessage::GetTrafficFilter(message),
        NLM_F_REQUEST | NLM_F_DUMP,
    )
    .context("cannot list the filters of the clsact qdisc")?;
    answers.retain(|answer| answer.kind == RTM_NEWTFILTER);
    Ok(answers)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::process::Command;

    use super::*;
    use crate::host::own_namespace;
    use crate::host::skip::skip;

    #[test]
    fn the_qdisc_is_removed_unless_it_has_a_filter() {
        if !own_namespace::enter() {
            return;
        }
        assert!(ensure_there("lo").unwrap());
        assert!(!ensure_there("lo").unwrap());
        assert!(remove_if_unused(1).unwrap());
        let error = format!("{:#}", remove_if_unused(1).unwrap_err());
        assert!(error.contains("the clsact qdisc: "), "{error}");

        assert!(ensure_there("lo").unwrap());
        // A classic BPF program that returns 0.
        let mut add = Command::new("tc");
        add.args("filter add dev lo egress bpf bytecode".split(' '));
        match add.arg("1,6 0 0 0").status() {
            Ok(status) if status.success() => {
                assert!(!remove_if_unused(1).unwrap());
                let egress = filters(1, false).unwrap();
                assert_eq!(egress.len(), 1, "{egress:?}");
                // One of classic BPF has no name of its own.
                assert_eq!(egress[0].name, "bpf");
                assert!(egress[0].priority > 0);
                assert_eq!(filters(1, true).unwrap(), []);
            }
            other => skip(&format!("tc cannot add a filter: {other:?}")),
        }
    }

    #[test]
    fn a_device_without_filters_lists_none() {
        // Index 1 is lo. Without a clsact qdisc the list is empty.
        assert!(has_filter(1, TcHandle::MIN_EGRESS).is_ok());
    }
}
