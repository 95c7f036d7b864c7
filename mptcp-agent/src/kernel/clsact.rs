//! The clsact qdisc, to which tc programs attach where the kernel has no tcx
//! (before Linux 6.6).
//!
//! The agent adds it where it is missing. It removes the qdisc again if it
//! added it and nobody else has put a filter on it.

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::tc::{TcError, qdisc_add_clsact};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Types of netlink messages (linux/netlink.h, linux/rtnetlink.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWTFILTER: u16 = 44;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

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

/// Sends a request and returns the types of the messages that answer it.
/// Blocks for as long as the kernel takes.
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
    let mut types = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        ensure!(!bytes.is_empty(), "netlink gave no answer");
        for (kind, payload) in Messages(&bytes) {
            match kind {
                NLMSG_DONE => return Ok(types),
                NLMSG_ERROR => return error(payload).map(|()| types),
                kind => types.push(kind),
            }
        }
    }
}

/// Reads what an NLMSG_ERROR says; 0 is an acknowledgement.
fn error(payload: &[u8]) -> Result<()> {
    let code = payload.first_chunk().copied().map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(std::io::Error::from_raw_os_error(-code).into()),
        None => bail!("netlink gave an answer that is cut off"),
    }
}

/// The messages of a datagram: type and payload.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + payload.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_of_a_datagram_in_order() {
        let bytes = [message(44, b"abcde"), message(3, &[0; 4])].concat();
        let found: Vec<_> = Messages(&bytes).collect();
        assert_eq!(found, [(44, &b"abcde"[..]), (3, &[0; 4])]);
        for cut in 0..HEADER {
            assert_eq!(Messages(&bytes[..cut]).next(), None);
        }
        // The length of this message contradicts that of the datagram.
        assert_eq!(Messages(&message(44, b"abcd")[..18]).next(), None);
        assert_eq!(Messages(&[0; 32]).next(), None);
    }

    #[test]
    fn an_error_has_its_number() {
        assert!(error(&0_i32.to_ne_bytes()).is_ok());
        let text = error(&(-libc::ENODEV).to_ne_bytes()).map_err(|error| error.to_string());
        assert!(text.is_err_and(|text| text.contains("No such device")));
        assert!(error(&[1, 2]).is_err());
    }

    #[test]
    fn a_device_without_filters_lists_none() {
        // Index 1 is lo. Without a clsact qdisc the list is empty.
        assert!(has_filter(1, TcHandle::MIN_EGRESS).is_ok());
    }
}
