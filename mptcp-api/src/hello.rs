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
//! Version 3 is for agents that ask each other for weights, or answer such a wish
//! ([`crate::wish`]). Its messages have the same body, with a block behind it:
//!
//! ```text
//! 105  block    of a hello: the wish; of an answer: what has become of it
//! 252  tag
//! 268
//! ```
//!
//! The versions do not mix: an agent that speaks both keeps what it learns by one
//! apart from what it learns by the other, because only version 2 says that the
//! sender takes copies. An agent that knows version 2 only drops version 3.
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

/// First byte of every message that has a block: version 3.
pub const BLOCK_VERSION: u8 = HELLO_NIBBLE << 4 | 3;

/// Length of the block, bytes.
pub const BLOCK: usize = 147;

/// Length of a message that has a block, bytes.
pub const LENGTH_WITH_BLOCK: usize = BODY + BLOCK + TAG;

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
    /// Returns the bytes that come before the tag in a message of version 3.
    #[must_use]
    pub fn body_with(&self, block: &[u8; BLOCK]) -> Vec<u8> {
        let mut body = self.body();
        body[0] = BLOCK_VERSION;
        body.extend(block);
        body
    }

    /// Returns the [`BODY`] bytes that come before the tag in a message of version
    /// 2.
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
    /// The block, of a message of version 3.
    pub block: Option<&'a [u8; BLOCK]>,
    /// The tag.
    pub tag: &'a [u8; TAG],
}

/// Returns whether a datagram has the first byte and the length of a message.
/// This is a cheap check before [`decode`].
#[must_use]
pub fn may_be_a_message(datagram: &[u8]) -> bool {
    datagram.len() == LENGTH && datagram.first() == Some(&VERSION)
}

/// Does what [`may_be_a_message`] does, for messages of version 3.
#[must_use]
pub fn may_have_a_block(datagram: &[u8]) -> bool {
    datagram.len() == LENGTH_WITH_BLOCK && datagram.first() == Some(&BLOCK_VERSION)
}

/// Decodes a datagram of version 3. Returns `None` unless it is exactly what
/// [`Message::body_with`] makes of a message, followed by a tag. What the block
/// says is not looked at.
#[must_use]
pub fn decode_with_block(datagram: &[u8]) -> Option<Received<'_>> {
    let (body, tag) = datagram.split_last_chunk::<TAG>()?;
    let (message, block) = body.split_last_chunk::<BLOCK>()?;
    let message = read(message, BLOCK_VERSION)?;
    Some(Received {
        message,
        body,
        block: Some(block),
        tag,
    })
}

/// Decodes a datagram of version 2. Returns `None` unless it is exactly what
/// [`Message::body`] makes of a message, followed by a tag.
#[must_use]
pub fn decode(datagram: &[u8]) -> Option<Received<'_>> {
    let (body, tag) = datagram.split_last_chunk::<TAG>()?;
    let message = read(body, VERSION)?;
    Some(Received {
        message,
        body,
        block: None,
        tag,
    })
}

/// Reads a message of this version, which is all of `body`.
fn read(body: &[u8], version: u8) -> Option<Message> {
    let mut rest = Reader(body);
    if rest.take()? != [version] {
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
    rest.0.is_empty().then_some(message)
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
mod tests;
