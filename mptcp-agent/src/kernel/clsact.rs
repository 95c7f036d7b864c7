//! The clsact qdisc, to which tc programs attach where the kernel has no tcx
//! (before Linux 6.6).
//!
//! The agent adds it where it is missing. It removes the qdisc again if it
//! added it and nobody else has put a filter on it.

use std::convert::Infallible;

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::tc::{TcError, qdisc_add_clsact};
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

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
        RouteNetlinkMessage::DelQueueDiscipline(message),
        NLM_F_REQUEST | NLM_F_ACK,
    )
    .context("cannot remove the clsact qdisc")?;
    Ok(true)
}

fn has_filter(index: i32, minor: u16) -> Result<bool> {
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor,
    };
    let types = exchange(
        RouteNetlinkMessage::GetTrafficFilter(message),
        NLM_F_REQUEST | NLM_F_DUMP,
    )
    .context("cannot list the filters of the clsact qdisc")?;
    Ok(types.contains(&RTM_NEWTFILTER))
}

/// An answer of which only the type is read. A filter of a kind that
/// netlink-packet-route cannot decode counts as well.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    kind: u16,
}

impl NetlinkDeserializable for Answer {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, _: &[u8]) -> Result<Self, Infallible> {
        let kind = header.message_type;
        Ok(Self { kind })
    }
}

/// Sends a request and returns the types of the messages that answer it.
/// Blocks for as long as the kernel takes.
///
/// The handles of rtnetlink are asynchronous, and programs are detached where no
/// future can be awaited (`Drop`, `mptcp-agent cleanup`), so this uses only its
/// messages.
fn exchange(request: RouteNetlinkMessage, flags: u16) -> Result<Vec<u16>> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut kinds = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if read(&bytes, &mut kinds)? {
            return Ok(kinds);
        }
    }
}

/// Adds the types of the messages of a datagram to `kinds`. Returns whether
/// they end the answer.
fn read(datagram: &[u8], kinds: &mut Vec<u16>) -> Result<bool> {
    ensure!(!datagram.is_empty(), "netlink gave no answer");
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<Answer>::deserialize(rest)
            .context("netlink gave an answer that is cut off")?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            NetlinkPayload::InnerMessage(Answer { kind }) => kinds.push(kind),
            other => bail!("netlink gave an answer of an unexpected kind: {other:?}"),
        }
        let length = message.header.length as usize;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};
    use rtnetlink::packet_core::NetlinkBuffer;

    use super::*;
    use crate::host::skip::skip;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = 16 + payload.len();
        let mut bytes = vec![0; length.next_multiple_of(4)];
        let mut buffer = NetlinkBuffer::new(&mut bytes);
        buffer.set_length(u32::try_from(length).unwrap());
        buffer.set_message_type(kind);
        buffer.payload_mut().copy_from_slice(payload);
        bytes
    }

    #[test]
    fn messages_of_a_datagram_in_order() {
        let mut kinds = Vec::new();
        let two = [message(44, b"abcde"), message(45, b"abcd")].concat();
        assert!(!read(&two, &mut kinds).unwrap());
        assert_eq!(kinds, [44, 45]);
        let last = [message(46, b""), message(3, &[0; 4]), message(47, b"")].concat();
        assert!(read(&last, &mut kinds).unwrap());
        assert_eq!(kinds, [44, 45, 46]);
        // The length of this message contradicts that of the datagram.
        for cut in 0..18 {
            assert!(read(&message(44, b"abcd")[..cut], &mut kinds).is_err());
        }
        assert!(read(&[0; 32], &mut kinds).is_err());
    }

    #[test]
    fn an_error_has_its_number() {
        let read = |payload: &[u8]| read(&message(2, payload), &mut Vec::new());
        assert!(read(&0_i32.to_ne_bytes()).unwrap());
        let text = read(&(-libc::ENODEV).to_ne_bytes())
            .unwrap_err()
            .to_string();
        assert!(text.contains("No such device"), "{text}");
        assert!(read(&[1, 2]).is_err());
    }

    #[test]
    fn the_qdisc_is_removed_unless_it_has_a_filter() {
        // The thread's namespace ends with the thread.
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            skip(&format!("only root may make a namespace: {error}"));
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
            Ok(status) if status.success() => assert!(!remove_if_unused(1).unwrap()),
            other => skip(&format!("tc cannot add a filter: {other:?}")),
        }
    }

    #[test]
    fn a_device_without_filters_lists_none() {
        // Index 1 is lo. Without a clsact qdisc the list is empty.
        assert!(has_filter(1, TcHandle::MIN_EGRESS).is_ok());
    }
}
