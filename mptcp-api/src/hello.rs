//! The layout of hellos and answers.
//!
//! ```text
//!   0  version   nibble of a hello (no IP version), protocol version 2
//!   1  kind      1 hello, 2 answer, 3 answer to a proven peer
//!   2  sender    agent id, not 0
//!  10  token     of the receiver's end of the connection (RFC 8684, 3.2)
//!  14  nonce     not 0
//!  22  echo      a nonce that the receiver sent; 0: none
//!  30  local     the subflow as the sender has it: addresses (IPv4 mapped),
//!  46  remote
//!  62  ports     local, remote
//!  66  ids       1 if the two address ids that follow are known, else 0 0 0
//!  69  timing    the sender's clock (us), then about the last message that the
//!                sender received over this channel: that message's clock, the
//!                sender's clock at its arrival, and the number of datagrams
//!                (copies and messages) that had arrived by then; 0 0 0: none
//! 101  device    the sender's device, in the sender's numbers; 0: not known
//! 105  tag       HMAC of all bytes before it
//! 121
//! ```
//!
//! Numbers are big endian. The kind also tells the direction: only the client's
//! side of a connection sends hellos, and only the server's side answers. So a
//! datagram that is reflected to its sender is invalid there.

use std::num::NonZeroU64;

use mptcp_common::abi::redundant::HELLO_NIBBLE;

/// First byte of every message: its nibble and the protocol's version, 2.
pub const VERSION: u8 = HELLO_NIBBLE << 4 | 2;

/// Length of the part that the tag covers, bytes.
pub const BODY: usize = 105;

/// Length of the tag, bytes: the first half of an HMAC-SHA256.
pub const TAG: usize = 16;

/// Length of a message, bytes. All messages are equally long, so an answer is
/// never longer than its hello.
pub const LENGTH: usize = BODY + TAG;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sent by the connection's client.
    Hello,
    /// Sent by its server while the client is not proven: the server waits for
    /// its nonce to come back.
    Answer,
    /// Sent by its server once the client is proven.
    Settled,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Hello),
            2 => Some(Self::Answer),
            3 => Some(Self::Settled),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Answer => 2,
            Self::Settled => 3,
        }
    }
}

/// Address ids of a subflow's ends (RFC 8684, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The id of the sender's end.
    pub local: u8,
    /// The id of the receiver's end.
    pub remote: u8,
}

/// A subflow as the sender has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The sender's address; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// The receiver's address, likewise.
    pub remote: [u8; 16],
    /// The sender's port.
    pub local_port: u16,
    /// The receiver's port.
    pub remote_port: u16,
    /// The address ids, if the sender's kernel lets the agent read them.
    pub ids: Option<Ids>,
}

/// Data about the delays and losses of a channel. Each sender uses its own
/// clock, in microseconds, which starts at any value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The sender's clock when it sent this message.
    pub sent_us: u64,
    /// `sent_us` of the last message that the sender got from the receiver; 0:
    /// none yet.
    pub heard_us: u64,
    /// The sender's clock when that message arrived.
    pub heard_at_us: u64,
    /// Number of datagrams (copies and messages) that had arrived at the sender
    /// by then, that message included.
    pub arrived: u64,
}

/// A message without its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// The sender's agent id.
    pub sender: NonZeroU64,
    /// Token of the receiver's end of the connection.
    pub token: u32,
    /// A new nonce, which the receiver sends back.
    pub nonce: NonZeroU64,
    /// A nonce that the receiver sent; 0: none.
    pub echo: u64,
    /// The subflow that it is about.
    pub ends: Ends,
    /// Delays and losses of the channel that it goes over.
    pub timing: Timing,
    /// The sender's device on this channel; 0: not known. Channels that share a
    /// device fail together.
    pub device: u32,
}

