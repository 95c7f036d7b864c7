//! Asks the kernel over netlink, and waits for the answer.
//!
//! The handles of rtnetlink are asynchronous, and some requests are made where
//! no future can be awaited: programs are detached in `Drop` and in
//! `mptcp-agent cleanup`. So this uses only its messages and its socket.

use std::convert::Infallible;

use anyhow::{Context as _, Result, bail, ensure};
use rtnetlink::packet_core::{
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};

/// A message of an answer, not decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The type of the message.
    pub kind: u16,
    /// The bytes after the netlink header.
    pub payload: Vec<u8>,
}

impl NetlinkDeserializable for Answer {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self {
            kind: header.message_type,
            payload: payload.to_vec(),
        })
    }
}

/// Sends a request and returns the messages that answer it. Blocks for as long
/// as the kernel takes. `flags` must ask for an end of the answer: NLM_F_ACK or
/// NLM_F_DUMP.
///
/// # Errors
/// The kernel refuses the request (the error then contains its number), or the
/// answer is malformed.
pub fn exchange(
    protocol: isize,
    request: impl NetlinkSerializable,
    flags: u16,
) -> Result<Vec<Answer>> {
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(request),
    );
    message.header.flags = flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if read(&bytes, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Adds the messages of a datagram to `answers`. Returns whether they end the
/// answer.
fn read(datagram: &[u8], answers: &mut Vec<Answer>) -> Result<bool> {
    ensure!(!datagram.is_empty(), "netlink gave no answer");
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<Answer>::deserialize(rest)
            .context("netlink gave an answer that is cut off")?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
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

    use rtnetlink::packet_core::NetlinkBuffer;

    use super::*;

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
        let mut answers = Vec::new();
        let kinds = |answers: &[Answer]| -> Vec<u16> {
            let kinds = answers.iter().map(|answer| answer.kind);
            kinds.collect()
        };
        let two = [message(44, b"abcde"), message(45, b"abcd")].concat();
        assert!(!read(&two, &mut answers).unwrap());
        assert_eq!(kinds(&answers), [44, 45]);
        assert_eq!(answers[0].payload, b"abcde");
        let last = [message(46, b""), message(3, &[0; 4]), message(47, b"")].concat();
        assert!(read(&last, &mut answers).unwrap());
        assert_eq!(kinds(&answers), [44, 45, 46]);
        // The length of this message contradicts that of the datagram.
        for cut in 0..18 {
            assert!(read(&message(44, b"abcd")[..cut], &mut answers).is_err());
        }
        assert!(read(&[0; 32], &mut answers).is_err());
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
}