impl Message {
    /// Returns the [`BODY`] bytes that come before the tag.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let ends = &self.ends;
        let ids = ends.ids.map_or([0, 0, 0], |ids| [1, ids.local, ids.remote]);
        let mut body = Vec::with_capacity(LENGTH);
        body.extend([VERSION, self.kind.byte()]);
        body.extend(self.sender.get().to_be_bytes());
        body.extend(self.token.to_be_bytes());
        body.extend(self.nonce.get().to_be_bytes());
        body.extend(self.echo.to_be_bytes());
        body.extend(ends.local);
        body.extend(ends.remote);
        body.extend(ends.local_port.to_be_bytes());
        body.extend(ends.remote_port.to_be_bytes());
        body.extend(ids);
        let timing = &self.timing;
        body.extend(timing.sent_us.to_be_bytes());
        body.extend(timing.heard_us.to_be_bytes());
        body.extend(timing.heard_at_us.to_be_bytes());
        body.extend(timing.arrived.to_be_bytes());
        body.extend(self.device.to_be_bytes());
        body
    }
}

/// A message as received. Its tag is not checked yet.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The decoded message.
    pub message: Message,
    /// The bytes that the tag covers.
    pub body: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; TAG],
}

/// Returns whether a datagram has the first byte and the length of a message.
/// This is a cheap check before [`decode`].
#[must_use]
pub fn may_be_a_message(datagram: &[u8]) -> bool {
    datagram.len() == LENGTH && datagram.first() == Some(&VERSION)
}

/// Decodes a datagram. Returns `None` unless it is exactly what
/// [`Message::body`] makes of a message, followed by a tag.
#[must_use]
pub fn decode(datagram: &[u8]) -> Option<Received<'_>> {
    let (body, tag) = datagram.split_last_chunk::<TAG>()?;
    let mut rest = Reader(body);
    if rest.take()? != [VERSION] {
        return None;
    }
    let [kind] = rest.take()?;
    let message = Message {
        kind: Kind::from_byte(kind)?,
        sender: NonZeroU64::new(u64::from_be_bytes(rest.take()?))?,
        token: u32::from_be_bytes(rest.take()?),
        nonce: NonZeroU64::new(u64::from_be_bytes(rest.take()?))?,
        echo: u64::from_be_bytes(rest.take()?),
        ends: Ends {
            local: rest.take()?,
            remote: rest.take()?,
            local_port: u16::from_be_bytes(rest.take()?),
            remote_port: u16::from_be_bytes(rest.take()?),
            ids: match rest.take()? {
                [0, 0, 0] => None,
                [1, local, remote] => Some(Ids { local, remote }),
                _ => return None,
            },
        },
        timing: Timing {
            sent_us: u64::from_be_bytes(rest.take()?),
            heard_us: u64::from_be_bytes(rest.take()?),
            heard_at_us: u64::from_be_bytes(rest.take()?),
            arrived: u64::from_be_bytes(rest.take()?),
        },
        device: u32::from_be_bytes(rest.take()?),
    };
    rest.0.is_empty().then_some(Received { message, body, tag })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn datagram(message: &Message, tag: [u8; TAG]) -> Vec<u8> {
        let mut datagram = message.body();
        datagram.extend(tag);
        datagram
    }

    fn example() -> Message {
        Message {
            kind: Kind::Hello,
            sender: NonZeroU64::new(0x0102_0304_0506_0708).unwrap(),
            token: 0x090a_0b0c,
            nonce: NonZeroU64::new(0x0d0e_0f10_1112_1314).unwrap(),
            echo: 0x1516_1718_191a_1b1c,
            ends: Ends {
                local: std::array::from_fn(|at| 0x1d + at as u8),
                remote: std::array::from_fn(|at| 0x2d + at as u8),
                local_port: 0x3d3e,
                remote_port: 0x3f40,
                ids: Some(Ids {
                    local: 0x41,
                    remote: 0x42,
                }),
            },
            timing: Timing {
                sent_us: 0x4344_4546_4748_494a,
                heard_us: 0x4b4c_4d4e_4f50_5152,
                heard_at_us: 0x5354_5556_5758_595a,
                arrived: 0x5b5c_5d5e_5f60_6162,
            },
            device: 0x6364_6566,
        }
    }

    #[test]
    fn the_layout_is_the_drawn_one() {
        let bytes = datagram(&example(), [0xee; TAG]);
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(bytes[..2], [0xa2, 1]);
        // The bytes of the fields count up from 1, except for the byte that
        // says "ids known".
        let ids = [1, 0x41, 0x42];
        let counted: Vec<u8> = (1..=0x40).chain(ids).chain(0x43..=0x66).collect();
        assert_eq!(bytes[2..BODY], counted);
        assert_eq!(bytes[BODY..], [0xee; TAG]);
    }

    #[test]
    fn what_no_encoder_makes_is_refused() {
        let good = datagram(&example(), [7; TAG]);
        assert!(decode(&good).is_some());
        let with = |at: usize, bytes: &[u8]| {
            let mut datagram = good.clone();
            datagram[at..at + bytes.len()].copy_from_slice(bytes);
            datagram
        };
        for (what, bad) in [
            ("IPv4", with(0, &[0x45])),
            ("another version", with(0, &[0xa1])),
            ("kind 0", with(1, &[0])),
            ("kind 4", with(1, &[4])),
            ("agent id 0", with(2, &[0; 8])),
            ("nonce 0", with(14, &[0; 8])),
            ("ids neither known nor not", with(66, &[2])),
            ("ids both unknown and given", with(66, &[0, 0, 1])),
            ("longer", [good.as_slice(), &[0]].concat()),
        ] {
            assert!(decode(&bad).is_none(), "{what}");
        }
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_none(), "{length} bytes");
        }
    }

    fn messages() -> impl Strategy<Value = Message> {
        let kind = prop_oneof![Just(Kind::Hello), Just(Kind::Answer), Just(Kind::Settled)];
        let ids = prop::option::of(any::<(u8, u8)>());
        let ends = (any::<([u8; 16], [u8; 16], u16, u16)>(), ids).prop_map(
            |((local, remote, local_port, remote_port), ids)| Ends {
                local,
                remote,
                local_port,
                remote_port,
                ids: ids.map(|(local, remote)| Ids { local, remote }),
            },
        );
        let numbers = any::<(NonZeroU64, u32, NonZeroU64, u64)>();
        let timing =
            any::<[u64; 4]>().prop_map(|[sent_us, heard_us, heard_at_us, arrived]| Timing {
                sent_us,
                heard_us,
                heard_at_us,
                arrived,
            });
        let message = (kind, numbers, ends, timing, any::<u32>());
        message.prop_map(|(kind, numbers, ends, timing, device)| {
            let (sender, token, nonce, echo) = numbers;
            Message {
                kind,
                sender,
                token,
                nonce,
                echo,
                ends,
                timing,
                device,
            }
        })
    }

    proptest! {
        #[test]
        fn a_message_survives_the_way(message in messages(), tag in any::<[u8; TAG]>()) {
            let bytes = datagram(&message, tag);
            prop_assert_eq!(bytes.len(), LENGTH);
            let received = decode(&bytes).unwrap();
            prop_assert_eq!(received.message, message);
            prop_assert_eq!(received.tag, &tag);
        }

        #[test]
        fn what_is_read_would_be_written_the_same(
            message in messages(),
            changes in prop::collection::vec((0..LENGTH, any::<u8>()), 0..4),
            length in 0..LENGTH + 2,
        ) {
            let mut bytes = datagram(&message, [0; TAG]);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.resize(length.max(LENGTH - 1), 0);
            if let Some(received) = decode(&bytes) {
                prop_assert_eq!(datagram(&received.message, *received.tag), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(received) = decode(&bytes) {
                prop_assert_eq!(datagram(&received.message, *received.tag), bytes);
            }
        }
    }
}
